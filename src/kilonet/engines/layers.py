"""A model's layers in the terms of the native engine's kernels."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int32, c_int64
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kilonet.models import Classifier
from kilonet.zoo import Linear, LinearFromScratch

if TYPE_CHECKING:
    from collections.abc import Iterator

CONV, NORM, RELU, MAX_POOL, AVG_POOL, FLATTEN = range(6)


class UnsupportedError(Exception):
    """What the kernels can't compute, in words that end `the native engine has no ...`."""


class Layer(Structure):
    """A layer, as `KnLayer` of `kernels/interface.h` has it."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "relu", "c", "h", "w", "oc", "oh", "ow", "kh", "kw", "sh", "sw")),
        *((name, c_int32) for name in ("ph", "pw", "groups", "weight", "bias", "norm")),
        ("out_stride", c_int64),
        ("in_stride", c_int64),
        ("eps", c_double),
        ("momentum", c_double),
    )


class Plan:
    """The layers of a model in the kernels' terms."""

    def __init__(self, model: Classifier) -> None:
        self.model, self.norms = model, list[nn.BatchNorm2d]()
        self.made: list[Layer] = []
        self.shape: tuple[int, int, int] = model.shape
        self.flat = False
        self.index = {id(p): i for i, p in enumerate(model.parameters())}

    def layers(self) -> tuple[list[Layer], list[nn.BatchNorm2d]]:
        """The layers, and which modules the norms are.

        Raises:
            UnsupportedError: if there is anything that the kernels don't know.
        """
        if type(self.model) is not Classifier:
            raise UnsupportedError("net that takes raw pixels itself")
        parameters = list(self.model.parameters())
        for p in (*parameters, self.model.mean):
            if p.device.type != "cpu" or p.dtype not in (torch.float32, torch.float64) or not p.is_contiguous():
                raise UnsupportedError(f"parameters of {p.dtype} on {p.device.type}")
        if not parameters or not all(p.requires_grad and p.dtype == parameters[0].dtype for p in parameters):
            raise UnsupportedError("frozen parameters")
        for module in _flattened(self.model.net):
            self._add(module)
        used = [i for layer in self.made for i in (layer.weight, layer.bias) if i >= 0]
        if sorted(used) != list(range(len(parameters))):
            raise UnsupportedError("parameters that layers share")
        if not self.flat or self.shape != (len(self.model.classes), 1, 1):
            raise UnsupportedError(f"logits of shape {self.shape}")
        return self.made, self.norms

    def _add(self, module: nn.Module) -> None:
        kind = type(module)
        handlers: dict[type, Any] = {
            nn.Conv2d: self._conv, nn.BatchNorm2d: self._norm, nn.ReLU: self._relu, nn.MaxPool2d: self._pool,
            nn.AvgPool2d: self._pool, nn.AdaptiveAvgPool2d: self._global, nn.AdaptiveMaxPool2d: self._global,
            nn.Flatten: self._flatten, nn.Linear: self._linear, Linear: self._linear,
            LinearFromScratch: self._from_scratch,
        }  # fmt: skip
        if kind not in handlers:
            raise UnsupportedError(f"layer {kind.__name__}")
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise UnsupportedError("hooks")
        handlers[kind](module)

    def _put(self, kind: int, out: tuple[int, int, int], **fields: Any) -> None:
        if min(out) < 1:
            raise UnsupportedError(f"map of shape {out}")
        channels, height, width = self.shape
        given = {"kh": 1, "kw": 1, "sh": 1, "sw": 1, "groups": 1, "weight": -1, "bias": -1, "norm": -1, **fields}
        layer = Layer(kind=kind, c=channels, h=height, w=width, oc=out[0], oh=out[1], ow=out[2], **given)
        self.made.append(layer)
        self.shape = out

    def _parameter(self, value: Tensor | None) -> int:
        return -1 if value is None else self.index[id(value)]

    def _conv(self, m: nn.Conv2d) -> None:
        if m.dilation != (1, 1) or m.padding_mode != "zeros" or isinstance(m.padding, str):
            raise UnsupportedError("dilated or unevenly padded convolution")
        channels, height, width = self.shape
        if m.in_channels != channels or self.flat:
            raise UnsupportedError("convolution of such a map")
        (kh, kw), (sh, sw), (ph, pw) = m.kernel_size, m.stride, m.padding
        out = (m.out_channels, (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1)
        sizes = {"kh": kh, "kw": kw, "sh": sh, "sw": sw, "ph": ph, "pw": pw, "groups": m.groups}
        places = {"out_stride": channels // m.groups * kh * kw, "in_stride": 1}
        self._put(CONV, out, weight=self._parameter(m.weight), bias=self._parameter(m.bias), **sizes, **places)

    def _dense(self, inputs: int, outputs: int, weight: Tensor, bias: Tensor | None, **places: int) -> None:
        if not self.flat or self.shape[0] != inputs:
            raise UnsupportedError("linear layer over such a map")
        self._put(CONV, (outputs, 1, 1), weight=self._parameter(weight), bias=self._parameter(bias), **places)

    def _linear(self, m: nn.Linear) -> None:
        if type(m) is Linear:
            self._flatten(None)
        self._dense(m.in_features, m.out_features, m.weight, m.bias, out_stride=m.in_features, in_stride=1)

    def _from_scratch(self, m: LinearFromScratch) -> None:
        self._flatten(None)
        inputs, outputs = m.weights.shape
        self._dense(inputs, outputs, m.weights, m.bias, out_stride=1, in_stride=outputs)

    def _norm(self, m: nn.BatchNorm2d) -> None:
        channels, height, width = self.shape
        if m.momentum is None or m.running_mean is None or not m.affine or m.num_features != channels:
            raise UnsupportedError("batch norm without weights or running statistics")
        if self.flat or height * width == 1:
            raise UnsupportedError("batch norm over single values")
        scale, shift = self._parameter(m.weight), self._parameter(m.bias)
        self._put(NORM, self.shape, weight=scale, bias=shift, norm=len(self.norms), eps=m.eps, momentum=m.momentum)
        self.norms.append(m)

    def _relu(self, _: nn.ReLU) -> None:
        if self.made and self.made[-1].kind in (CONV, NORM):
            self.made[-1].relu = 1
        else:
            self._put(RELU, self.shape)

    def _pool(self, m: nn.MaxPool2d | nn.AvgPool2d) -> None:
        (kh, kw), (sh, sw) = _pair(m.kernel_size), _pair(m.stride)
        plain = _pair(m.padding) == (0, 0) and not m.ceil_mode
        if isinstance(m, nn.MaxPool2d):
            plain = plain and _pair(m.dilation) == (1, 1) and not m.return_indices
        elif m.divisor_override is not None:
            plain = False
        if not plain or self.flat:
            raise UnsupportedError("padded or dilated pooling")
        channels, height, width = self.shape
        kind = MAX_POOL if isinstance(m, nn.MaxPool2d) else AVG_POOL
        out = (channels, (height - kh) // sh + 1, (width - kw) // sw + 1)
        self._put(kind, out, kh=kh, kw=kw, sh=sh, sw=sw)

    def _global(self, m: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) -> None:
        if _pair(m.output_size) != (1, 1) or self.flat or getattr(m, "return_indices", False):
            raise UnsupportedError("adaptive pooling to more than one value")
        channels, height, width = self.shape
        kind = MAX_POOL if isinstance(m, nn.AdaptiveMaxPool2d) else AVG_POOL
        self._put(kind, (channels, 1, 1), kh=height, kw=width, sh=height, sw=width)

    def _flatten(self, m: nn.Flatten | None) -> None:
        if m is not None and (m.start_dim != 1 or m.end_dim not in (-1, 3)):
            raise UnsupportedError("flattening of some dimensions")
        channels, height, width = self.shape
        size = (channels * height * width, 1, 1)
        if self.made and not self.flat:
            self._put(FLATTEN, size)
        self.shape, self.flat = size, True


def operations(model: Classifier) -> tuple[int, int]:
    """Floating-point operations for an image, of a forward pass and of a training step.

    Two for each multiplication with its addition in convolutions and linear layers, by the usual formula, padding
    included. A step has a forward pass, the gradients of the weights, and those by each layer's input but the first's.

    Raises:
        UnsupportedError: if the kernels don't know a layer.
    """
    layers = [layer for layer in Plan(model).layers()[0] if layer.kind == CONV]
    forward = [2 * p.oc * p.oh * p.ow * p.c // p.groups * p.kh * p.kw for p in layers]
    return sum(forward), 3 * sum(forward) - forward[0]


def _flattened(net: nn.Module) -> Iterator[nn.Module]:
    """The modules of a sequence, those of sequences in it included."""
    if type(net) is nn.Sequential:
        for inside in net:
            yield from _flattened(inside)
    elif type(net) is not nn.Identity:
        yield net


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
