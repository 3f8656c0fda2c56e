"""A net in integers: maps of bytes, 8-bit weights, 32-bit sums, scales as whole numbers and shifts.

After Jacob et al. (2018), Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference:
a byte of a map stands for scale (byte - zero), a weight for its output channel's scale times -127 to 127, and a sum of
their products is brought to the scale of the next map by a multiplication and a shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.export import forward, integers, rounding
from kilonet.export.integers import IntegerLayer, QuantisedNet
from kilonet.export.layers import Layer, Net

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from kilonet.images import ImageSet

CALIBRATIONS = (1000, 500, 700, 300)
"""How many images the ranges of maps are found on; which of these does best is chance."""
LONGEST_SUM = 2**31
SCORE_LIMIT = 2**23
MOST_FRACTION_BITS = 20


@dataclass(frozen=True, eq=False)
class _Encoding:
    """What the bytes of a map stand for: scale (byte - zero), by channel, (C,).

    `byte` is the zero as a whole number, which the next layer takes off and pads with; its bias makes up for the rest.
    """

    scale: NDArray[np.float64]
    zero: NDArray[np.float64]
    byte: int


def best(net: Net, images: NDArray[np.uint8], judges: ImageSet) -> QuantisedNet:
    """A net in integers, calibrated on as many images as validation chooses.

    Args:
        net: a trained one, its weights finite.
        images: uint8, (N, C, H, W), of the training part.
        judges: labelled images, of the validation part. The first calibration is taken with which as many of them are
            read right as by the net itself; if there is none, the one with which most are.
    """
    wanted = _right(forward.logits(net, judges.pixels), judges)
    tried: list[tuple[int, QuantisedNet]] = []
    for most in CALIBRATIONS:
        one = quantise(net, images, most)
        tried.append((_right(integers.scores(one, judges.pixels), judges), one))
        if tried[-1][0] >= wanted:
            return one
    return max(tried, key=itemgetter(0))[1]


def _right(outputs: NDArray[Any], judges: ImageSet) -> int:
    return int(np.count_nonzero(outputs.argmax(axis=1) == judges.labels))


def quantise(net: Net, images: NDArray[np.uint8], most: int = CALIBRATIONS[0]) -> QuantisedNet:
    """A net in integers, each map's range being that of its values on some images.

    On validation images, ranges cut at a percentile or where the mean squared error is least did worse, and training
    on with rounded weights and maps no better.

    Args:
        net: a trained one, its weights finite.
        images: uint8, (N, C, H, W), of the training part.
        most: how many of them are used, evenly spaced.
    """
    arranged = _arranged(net)
    some = images[:: max(1, len(images) // most)][:most]
    real, read = forward.normalised(net, some), some
    given, layers = _Encoding(1 / net.std, net.mean, _pixel_zero(net)), list[IntegerLayer]()
    for at, layer in enumerate(arranged.layers[:-1]):
        before, real = real, forward.output(layer, real)
        if layer.kind == "max":
            made = IntegerLayer(layer, given.byte, given.byte)
        else:
            pools, reader = _until_read(arranged.layers[at + 1 :])
            values = reduce(lambda values, pool: forward.output(pool, values), pools, real)
            given, made = _products(layer, given, read, before).encoded(values.numpy(), reader)
        layers.append(made)
        read = integers.output(made, read)
    last, bits = _products(arranged.layers[-1], given, read, real).scored()
    return QuantisedNet(net, (*layers, last), bits)


def _until_read(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, ...], Layer]:
    """The max pools at the beginning, and the first other layer."""
    n = next(at for at, layer in enumerate(layers) if layer.kind != "max")
    return layers[:n], layers[n]


@dataclass(frozen=True, eq=False)
class _Products:
    """A convolution's or mean's sums in integers, and what one of them is worth, (out channels,)."""

    layer: Layer
    zero_given: int
    worth: NDArray[np.float64]
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None

    def encoded(self, values: NDArray[np.float64], reader: Layer) -> tuple[_Encoding, IntegerLayer]:
        """The layer giving bytes, and what they stand for.

        A scale for each channel costs nothing where the next layer is depthwise, and little where a map may be
        negative. A zero for each channel does not even have to be a byte where the next layer has no padding.

        Args:
            values: float64, (N, C, H, W), that the bytes have to stand for.
            reader: the next layer but for max pools.
        """
        negative = bool(values.min() < 0)
        free_zero = negative and self.bias is not None and reader.kind == "conv" and not any(reader.padding)
        by_channel = free_zero or _is_depthwise(reader)
        low, high = (
            np.broadcast_to(found, self.worth.shape)
            for found in (
                np.minimum(values.min((0, 2, 3) if by_channel else None), 0),
                np.maximum(values.max((0, 2, 3) if by_channel else None), 0),
            )
        )
        finest = self.worth.max() / 256
        if free_zero:
            scale = np.maximum((high - low) / 255, finest)
            zero = -low / scale
            return _Encoding(scale, zero, 0), self._shifted(zero * scale)._scaled(self.worth / scale, 0)
        if by_channel and negative:
            scale, byte = np.maximum(np.maximum(-low / 128, high / 127), finest), 128
        else:
            scale = np.maximum((high - low) / 255, finest)
            byte = round(float((-low / scale).max()))
        return _Encoding(scale, np.full(scale.shape, float(byte)), byte), self._scaled(self.worth / scale, byte)

    def scored(self) -> tuple[IntegerLayer, int]:
        """The layer giving scores, and how many of their bits stand for fractions."""
        greatest = float(np.max(self._greatest_sums() * self.worth))
        bits = min(MOST_FRACTION_BITS, math.floor(math.log2(SCORE_LIMIT / max(greatest, 1e-30))))
        return self._scaled(np.ldexp(self.worth, bits), 0), bits

    def _shifted(self, by: NDArray[np.float64]) -> _Products:
        """The same with so much more to come out of it, (out channels,)."""
        return replace(self, bias=(self.bias + np.rint(by / self.worth)).astype(np.int32))

    def _greatest_sums(self) -> NDArray[np.float64]:
        """How great each channel's sum can be, whatever the bytes, (out channels,)."""
        most = max(self.zero_given, 255 - self.zero_given)
        if self.weight is None or self.bias is None:
            return np.full(len(self.worth), float(most * math.prod(self.layer.kernel)))
        products: NDArray[np.float64] = np.abs(self.weight.astype(np.float64)).sum((1, 2, 3)) * most
        return products + np.abs(self.bias.astype(np.float64))

    def _scaled(self, factors: NDArray[np.float64], zero_out: int) -> IntegerLayer:
        """The layer with these factors, one a channel, as whole numbers and a common shift."""
        shift = min(max(1, 31 - math.frexp(float(factors.max()))[1]), 52)
        multiplier = np.minimum(np.rint(np.ldexp(factors, shift)), 2**31 - 1).astype(np.int32)
        return IntegerLayer(self.layer, self.zero_given, zero_out, self.weight, self.bias, multiplier, shift)


def _products(layer: Layer, given: _Encoding, read: NDArray[np.uint8], real: Tensor) -> _Products:
    """The sums in integers of a convolution or a mean.

    Args:
        layer: what is to be computed.
        given: how its input is encoded.
        read: (N, C, H, W): examples of its input, as the layers before give them in integers.
        real: the same as they are without any rounding.
    """
    if layer.weight is None or layer.bias is None:
        return _Products(layer, given.byte, given.scale / math.prod(layer.kernel))
    weight, off = layer.weight * _by_input(layer, given.scale), given.byte - _by_input(layer, given.zero)
    rows, bias = np.abs(weight).reshape(len(weight), -1), layer.bias + (weight * off).sum((1, 2, 3))
    longest = np.maximum(255 * rows.sum(1), np.abs(bias)) / (LONGEST_SUM / 8)
    worth = np.maximum(rows.max(1) / 127, longest)
    worth = np.where(worth > 0, worth, 1.0)[:, None, None, None]
    chosen = rounding.examples(layer, len(read))
    wanted = forward.output(replace(layer, relu=False), real[chosen]).numpy() / worth[:, 0]
    whole, bias = rounding.rounded(layer, weight / worth, read[chosen] - given.zero[:, None, None], wanted)
    bias = np.rint(bias + (whole * off).sum((1, 2, 3)))
    return _Products(layer, given.byte, worth.ravel(), whole.astype(np.int8), bias.astype(np.int32))


def _by_input(layer: Layer, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A value for each input channel, (C,), as each output channel sees it, (out channels, C / groups, 1, 1)."""
    by_group = values.reshape(layer.groups, -1)
    return np.repeat(by_group, layer.out[0] // layer.groups, axis=0)[:, :, None, None]


def _is_depthwise(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.groups == layer.given[0]


def _pixel_zero(net: Net) -> int:
    """The pixel that stands for 0 best."""
    return int(np.clip(np.rint(net.mean.mean()), 0, 255))


def _arranged(net: Net) -> Net:
    """The net with a convolution first, and a convolution or mean without ReLU last; no max pool has a ReLU.

    Where one is missing, a convolution of 1 x 1 that changes nothing is put in; so it is where the first one's padding
    would be off by more than half a pixel.
    """
    layers = list(net.layers)
    for at in reversed(range(len(layers))):
        if layers[at].kind == "max" and layers[at].relu:
            layers[at] = replace(layers[at], relu=False)
            if at == 0:
                layers.insert(0, _unchanging(net.shape, relu=True))
            else:
                layers[at - 1] = replace(layers[at - 1], relu=True)
    off = np.abs(_pixel_zero(net) - net.mean).max() > 0.5
    if layers[0].kind != "conv" or (off and any(layers[0].padding)):
        layers.insert(0, _unchanging(net.shape, relu=False))
    if layers[-1].kind == "max" or layers[-1].relu:
        layers.append(_unchanging(layers[-1].out, relu=False))
    return replace(net, layers=tuple(layers))


def _unchanging(shape: tuple[int, int, int], *, relu: bool) -> Layer:
    channels = shape[0]
    weight, bias = np.ones((channels, 1, 1, 1)), np.zeros(channels)
    return Layer("conv", shape, shape, (1, 1), (1, 1), (0, 0), channels, relu, weight, bias)
