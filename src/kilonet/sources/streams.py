"""Arrays that come some rows at a time, out of files that unpack to more than is to be held in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import mapped
from kilonet.arrays import conversion, to_classes, to_nchw
from kilonet.errors import DataError
from kilonet.images import ImageSet, Preparation
from kilonet.mapped import Mapped, backing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """An array of a file.

    Attributes:
        shape: its shape, (N, ...).
        dtype: of its values.
        read: gives its rows in their order, some at a time; again from the first each time it is called.
        mapped: the whole of it, where it lies in a mapped file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterator[NDArray[Any]]]
    mapped: NDArray[Any] | None = None

    @classmethod
    def of(cls, array: NDArray[Any]) -> Rows:
        """The rows of an array, mapped or in memory."""
        return cls(array.shape, array.dtype, partial(_slices, array), array)

    @property
    def nbytes(self) -> int:
        """Bytes that all of it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def whole(self) -> NDArray[Any]:
        """All of it; as it is, where it is mapped."""
        if self.mapped is not None:
            return self.mapped
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.read()])


@dataclass(frozen=True)
class Stream:
    """An image set whose images come some at a time.

    Attributes:
        shape: (N, C, H, W).
        pieces: gives the images in their order, uint8, (n, C, H, W); again from the first each time it is called.
        labels, classes, origin, test_from, preparation, notes: as `ImageSet` has them.
    """

    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[np.uint8]]]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    origin: str
    test_from: int | None = None
    preparation: Preparation = "resize"
    notes: tuple[str, ...] = ()

    def whole(self) -> ImageSet:
        """The image set, in memory."""
        images = np.concatenate(list(self.pieces()))
        return ImageSet(
            images, self.labels, self.classes, self.origin, self.test_from, self.preparation, notes=self.notes
        )


def are_many(arrays: Sequence[Rows]) -> bool:
    """Whether the images are too many to be decoded in memory."""
    return sum(array.nbytes for array in arrays) >= mapped.LARGE


def are_ready(images: Sequence[Rows], origin: str) -> bool:
    """Whether many images lie in mapped files as they have to be."""
    return are_many(images) and _as_they_lie(images, origin) is not None


def decode(
    images: Sequence[Rows],
    labels: NDArray[Any],
    origin: str,
    *,
    classes: Sequence[str] | None = None,
    test_from: int | None = None,
) -> ImageSet | Stream:
    """Images from arrays of the usual types and shapes, one behind the other, as `from_arrays` makes them.

    Returns:
        The image set, where it lies in mapped files as it has to be; else a stream of it.

    Raises:
        DataError: for arrays that hold no such images or labels.
    """
    if len({(array.shape[1:], array.dtype) for array in images}) > 1:
        found = sorted(f"{array.shape[1:]} of {array.dtype}" for array in images)
        raise DataError(f"{origin}: training and test do not fit together: {' and '.join(found)}")
    n = sum(array.shape[0] for array in images)
    indices, names = to_classes(labels, origin, classes)
    if n != len(indices):
        raise DataError(f"{origin}: {n} images but {len(indices)} labels")
    if (files := _as_they_lie(images, origin)) is not None:
        return ImageSet(Mapped(files), indices, names, origin, test_from)
    dtype = images[0].dtype
    convert, notes = conversion(_pieces(images, origin), dtype, origin)
    shape = (n, *to_nchw(np.empty((0, *images[0].shape[1:]), np.uint8), origin).shape[1:])

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for piece in _pieces(images, origin):
            yield np.ascontiguousarray(convert(piece))

    return Stream(shape, pieces, indices, names, origin, test_from, notes=notes)


def _as_they_lie(images: Sequence[Rows], origin: str) -> list[NDArray[np.uint8]] | None:
    """The arrays as (n, C, H, W), if they are mapped and nothing of them has to be changed."""
    found = []
    for array in (one.mapped for one in images):
        if array is None or array.dtype != np.uint8 or not array.flags.c_contiguous or backing(array) is None:
            return None
        shape = to_nchw(array[:1], origin).shape[1:]
        if shape[0] > 1 and array.ndim == 4 and array.shape[1:] != shape:
            return None
        found.append(array.reshape(len(array), *shape))
    return found


def _pieces(images: Sequence[Rows], origin: str) -> Iterator[NDArray[Any]]:
    for array in images:
        for piece in array.read():
            yield to_nchw(piece, origin)


def _slices(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), step := rows_of(array.shape, array.dtype)):
        yield array[start : start + step]
        mapped.let_go(array)


def rows_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How many rows of such an array are read together."""
    return max(1, mapped.PIECE // max(1, math.prod(shape[1:]) * dtype.itemsize))
