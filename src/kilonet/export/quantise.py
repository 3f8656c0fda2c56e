"""A net in integers: maps of bytes, 8-bit weights, 32-bit sums, scales as whole numbers and shifts.

After Jacob et al. (2018), Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference:
a byte of a map stands for scale (byte - zero), a weight for its output channel's scale times -127 to 127, and a sum of
their products is brought to the scale of the next map by a multiplication and a shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kilonet.export.forward import maps
from kilonet.export.layers import Layer, Net

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_IMAGES = 1000
SUM_LIMIT = 2**31
SCORE_LIMIT = 2**23
MOST_FRACTION_BITS = 20


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A layer in integers.

    A convolution sums weight (byte - zero given) and its bias, a mean the byte - zero given. Its output is
    zero out + sum * multiplier / 2^shift, to the nearest whole number, cut to a byte. The last layer gives scores: its
    zero out is 0, and nothing is cut. Halves are rounded up; in scores away from zero. A max pool needs no figures.

    Attributes:
        layer: its kind and sizes.
        zero_given, zero_out: the bytes that stand for 0.
        weight: int8, (out channels, in channels / groups, kernel height, kernel width), of a convolution.
        bias: int32, (out channels,), of a convolution.
        multiplier: int32, not negative, (out channels,); a mean has one for each channel, too.
        shift: from 1 to 52.
    """

    layer: Layer
    zero_given: int
    zero_out: int
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.int32] | None = None
    shift: int = 1


@dataclass(frozen=True, eq=False)
class QuantisedNet:
    """A net in integers.

    Attributes:
        net: the net that it was made from.
        layers: from raw pixels to the scores, int32, of absolute value below 2^24: exact as floats.
        fraction_bits: a logit is score / 2^fraction_bits.
    """

    net: Net
    layers: tuple[IntegerLayer, ...]
    fraction_bits: int


@dataclass(frozen=True, eq=False)
class _Encoding:
    """What the bytes of a map stand for: scale (byte - zero), the scale by channel, (C,)."""

    scale: NDArray[np.float64]
    zero: int


def quantise(net: Net, images: NDArray[np.uint8]) -> QuantisedNet:
    """A net in integers, each map's range being that of its values on some images.

    On validation images, ranges cut at a percentile or where the mean squared error is least did no better.

    Args:
        net: a trained one, its weights finite.
        images: uint8, (N, C, H, W), of the training part; at most 1,000 of them, evenly spaced, are used.
    """
    arranged = _arranged(net)
    step = max(1, len(images) // CALIBRATION_IMAGES)
    outputs = [found.numpy() for found in maps(arranged, images[::step][:CALIBRATION_IMAGES])]
    given, layers = _Encoding(1 / net.std, _pixel_zero(net)), list[IntegerLayer]()
    for at, layer in enumerate(arranged.layers[:-1]):
        if layer.kind == "max":
            layers.append(IntegerLayer(layer, given.zero, given.zero))
            continue
        products = _products(layer, given, net.mean if at == 0 else given.zero)
        used = at + 1
        while arranged.layers[used].kind == "max":
            used += 1
        given, made = products.encoded(outputs[used - 1], by_channel=_is_depthwise(arranged.layers[used]))
        layers.append(made)
    last, bits = _products(arranged.layers[-1], given, net.mean if not layers else given.zero).scored()
    return QuantisedNet(net, (*layers, last), bits)


@dataclass(frozen=True, eq=False)
class _Products:
    """A convolution's or mean's sums in integers, and what one of them is worth, (out channels,)."""

    layer: Layer
    zero_given: int
    worth: NDArray[np.float64]
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None

    def encoded(self, values: NDArray[np.float64], *, by_channel: bool) -> tuple[_Encoding, IntegerLayer]:
        """The layer giving bytes, and what they stand for: the range of these values, (N, C, H, W)."""
        axes = (0, 2, 3) if by_channel else (0, 1, 2, 3)
        low, high = np.minimum(values.min(axes), 0), np.maximum(values.max(axes), 0)
        finest = self.worth.max() / 256
        if by_channel and low.min() < 0:
            scale, zero = np.maximum(np.maximum(-low / 128, high / 127), finest), 128
        else:
            scale = np.maximum((high - low) / 255, finest)
            zero = round(float(np.max(-low / scale)))
        scale = np.broadcast_to(scale, self.worth.shape)
        return _Encoding(scale, zero), self._scaled(self.worth / scale, zero)

    def scored(self) -> tuple[IntegerLayer, int]:
        """The layer giving scores, and how many of their bits stand for fractions."""
        greatest = float(np.max(self._greatest_sums() * self.worth))
        bits = min(MOST_FRACTION_BITS, math.floor(math.log2(SCORE_LIMIT / max(greatest, 1e-30))))
        return self._scaled(np.ldexp(self.worth, bits), 0), bits

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


def _products(layer: Layer, given: _Encoding, true_zero: NDArray[np.float64] | int) -> _Products:
    """A layer's sums in integers.

    Args:
        layer: a convolution or a mean.
        given: of its input.
        true_zero: what the byte for 0 would be if it could be any number, one for all channels or (C,).
    """
    if layer.weight is None or layer.bias is None:
        return _Products(layer, given.zero, given.scale / math.prod(layer.kernel))
    weight = layer.weight * _by_input(layer, given.scale)
    rows = np.abs(weight.reshape(len(weight), -1))
    worth = np.maximum(rows.max(1) / 127, 255 * rows.sum(1) / (SUM_LIMIT / 4))
    worth = np.maximum(worth, np.abs(layer.bias) / (SUM_LIMIT / 4))
    worth = np.where(worth > 0, worth, 1.0)
    whole = np.rint(weight / worth[:, None, None, None])
    missed = whole * (given.zero - _by_input(layer, np.broadcast_to(true_zero, given.scale.shape)))
    bias = np.rint(layer.bias / worth + missed.sum((1, 2, 3)))
    return _Products(layer, given.zero, worth, whole.astype(np.int8), bias.astype(np.int32))


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
