"""Training images window by window: in memory as a whole, mapped and read where they lie, or loaded a window ahead."""

from __future__ import annotations

import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from kilonet import mapped
from kilonet.batches import Resident
from kilonet.mapped import Mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from kilonet.images import ImageSet


class Windows(Protocol):
    """Training images, for an epoch's windows one after the other."""

    def of(self, windows: Sequence[Tensor]) -> Iterator[tuple[Resident, Tensor]]:
        """For the rows of each window, int64, (M,), what an engine computes on, and what these rows are there."""


def windows(data: ImageSet, device: torch.device) -> Windows:
    """The windows of some images: of those in memory a copy on the device, of mapped ones what lies on the disk."""
    if not isinstance(data.images, Mapped):
        return Whole(Resident.of(data, device))
    found = data.images.in_place() if device.type == "cpu" else None
    return Loaded(data.images, data.labels, device) if found is None else InPlace(data.images, data.labels, *found)


def in_pieces(data: ImageSet, device: torch.device) -> Iterator[Resident]:
    """All the images on the device, in their order: at once those in memory, some at a time those on the disk."""
    if not isinstance(data.images, Mapped):
        yield Resident.of(data, device)
        return
    step = max(1, mapped.PIECE // (data.images.nbytes // len(data)))
    for piece, _ in Loaded(data.images, data.labels, device).of(torch.split(torch.arange(len(data)), step)):
        yield piece


class Whole:
    """Images that are in memory.

    Args:
        data: all of them.
    """

    def __init__(self, data: Resident) -> None:
        self.data = data

    def of(self, windows: Sequence[Tensor]) -> Iterator[tuple[Resident, Tensor]]:
        """All the images, for each window."""
        for rows in windows:
            yield self.data, rows


class InPlace:
    """Images of one mapped file, which the engine reads where they lie: nothing is copied.

    Args:
        images: the view of it.
        labels: int64, (N,).
        file: uint8, (M, C, H, W), the whole file.
        rows: int64, (N,), the row of each image there; None if they are all of it.
    """

    def __init__(
        self, images: Mapped, labels: NDArray[np.int64], file: NDArray[np.uint8], rows: NDArray[np.int64] | None
    ) -> None:
        self._images = images
        self._rows = None if rows is None else torch.from_numpy(rows)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            pixels = torch.from_numpy(file)
        of_file = torch.from_numpy(labels.copy())
        if self._rows is not None:
            of_file = torch.zeros(len(file), dtype=torch.int64).index_copy_(0, self._rows, of_file)
        self._data = Resident(pixels, of_file)

    def of(self, windows: Sequence[Tensor]) -> Iterator[tuple[Resident, Tensor]]:
        """The file for each window; the pages of the next one are asked for, those of the last one let go."""
        coming = deque(windows)
        if len(coming) > 1:
            self._images.want(coming[0].numpy())
        while coming:
            rows = coming.popleft()
            if coming:
                self._images.want(coming[0].numpy())
            yield self._data, rows if self._rows is None else self._rows[rows]
            self._images.let_go()


class Loaded:
    """Images of several mapped files, or for a device with its own memory: each window is copied, a window ahead.

    Args:
        images: the view of them.
        labels: int64, (N,).
        device: that computes.
    """

    def __init__(self, images: Mapped, labels: NDArray[np.int64], device: torch.device) -> None:
        self._images, self._labels, self._device = images, labels, device

    def of(self, windows: Sequence[Tensor]) -> Iterator[tuple[Resident, Tensor]]:
        """The images of each window, in the order of its rows; at most two windows are in memory."""
        coming = deque(windows)
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._load, coming.popleft()) if coming else None
            while following is not None:
                data = following.result()
                following = ahead.submit(self._load, coming.popleft()) if coming else None
                yield data, torch.arange(len(data))
                del data

    def _load(self, rows: Tensor) -> Resident:
        images, labels = self._images[rows.numpy()], self._labels[rows.numpy()]
        self._images.let_go()
        return Resident(torch.from_numpy(images).to(self._device), torch.from_numpy(labels).to(self._device), rows)
