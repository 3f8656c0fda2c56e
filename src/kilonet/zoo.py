"""The zoo: nets by name, each built for a size of images and a number of classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kilonet.errors import ModelError, nearest
from kilonet.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable

Shape = tuple[int, int, int]


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


def _kilo(widths: tuple[int, int, int], shape: Shape, classes: int) -> nn.Module:
    """A strided 5x5 convolution, two of 3x3 with a pool between, batch norm behind each, the maximum of each map."""
    channels, height, width = shape
    first, second, third = widths
    stride = 2 if min(height, width) >= 16 else 1
    return nn.Sequential(
        nn.Conv2d(channels, first, 5, stride=stride, padding=2, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 3, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(inplace=True),
        *([nn.MaxPool2d(2)] if min(height, width) >= 4 else []),
        nn.Conv2d(second, third, 3, padding=1, bias=False),
        nn.BatchNorm2d(third),
        nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(third, classes),
    )


def _kilo_4k(shape: Shape, classes: int) -> nn.Module:
    return _kilo((8, 13, 20), shape, classes)


def _kilo_16k(shape: Shape, classes: int) -> nn.Module:
    return _kilo((16, 24, 48), shape, classes)


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
    "kilo-4k": Entry(_kilo_4k, "three convolutions with batch norm, at most 3,930 parameters"),
    "kilo-16k": Entry(_kilo_16k, "three convolutions with batch norm, at most 16,384 parameters"),
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
