"""The zoo: nets by name, each built for a size of images and a number of classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kilonet.errors import ModelError, nearest
from kilonet.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable

Shape = tuple[int, int, int]
Stem = tuple[tuple[int, int, int], ...]


class Linear(nn.Linear):
    """Softmax regression: one linear layer over all the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of normalised images, (N, C, H, W)."""
        return super().forward(images.flatten(1))


class LinearFromScratch(nn.Module):
    """Softmax regression with its matrix written out: weights randn / sqrt(inputs), bias zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(inputs, outputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of normalised images, (N, C, H, W)."""
        return images.flatten(1) @ self.weights + self.bias


def _linear(shape: Shape, classes: int) -> nn.Module:
    return Linear(math.prod(shape), classes)


def _linear_from_scratch(shape: Shape, classes: int) -> nn.Module:
    return LinearFromScratch(math.prod(shape), classes)


def _tutorial_cnn(shape: Shape, classes: int) -> nn.Module:
    """The tutorial's net as written, its final ReLU included; the pooling takes the whole last map."""
    channels, height, width = shape
    for _ in range(3):
        height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    pool = height if height == width else (height, width)
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, classes, kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(pool),
        nn.Flatten(),
    )


def _kilo(stem: Stem, before: tuple[int, ...], behind: tuple[int, ...], shape: Shape, classes: int) -> nn.Module:
    """A stem of convolutions, depthwise-separable ones of these widths before and behind a pool, and an end."""
    widths = [stem[-1][0], *before, *behind]
    separable = [_separable(channels, width) for channels, width in pairwise(widths)]
    layers = [_stem(stem, shape), *separable[: len(before)], _pool(shape), *separable[len(before) :]]
    return nn.Sequential(*chain(*layers, _end(widths[-1], classes)))


def _stem(stem: Stem, shape: Shape) -> list[nn.Module]:
    """Convolutions of these widths, kernels and strides over an image.

    In one below 16 pixels a side nothing is cut off or left out: there is padding, and no stride.
    """
    small, channels = min(shape[1:]) < 16, shape[0]
    layers: list[nn.Module] = []
    for width, kernel, stride in stem:
        step, padding = (1, kernel // 2) if small else (stride, 0)
        layers += _normed(nn.Conv2d(channels, width, kernel, step, padding, bias=False))
        channels = width
    return layers


def _separable(channels: int, width: int) -> list[nn.Module]:
    """A 3x3 convolution of each channel by itself and, with nothing between, a 1x1 one over all (Chollet 2017)."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return [depthwise, *_normed(nn.Conv2d(channels, width, 1, bias=False))]


def _normed(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


def _pool(shape: Shape) -> list[nn.Module]:
    return [nn.MaxPool2d(2)] if min(shape[1:]) >= 4 else []


def _end(channels: int, classes: int) -> list[nn.Module]:
    """The maximum of each map, and a linear layer over them."""
    return [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def _kilo_fast(shape: Shape, classes: int) -> nn.Module:
    """A strided convolution and two of 3x3, with a pool between."""
    stem = _stem(((16, 5, 2),), shape)
    second = _normed(nn.Conv2d(16, 24, 3, padding=1, bias=False))
    third = _normed(nn.Conv2d(24, 48, 3, padding=1, bias=False))
    return nn.Sequential(*stem, *second, *_pool(shape), *third, *_end(48, classes))


_kilo_4k = partial(_kilo, ((16, 5, 2),), (16, 16, 24), (24, 24))
_kilo_16k = partial(_kilo, ((16, 3, 1), (24, 3, 2)), (32, 48), (48, 48))
_kilo_100k = partial(_kilo, ((24, 3, 1), (48, 3, 2)), (64, 96), (128, 128, 128))


@dataclass(frozen=True)
class Entry:
    """A model of the zoo: how it is built, what it is, and whether pixels are just divided by 256."""

    build: Callable[[Shape, int], nn.Module]
    about: str
    by_256: bool = False


ZOO = {
    "linear": Entry(_linear, "softmax regression, one nn.Linear", by_256=True),
    "linear-from-scratch": Entry(_linear_from_scratch, "the same with its weight matrix written out", by_256=True),
    "tutorial-cnn": Entry(_tutorial_cnn, "the tutorial's three strided convolutions, final ReLU and all", by_256=True),
    "kilo-fast": Entry(_kilo_fast, "three convolutions with batch norm, for the shortest training"),
    "kilo-4k": Entry(_kilo_4k, "depthwise-separable convolutions, at most 3,930 parameters"),
    "kilo-16k": Entry(_kilo_16k, "the same, wider, at most 16,384 parameters"),
    "kilo-100k": Entry(_kilo_100k, "the same, wider still, at most 102,400 parameters"),
}


def zoo_entry(name: str) -> Entry:
    """The entry of the zoo with this name.

    Raises:
        ModelError: if there is none.
    """
    if name not in ZOO:
        raise ModelError(
            f"unknown model {printable(name)!r}", f"{nearest(name, ZOO)} A path/to/file.py:ClassName does, too"
        )
    return ZOO[name]
