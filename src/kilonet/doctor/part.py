"""`Part`: some images under one name, with what the checks want to know of them, each worked out once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.mapped import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from kilonet.images import ImageSet


@dataclass(frozen=True, eq=False)
class Part:
    """Some images under the name that messages give them.

    Attributes:
        name: such as `the training part`.
        data: the images.
        whole: how many images bear the name, if some of them were taken out before.
    """

    name: str
    data: ImageSet
    whole: int | None = None

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def flat(self) -> NDArray[np.uint8]:
        """The pixels, uint8, (N, C*H*W)."""
        return np.ascontiguousarray(self.data.pixels).reshape(len(self), -1)

    @cached_property
    def grey(self) -> NDArray[np.uint8] | NDArray[np.float32]:
        """The images as grey ones, (N, H, W), 0 to 255: uint8, or of colours the mean over the channels, float32."""
        images = self.data.pixels
        return images[:, 0] if images.shape[1] == 1 else images.mean(1, dtype=np.float32)

    @cached_property
    def low(self) -> NDArray[np.uint8]:
        """The smallest value of each image, uint8, (N,)."""
        return np.asarray(self.flat.min(1))

    @cached_property
    def high(self) -> NDArray[np.uint8]:
        """The greatest value of each image, uint8, (N,)."""
        return np.asarray(self.flat.max(1))

    @cached_property
    def span(self) -> NDArray[np.int64]:
        """Greatest less smallest value of each image, int64, (N,)."""
        return self.high.astype(np.int64) - self.low

    @cached_property
    def prints(self) -> NDArray[np.uint64]:
        """A hash of each image, uint64, (N,)."""
        return self.data.fingerprints()

    def rows(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> tuple[int, ...]:
        """The rows in the source of some of the images."""
        return tuple(self.data.rows[which].tolist())

    def take(self, which: NDArray[np.int64]) -> Part:
        """The images at some positions, int64, (M,), under the same name."""
        return Part(self.name, self.data.take(which), self.whole or len(self))

    def at_hand(self) -> Part:
        """The part if it is in memory; of one that stays on the disk a sample that can be looked at as a whole."""
        if not self.data.is_large:
            return self
        return self.sample(max(1, SMALL // math.prod(self.data.shape)))

    def sample(self, most: int) -> Part:
        """At most so many images, spread evenly over the part."""
        if len(self) <= most:
            return self
        spread = np.linspace(0, len(self) - 1, most).astype(np.int64)
        return Part(f"a sample of {self.name}", self.data.take(spread))

    @cached_property
    def class_means(self) -> NDArray[np.float32]:
        """The mean grey image of each class, float32, (K, H, W); NaN for a class without images."""
        means = np.full((len(self.data.classes), *self.grey.shape[1:]), np.nan, np.float32)
        for label in np.unique(self.data.labels):
            means[label] = self.grey[self.data.labels == label].mean(0, dtype=np.float32)
        return means


def counted(which: NDArray[np.bool_], part: Part, what: str, verb: str = "is are") -> str:
    """`12 images of 60,000 in the training part VERB WHAT (rows 3, 8, ...)`; the verb for one and for several."""
    n = int(which.sum())
    words = f"{plural(n, 'image')} of {part.whole or len(part):,} in {part.name} {verb.split()[n != 1]}"
    return f"{words} {what} ({listed(part.rows(which))})"


def plural(n: int, what: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def listed(rows: Iterable[int], most: int = 5) -> str:
    """`row 3` or `rows 3, 8, 12, 14, 20, ...`: the first few."""
    rows = tuple(rows)
    words = ", ".join(map(str, rows[:most]))
    return f"{'row' if len(rows) == 1 else 'rows'} {words}{', ...' if len(rows) > most else ''}"


def correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's correlation of the rows of two matrices, (N, D) and (N, D) or (D,); 0 where one is constant."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = (a * b).sum(-1)
    return np.asarray(np.divide(products, norms, out=np.zeros_like(products), where=norms > 1e-9))
