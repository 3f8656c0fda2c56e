"""`Mapped`: pixels that stay on the disk, mapped into memory, from one file or several, all of them or some rows.

Pages of a mapped file come into memory when they are looked at, and go when others need the room; nothing here copies
more than it is asked for.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LARGE = 512 * 2**20
"""Bytes of pixels from which on a mapped file stays on the disk; fewer are copied into memory where that is quicker."""
SMALL = 64 * 2**20
"""Bytes below which some rows of it are copied, so that a sample is a plain array."""
PIECE = 16 * 2**20
"""Bytes of pixels that are looked at together where all have to be."""
_BIT = 2**20
"""Bytes that rows from everywhere are read in: with each image come the pages around it."""
_PAGES = mmap.PAGESIZE
"""Bytes that pages are asked for in."""


class Mapped:
    """Pixels, uint8, (N, C, H, W), that lie in mapped files one behind the other; read-only.

    It is indexed as an array is, and each answer is a copy in memory; `take` gives another such view instead.

    Args:
        files: uint8, (n, C, H, W) each, contiguous.
        rows: int64, (N,), which rows of these, counted through, and in what order; all of them if None.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, files: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64] | None = None) -> None:
        self.files, self.rows = tuple(files), rows
        self._ends = np.cumsum([len(file) for file in self.files])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return len(self), *self.files[0].shape[1:]

    @property
    def nbytes(self) -> int:
        """Bytes that a copy would take."""
        return math.prod(self.shape)

    def __getitem__(self, which: int | slice | NDArray[Any]) -> NDArray[np.uint8]:
        """A copy of an image, or of those at some positions."""
        if isinstance(which, (int, np.integer)):
            at = range(len(self))[which]
            image: NDArray[np.uint8] = self._read(np.array([at]) if self.rows is None else self.rows[[at]])[0]
            return image
        if isinstance(which, slice) and self.rows is None:
            start, stop, step = which.indices(len(self))
            if step == 1:
                return self._span(start, max(start, stop))
        return self._read(self._source_rows(which))

    def take(self, which: slice | NDArray[Any]) -> Mapped | NDArray[np.uint8]:
        """Those at some positions, as a view; few of them as a copy."""
        if isinstance(which, slice) and self.rows is None and which.indices(len(self))[2] == 1:
            start, stop, _ = which.indices(len(self))
            found = Mapped(self._cut(start, max(start, stop)))
        else:
            found = Mapped(self.files, self._source_rows(which))
        if found.nbytes >= SMALL:
            return found
        copied, done = np.empty(found.shape, np.uint8), 0
        for piece in found.pieces(_BIT):
            copied[done : done + len(piece)] = piece
            done += len(piece)
        return copied

    def pieces(self, most: int = PIECE) -> Iterator[NDArray[np.uint8]]:
        """Copies of all the images in their order, some at a time; behind each its pages are let go.

        Args:
            most: bytes of a piece, but for an image that is larger.
        """
        step = max(1, most // math.prod(self.shape[1:]))
        for start in range(0, len(self), step):
            yield self[start : start + step]
            self.let_go()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for piece in self.pieces():
            yield from piece

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """A copy of all the pixels."""
        if copy is False:
            raise ValueError("mapped pixels can't become an array without a copy")
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)

    def in_place(self) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None] | None:
        """The one file's array that all the images lie in, and the row of each there; None if they lie in several."""
        if len(self.files) == 1:
            return self.files[0], self.rows
        if self.rows is None or not len(self.rows):
            return None
        first, last = (int(np.searchsorted(self._ends, row, "right")) for row in (self.rows.min(), self.rows.max()))
        before = int(self._ends[first]) - len(self.files[first])
        return (self.files[first], self.rows - before) if first == last else None

    def want(self, which: NDArray[np.int64]) -> None:
        """Tell the system that the pages of the images at some positions will be looked at soon."""
        rows, size = which if self.rows is None else self.rows[which], math.prod(self.shape[1:])
        of_file = np.searchsorted(self._ends, rows, "right")
        for number, file in enumerate(self.files):
            map_ = backing(file)
            if map_ is None or not hasattr(mmap, "MADV_WILLNEED"):
                continue
            here = rows[of_file == number] - (int(self._ends[number]) - len(file))
            begin = file.ctypes.data - np.frombuffer(map_, np.uint8).ctypes.data
            for start, stop in _runs((begin + here * size) // _PAGES, size // _PAGES + 2):
                if start * _PAGES < len(map_):
                    map_.madvise(mmap.MADV_WILLNEED, start * _PAGES, min(stop * _PAGES, len(map_)) - start * _PAGES)

    def let_go(self) -> None:
        """Tell the system that the pages looked at so far aren't needed now; its cache keeps them while it has room."""
        for file in self.files:
            let_go(file)

    def _source_rows(self, which: slice | NDArray[Any]) -> NDArray[np.int64]:
        if self.rows is not None:
            return self.rows[which]
        if isinstance(which, slice):
            return np.arange(*which.indices(len(self)))
        which = np.asarray(which)
        if which.dtype == np.bool_:
            if which.shape != (len(self),):
                raise IndexError(f"a mask of shape {which.shape} for {len(self)} images")
            return np.flatnonzero(which)
        if which.size and (which.min() < -len(self) or which.max() >= len(self)):
            raise IndexError(f"rows from {which.min()} to {which.max()} of {len(self)}")
        return np.where(which < 0, which + len(self), which).astype(np.int64)

    def _cut(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        """What the files hold between two rows; an empty array of the first where there is nothing."""
        found, before = [], 0
        for file in self.files:
            some = file[max(0, start - before) : max(0, stop - before)]
            found += [some] if len(some) else []
            before += len(file)
        return found or [self.files[0][:0]]

    def _span(self, start: int, stop: int) -> NDArray[np.uint8]:
        found = self._cut(start, stop)
        return np.array(found[0], order="C") if len(found) == 1 else np.concatenate(found)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of some rows, counted through all files; rising ones are read in one go through each."""
        if len(self.files) == 1:
            return np.take(self.files[0], rows, 0)
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        of_file = np.searchsorted(self._ends, rows, "right")
        for number, file in enumerate(self.files):
            here = np.flatnonzero(of_file == number)
            if len(here):
                found[here] = np.take(file, rows[here] - (int(self._ends[number]) - len(file)), 0)
        return found


def _runs(numbers: NDArray[np.int64], length: int) -> list[tuple[int, int]]:
    """Where the numbers that lie among some, or so little above one of them, begin and end, run by run."""
    there = np.zeros(int(numbers.max(initial=0)) + length + 1, bool)
    for more in range(length):
        there[numbers + more] = True
    edges = np.flatnonzero(np.diff(there, prepend=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


Pixels = Mapped | np.ndarray[Any, np.dtype[np.uint8]]
"""uint8, (N, C, H, W): in memory, or in mapped files."""


def lazily(images: NDArray[np.uint8]) -> Pixels:
    """An array as it is; as `Mapped` if it is all of a mapped file, or a run of its rows, and large."""
    map_ = backing(images)
    if map_ is None or images.nbytes < LARGE or not images.flags.c_contiguous:
        return images
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page is 16 blocks: with it come 15 that nobody asked for
        with suppress(OSError):
            map_.madvise(mmap.MADV_NOHUGEPAGE)
    return Mapped([images])


def pieces(images: Pixels) -> Iterator[NDArray[np.uint8]]:
    """All images in their order, contiguous, some at a time."""
    if isinstance(images, Mapped):
        yield from images.pieces()
        return
    step = max(1, PIECE // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        yield np.ascontiguousarray(images[start : start + step])


def let_go(array: NDArray[Any]) -> None:
    """Give back the pages of the file that an array lies in, if it does: they are read again where they are needed."""
    if (map_ := backing(array)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        map_.madvise(mmap.MADV_DONTNEED)


def backing(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapping that an array lies in, if it does, and if that can't differ from its file."""
    base: object = array
    shared = False
    while isinstance(base, np.ndarray):
        shared = shared or (isinstance(base, np.memmap) and base.mode in ("r", "r+"))
        base = base.base
    return base if isinstance(base, mmap.mmap) and shared else None
