"""Batches from one uint8 tensor, and the seeded order in which they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from kilonet import world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kilonet.images import ImageSet


@dataclass(frozen=True)
class Resident:
    """Images and labels on the device that computes.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
        names: int64, (N,), on the CPU: the row of each image among all of them, where these are not all; or None.
    """

    images: Tensor
    labels: Tensor
    names: Tensor | None = None

    @classmethod
    def of(cls, data: ImageSet, device: torch.device) -> Resident:
        """Copy an image set there."""
        images = torch.from_numpy(np.array(data.images, order="C"))
        return cls(images.to(device), torch.from_numpy(data.labels.copy()).to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of the rows in `order`, int64, (M,), so many at a time."""
        for rows in torch.split(order.to(self.labels.device), size) if len(order) else ():
            yield self.images.index_select(0, rows), self.labels.index_select(0, rows)


class Order(Protocol):
    """The order of the training images, epoch by epoch.

    Attributes:
        window: images of a window: the order looks at one part of the source after the other, and warps are drawn
            window by window. All the images where it has no windows.
    """

    window: int

    def epoch(self, epoch: int) -> Tensor:
        """A permutation of the rows for an epoch, from 0, drawn one after another: int64, (N,), on the CPU."""

    def state(self) -> Tensor:
        """The generator as it is, uint8."""

    def restore(self, state: Tensor) -> None:
        """Put the generator back into a state; the epochs after it are drawn again as they were."""


class SeededOrder:
    """Permutations from a generator of its own."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.window, self.generator = n, n, torch.Generator().manual_seed(seed)

    def epoch(self, epoch: int) -> Tensor:
        """A permutation of the rows for the next epoch, int64, (N,), on the CPU."""
        with world.one_thread():
            return torch.randperm(self.n, generator=self.generator)

    def state(self) -> Tensor:
        """The generator as it is, uint8."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Put the generator back into a state."""
        self.generator.set_state(state)


BLOCK = 128 * 2**10
"""Bytes of pixels, some pages, that are drawn together where images lie on a disk."""
WINDOW = 128 * 2**20
"""Bytes of pixels that are mixed with each other there."""
LEAST_WINDOWS = 16
"""Windows that an epoch has at least, however few its images."""
LEAST_BLOCKS = 64
"""Blocks that a window has at least, however short they get."""

_STREAM = 0x626C6F63
"""Keeps these draws apart from others of the same seed."""


class BlockOrder:
    """Permutations that look at a few hundred or thousand runs of neighbouring images at a time.

    The images, in the order of their source, are cut into blocks of equal size behind a first one of random size, so
    that the cuts lie elsewhere in each epoch. The blocks are permuted, the images of one behind those of the other cut
    into windows, and each window is permuted in itself.

    Args:
        n: images.
        seed: of the draws: what is drawn depends on it, the epoch and the three sizes alone.
        block: images of a block.
        window: images of a window.
    """

    def __init__(self, n: int, seed: int, block: int, window: int) -> None:
        self.n, self.seed, self.block, self.window = n, seed, block, window

    @classmethod
    def over(cls, n: int, seed: int, image: int, batch: int) -> BlockOrder:
        """For n images of so many bytes each, in windows of whole batches."""
        window = min(WINDOW // image, n // LEAST_WINDOWS)
        return cls(n, seed, max(1, min(BLOCK // image, window // LEAST_BLOCKS)), max(1, window // batch) * batch)

    def epoch(self, epoch: int) -> Tensor:
        """A permutation of the rows for an epoch, from 0, int64, (N,), on the CPU."""
        rng = np.random.default_rng([_STREAM, self.seed, epoch])
        first = int(rng.integers(self.block))
        starts = np.arange(first - self.block if first else 0, self.n, self.block)
        rng.shuffle(starts)
        rows = (starts[:, None] + np.arange(self.block)).ravel()
        rows = rows[(rows >= 0) & (rows < self.n)]
        for start in range(0, self.n, self.window):
            rng.shuffle(rows[start : start + self.window])
        return torch.from_numpy(rows)

    def state(self) -> Tensor:
        """Nothing that changes, uint8."""
        return torch.zeros(1, dtype=torch.uint8)

    def restore(self, state: Tensor) -> None:
        """Leave it as it is: no epoch depends on another."""


class LoaderOrder:
    """The order that `DataLoader(shuffle=True)` gives in a plain script.

    Such a script draws from PyTorch's global generator three times an epoch: the training loader's base seed, the
    seed of its sampler, which has a generator of its own, and the validation loader's base seed.
    """

    def __init__(self, n: int) -> None:
        self.n, self.window = n, n

    def epoch(self, epoch: int) -> Tensor:
        """A permutation of the rows for an epoch, from 0, int64, (N,), on the CPU; all but the first draw a seed more.

        That seed is the validation loader's in the epoch before: between the two, nothing else is drawn.
        """
        if epoch > 0:
            _draw()
        _draw()
        with world.one_thread():
            return torch.randperm(self.n, generator=torch.Generator().manual_seed(_draw()))

    def state(self) -> Tensor:
        """PyTorch's global generator as it is, uint8."""
        return torch.get_rng_state()

    def restore(self, state: Tensor) -> None:
        """Put PyTorch's global generator back into a state."""
        torch.set_rng_state(state)


def _draw() -> int:
    """A seed from PyTorch's global generator, drawn as its data loaders draw theirs."""
    return int(torch.empty((), dtype=torch.int64).random_().item())
