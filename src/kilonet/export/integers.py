"""A net in integers, and what it gives, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.export.layers import Layer, Net

EXACT_IN_FLOAT32 = 2**24
BATCH = 500


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


def scores(net: QuantisedNet, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The scores, (N, K), of raw images, uint8, (N, C, H, W)."""
    parts = [_scores(net, images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def output(layer: IntegerLayer, given: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A layer's map, (N, C, H, W), by the map that it is given; not of the last layer, which gives scores."""
    if layer.layer.kind == "max":
        kernel, stride = layer.layer.kernel, layer.layer.stride
        return np.asarray(F.max_pool2d(torch.from_numpy(given.copy()), kernel, stride).numpy())
    return _bytes(layer, _sums(layer, given))


def _scores(net: QuantisedNet, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    given = images
    for layer in net.layers[:-1]:
        given = output(layer, given)
    last = net.layers[-1]
    sums = _sums(last, given)
    magnitudes = (np.abs(sums) * _multiplier(last) + (1 << (last.shift - 1))) >> last.shift
    signed: NDArray[np.int64] = np.sign(sums) * magnitudes
    return signed.reshape(len(images), -1)


def _bytes(layer: IntegerLayer, sums: NDArray[np.int64]) -> NDArray[np.uint8]:
    scaled = sums * _multiplier(layer) + (layer.zero_out << layer.shift) + (1 << (layer.shift - 1))
    found: NDArray[np.uint8] = np.clip(scaled >> layer.shift, 0, 255).astype(np.uint8)
    return found


def _sums(layer: IntegerLayer, given: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A convolution's or mean's sums, by floats that hold them exactly."""
    sizes = layer.layer
    if layer.weight is None or layer.bias is None:
        values = torch.from_numpy(given.copy()).double() - layer.zero_given
        return _whole(F.avg_pool2d(values, sizes.kernel, sizes.stride, divisor_override=1))
    most = 255 * int(np.abs(layer.weight.astype(np.int64)).sum((1, 2, 3)).max())
    kind = torch.float32 if most < EXACT_IN_FLOAT32 else torch.float64
    values = torch.from_numpy(given.copy()).to(kind) - layer.zero_given
    weight = torch.from_numpy(layer.weight).to(kind)
    found = F.conv2d(values, weight, None, sizes.stride, sizes.padding, groups=sizes.groups)
    return _whole(found) + layer.bias.astype(np.int64)[:, None, None]


def _whole(values: Tensor) -> NDArray[np.int64]:
    return np.asarray(values.numpy().astype(np.int64))


def _multiplier(layer: IntegerLayer) -> NDArray[np.int64]:
    return np.asarray(layer.multiplier, np.int64)[:, None, None]
