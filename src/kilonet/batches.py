"""Batches from one resident uint8 tensor, and the seeded order in which they come."""

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
    """

    images: Tensor
    labels: Tensor

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
    """The order of the training images, epoch by epoch."""

    def epoch(self, epoch: int) -> Tensor:
        """A permutation of the rows for an epoch, from 0, drawn one after another: int64, (N,), on the CPU."""

    def state(self) -> Tensor:
        """The generator as it is, uint8."""

    def restore(self, state: Tensor) -> None:
        """Put the generator back into a state; the epochs after it are drawn again as they were."""


class SeededOrder:
    """Permutations from a generator of its own."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.generator = n, torch.Generator().manual_seed(seed)

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


class LoaderOrder:
    """The order that `DataLoader(shuffle=True)` gives in a plain script.

    Such a script draws from PyTorch's global generator three times an epoch: the training loader's base seed, the
    seed of its sampler, which has a generator of its own, and the validation loader's base seed.
    """

    def __init__(self, n: int) -> None:
        self.n = n

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
