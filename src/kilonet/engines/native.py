"""The native engine: kernels made for kilobyte nets, for models whose layers they know, on the CPU.

The kernels (`kernels/`, C++) are called through a plain C interface and work on the memory of the model's own
parameters, its running statistics and the optimizer's moments. While they run, the interpreter is free.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kilonet.errors import ConfigError
from kilonet.models import Classifier, Linear, LinearFromScratch
from kilonet.optimizers import Adam, Sgd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kilonet.batches import Resident
    from kilonet.config import Training
    from kilonet.optimizers import Optimizer

VARIANTS = ("avx512", "avx2", "portable")
"""Sets of instructions that the kernels are built for, the fastest first."""
BUILT = Path(__file__).with_name("kernels") / "built"
SECONDS_A_CALL = 0.1
"""Of training that one call of the kernels shall take; with 0, each call is a step."""
_CONV, _NORM, _RELU, _MAX_POOL, _AVG_POOL, _FLATTEN = range(6)


class _Layer(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("kind", "relu", "c", "h", "w", "oc", "oh", "ow", "kh", "kw", "sh", "sw")),
        *((name, c_int32) for name in ("ph", "pw", "weight", "bias", "norm")),
        ("out_stride", c_int64),
        ("in_stride", c_int64),
        ("eps", c_double),
        ("momentum", c_double),
    )


class _Update(Structure):
    _fields_ = (
        ("rule", c_int32),
        *((name, c_double) for name in ("momentum", "weight_decay", "beta1", "beta2", "eps")),
        ("steps", c_int64),
        ("first", POINTER(c_void_p)),
        ("second", POINTER(c_void_p)),
    )


class _Images(Structure):
    _fields_ = (("pixels", c_void_p), ("labels", c_void_p), ("rows", c_void_p), ("warps", c_void_p), ("n", c_int64))


class UnsupportedError(Exception):
    """What the kernels can't compute, in words that end `the native engine has no ...`."""


@dataclass(frozen=True)
class Library:
    """The kernels for this processor.

    Attributes:
        variant: one of `VARIANTS`.
        calls: the functions.
    """

    variant: str
    calls: ctypes.CDLL


@functools.cache
def library() -> Library:
    """The fastest kernels that were built and that this processor can run, or those that KILONET_KERNELS names.

    Raises:
        ConfigError: if there are none, with the reason.
    """
    asked = os.environ.get("KILONET_KERNELS")
    if asked is not None and asked not in VARIANTS:
        raise ConfigError(f"KILONET_KERNELS={asked!r} won't do: expected {', '.join(VARIANTS)}")
    for variant in (asked,) if asked else VARIANTS:
        path = BUILT / f"{variant}.so"
        if path.is_file() and (calls := _loaded(path, variant)) is not None:
            return Library(variant, calls)
    if asked and (BUILT / f"{asked}.so").is_file():
        raise ConfigError(f"KILONET_KERNELS={asked}: this processor can't run these", "unset it")
    raise ConfigError(f"there are no native kernels: {why_not_built()}", "--engine torch works without them")


def why_not_built() -> str:
    """Why the kernels are not there, as the installation noted it."""
    try:
        return (BUILT / "failure.txt").read_text().strip()
    except OSError:
        return "they were not built when Kilonet was installed"


def threads() -> int:
    """How many to use: PyTorch's number, but no more than there are cores. Results don't depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), cores)


def _loaded(path: Path, variant: str) -> ctypes.CDLL | None:
    """The functions of a library that this processor can run."""
    try:
        portable = ctypes.CDLL(str(path.with_name("portable.so")))
        return ctypes.CDLL(str(path)) if portable.kn_supports(variant.encode()) else None
    except OSError:
        return None


class Net:
    """A model as the kernels see it.

    Args:
        model: stays the owner of all memory; must live, and keep its parameters' memory, as long as this does.

    Raises:
        UnsupportedError: if the kernels don't know its layers.
        ConfigError: if there are no kernels.
    """

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.parameters = list(model.parameters())
        layers, self.norms = _Plan(model).layers()
        self.precise = self.parameters[0].dtype == torch.float64
        self._calls = library().calls
        self._handle = c_void_p()
        running = [value for norm in self.norms for value in (norm.running_mean, norm.running_var) if value is not None]
        mean, std = (value.expand(model.shape[0], 1, 1).flatten().double() for value in (model.mean, model.std))
        failed = self._calls.kn_create(
            byref(self._handle),
            c_int(self.precise),
            (_Layer * len(layers))(*layers),
            c_int(len(layers)),
            _pointers(self.parameters),
            (c_int64 * len(self.parameters))(*(p.numel() for p in self.parameters)),
            c_int(len(self.parameters)),
            _pointers(running),
            c_int(len(self.norms)),
            *((c_double * len(values))(*values.tolist()) for values in (mean, std)),
            *map(c_int, model.shape),
        )
        _check(failed)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._calls.kn_free(self._handle)

    def train(
        self, optimizer: Optimizer, data: Resident, rows: Tensor, batch_size: int, rates: Sequence[float],
        smoothing: float = 0.0, warps: Tensor | None = None,
    ) -> list[float]:  # fmt: skip
        """Train on some rows, int64, (M,), once; the mean loss of each step, in nats, up to one that is not finite."""
        losses, done = (c_double * len(rates))(), c_int64()
        images = _images(data, rows, warps)
        update = _update(optimizer)
        failed = self._calls.kn_train(
            self._handle, byref(images), c_int64(batch_size), (c_double * len(rates))(*rates), byref(update),
            c_double(smoothing), losses, byref(done), c_int(threads()),
        )  # fmt: skip
        _check(failed)
        if isinstance(optimizer, Adam):
            optimizer.steps += done.value
        self._count(done.value)
        return list(losses[: done.value])

    def gradients(
        self, data: Resident, rows: Tensor, smoothing: float = 0.0, warps: Tensor | None = None
    ) -> tuple[float, list[Tensor]]:
        """The mean loss over some rows and its gradient by each parameter; running statistics move as in a step."""
        found, loss = [torch.empty_like(p) for p in self.parameters], c_double()
        images = _images(data, rows, warps)
        failed = self._calls.kn_gradients(
            self._handle, byref(images), c_double(smoothing), _pointers(found), byref(loss),
            c_int(threads()),
        )  # fmt: skip
        _check(failed)
        self._count(1)
        return loss.value, found

    def logits(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of raw images, uint8, (N, C, H, W), by running statistics."""
        found = torch.empty(len(images), len(self.model.classes), dtype=self.parameters[0].dtype)
        images = images.contiguous()
        asked = _Images(images.data_ptr(), None, None, None, len(images))
        _check(self._calls.kn_logits(self._handle, byref(asked), c_void_p(found.data_ptr()), c_int(threads())))
        return found

    def _count(self, steps: int) -> None:
        for norm in self.norms:
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += steps


def steps(
    model: Classifier, optimizer: Optimizer, data: Resident, rows: Tensor, training: Training,
    rates: Sequence[float], warps: Tensor | None = None,
) -> Iterator[list[float]]:  # fmt: skip
    """Train on some rows as `kilonet.engines.torch.steps` does, many steps a call."""
    net, batch = Net(model), training.batch_size
    at, some = 0, 1
    while at < len(rates):
        start = time.perf_counter()
        part = slice(at * batch, (at + some) * batch)
        losses = net.train(
            optimizer, data, rows[part], batch, rates[at : at + some], training.label_smoothing,
            None if warps is None else warps[part],
        )  # fmt: skip
        yield losses
        at += len(losses)
        some = max(1, min(int(some * SECONDS_A_CALL / (time.perf_counter() - start)), 4 * some))


def logits(model: Classifier, data: Resident, batch_size: int) -> Tensor:
    """Logits of all the images, in their order, (N, K); each counted once. The batch size makes no difference."""
    return Net(model).logits(data.images)


def why_not(model: Classifier, optimizer: Optimizer | None = None) -> str | None:
    """Why a model can't be trained here, or None if it can."""
    try:
        library()
        _Plan(model).layers()
    except ConfigError as error:
        return error.message
    except UnsupportedError as error:
        return f"the native engine has no {error}"
    if optimizer is not None and type(optimizer) not in (Adam, Sgd):
        return f"the native engine has no {type(optimizer).__name__}"
    return None


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native engine ran out of memory")


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (c_void_p * max(1, len(tensors)))(*(t.data_ptr() for t in tensors))


def _images(data: Resident, rows: Tensor, warps: Tensor | None) -> _Images:
    """Rows and warps of a call; they are slices of contiguous tensors, which the caller keeps."""
    if warps is not None and (warps.dtype != torch.float32 or not warps.is_contiguous() or len(warps) != len(rows)):
        raise ValueError("warps should be float32, (M, 2, 3)")
    if rows.dtype != torch.int64 or not rows.is_contiguous():
        raise ValueError("rows should be int64, (M,)")
    pointer = None if warps is None else warps.data_ptr()
    return _Images(data.images.data_ptr(), data.labels.data_ptr(), rows.data_ptr(), pointer, len(rows))


def _update(optimizer: Optimizer) -> _Update:
    if isinstance(optimizer, Adam):
        rule, (beta1, beta2) = 2 if optimizer.decoupled else 1, optimizer.betas
        first, second = _pointers(optimizer.means), _pointers(optimizer.squares)
        return _Update(rule, 0.0, optimizer.weight_decay, beta1, beta2, optimizer.eps, optimizer.steps, first, second)
    if not isinstance(optimizer, Sgd):
        raise TypeError(f"no {type(optimizer).__name__}")
    velocities = None
    if optimizer.momentum:
        pairs = zip(optimizer.parameters, optimizer.velocities, strict=True)
        optimizer.velocities = [torch.zeros_like(p) if v is None else v for p, v in pairs]
        velocities = _pointers([v for v in optimizer.velocities if v is not None])
    return _Update(0, optimizer.momentum, optimizer.weight_decay, 0.0, 0.0, 0.0, 0, velocities, None)


class _Plan:
    """The layers of a model in the kernels' terms."""

    def __init__(self, model: Classifier) -> None:
        self.model, self.norms = model, list[nn.BatchNorm2d]()
        self.made: list[_Layer] = []
        self.shape: tuple[int, int, int] = model.shape
        self.flat = False
        self.index = {id(p): i for i, p in enumerate(model.parameters())}

    def layers(self) -> tuple[list[_Layer], list[nn.BatchNorm2d]]:
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
        given = {"kh": 1, "kw": 1, "sh": 1, "sw": 1, "weight": -1, "bias": -1, "norm": -1, **fields}
        layer = _Layer(kind=kind, c=channels, h=height, w=width, oc=out[0], oh=out[1], ow=out[2], **given)
        self.made.append(layer)
        self.shape = out

    def _parameter(self, value: Tensor | None) -> int:
        return -1 if value is None else self.index[id(value)]

    def _conv(self, m: nn.Conv2d) -> None:
        if m.groups != 1 or m.dilation != (1, 1) or m.padding_mode != "zeros" or isinstance(m.padding, str):
            raise UnsupportedError("grouped, dilated or unevenly padded convolution")
        channels, height, width = self.shape
        if m.in_channels != channels or self.flat:
            raise UnsupportedError("convolution of such a map")
        (kh, kw), (sh, sw), (ph, pw) = m.kernel_size, m.stride, m.padding
        out = (m.out_channels, (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1)
        sizes = {"kh": kh, "kw": kw, "sh": sh, "sw": sw, "ph": ph, "pw": pw}
        places = {"out_stride": channels * kh * kw, "in_stride": 1}
        self._put(_CONV, out, weight=self._parameter(m.weight), bias=self._parameter(m.bias), **sizes, **places)

    def _dense(self, inputs: int, outputs: int, weight: Tensor, bias: Tensor | None, **places: int) -> None:
        if not self.flat or self.shape[0] != inputs:
            raise UnsupportedError("linear layer over such a map")
        self._put(_CONV, (outputs, 1, 1), weight=self._parameter(weight), bias=self._parameter(bias), **places)

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
        self._put(_NORM, self.shape, weight=scale, bias=shift, norm=len(self.norms), eps=m.eps, momentum=m.momentum)
        self.norms.append(m)

    def _relu(self, _: nn.ReLU) -> None:
        if self.made and self.made[-1].kind in (_CONV, _NORM):
            self.made[-1].relu = 1
        else:
            self._put(_RELU, self.shape)

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
        kind = _MAX_POOL if isinstance(m, nn.MaxPool2d) else _AVG_POOL
        out = (channels, (height - kh) // sh + 1, (width - kw) // sw + 1)
        self._put(kind, out, kh=kh, kw=kw, sh=sh, sw=sw)

    def _global(self, m: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) -> None:
        if _pair(m.output_size) != (1, 1) or self.flat or getattr(m, "return_indices", False):
            raise UnsupportedError("adaptive pooling to more than one value")
        channels, height, width = self.shape
        kind = _MAX_POOL if isinstance(m, nn.AdaptiveMaxPool2d) else _AVG_POOL
        self._put(kind, (channels, 1, 1), kh=height, kw=width, sh=height, sw=width)

    def _flatten(self, m: nn.Flatten | None) -> None:
        if m is not None and (m.start_dim != 1 or m.end_dim not in (-1, 3)):
            raise UnsupportedError("flattening of some dimensions")
        channels, height, width = self.shape
        size = (channels * height * width, 1, 1)
        if self.made and height * width > 1:
            self._put(_FLATTEN, size)
        self.shape, self.flat = size, True


def _flattened(net: nn.Module) -> Iterator[nn.Module]:
    """The modules of a sequence, those of sequences in it included."""
    if type(net) is nn.Sequential:
        for inside in net:
            yield from _flattened(inside)
    elif type(net) is not nn.Identity:
        yield net


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
