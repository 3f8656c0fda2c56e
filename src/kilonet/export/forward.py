"""What plain layers give, in float64: what exports are calibrated on and held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kilonet.export.layers import Layer, Net


BATCH = 500


def maps(net: Net, images: NDArray[np.uint8]) -> Iterator[Tensor]:
    """Each layer's output, float64, (N, C, H, W), the logits last.

    Args:
        net: its layers get the normalised images.
        images: uint8, (N, C, H, W).
    """
    given = normalised(net, images)
    for layer in net.layers:
        given = output(layer, given)
        yield given


def normalised(net: Net, images: NDArray[np.uint8]) -> Tensor:
    """What the first layer is given, float64, (N, C, H, W)."""
    mean, std = (torch.from_numpy(np.array(values)).view(-1, 1, 1) for values in (net.mean, net.std))
    return (torch.from_numpy(np.array(images)).double() - mean) / std


def output(layer: Layer, given: Tensor) -> Tensor:
    """One layer's output, of the type of its input."""
    if layer.weight is not None and layer.bias is not None:
        weight, bias = (torch.from_numpy(values).to(given.dtype) for values in (layer.weight, layer.bias))
        given = F.conv2d(given, weight, bias, layer.stride, layer.padding, groups=layer.groups)
    elif layer.kind == "max":
        given = F.max_pool2d(given, layer.kernel, layer.stride)
    else:
        given = F.avg_pool2d(given, layer.kernel, layer.stride)
    return given.relu() if layer.relu else given


def logits(net: Net, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The logits, float64, (N, K), of raw images, uint8, (N, C, H, W)."""
    parts = []
    for at in range(0, len(images), BATCH):
        *_, found = maps(net, images[at : at + BATCH])
        parts.append(found.flatten(1).numpy())
    return np.concatenate(parts)
