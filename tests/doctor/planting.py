"""Data with faults planted in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kilonet as kn
from kilonet.doctor.finding import Finding

Change = Callable[[NDArray[np.uint8]], NDArray[Any]]


def with_test(data: kn.ImageSet, most: int = 10_000) -> kn.ImageSet:
    """Shuffled, at most so many, the last sixth being the test part."""
    order = np.random.default_rng(1).permutation(len(data))[:most]
    return replace(data.take(order), rows=np.arange(len(order)), test_from=len(order) * 5 // 6)


def change(data: kn.ImageSet, rows: NDArray[np.int64] | slice, how: Change) -> kn.ImageSet:
    """The same data with the images at some rows changed."""
    images = np.array(data.images)
    images[rows] = how(images[rows])
    return replace(data, images=images)


def some(data: kn.ImageSet, n: int) -> NDArray[np.int64]:
    """Rows of the training part."""
    return np.sort(np.random.default_rng(2).choice(data.test_from or len(data), n, replace=False))


def named(found: list[Finding], name: str) -> Finding:
    """The finding of this name, the only one."""
    assert [one.name for one in found].count(name) == 1, [(one.name, one.what) for one in found]
    return next(one for one in found if one.name == name)


def names(found: list[Finding]) -> set[str]:
    return {one.name for one in found}


def inverted(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return 255 - images


def transposed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.swapaxes(-1, -2)
