"""How arrays of the usual types and shapes become an `ImageSet`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import DataError
from kilonet.files import printable
from kilonet.images import ImageSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from kilonet.images import Preparation


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    origin: str = "arrays",
    test_from: int | None = None,
    preparation: Preparation = "resize",
) -> ImageSet:
    """An image set from arrays of the usual types and shapes.

    Args:
        images: (N, H, W), (N, H, W, 1 or 3), (N, 1 or 3, H, W), or flat rows of a square image, (N, H*H) or
            (N, 3*H*H); whole numbers from 0 to 255, or floats from 0 to 1, which are multiplied by 255.
        labels: (N,) or (N, 1), whole numbers, or text.
        classes: names of the classes; from the labels if None.
        origin: where the arrays came from, for people and error messages.
        test_from: row at which the test part begins, if there is one.
        preparation: see `ImageSet`.

    Raises:
        DataError: for arrays that hold no such images or labels; the message names the first row at fault.
    """
    pixels, notes = _to_uint8(to_nchw(np.asarray(images), origin), origin)
    indices, names = to_classes(np.asarray(labels), origin, classes)
    if len(pixels) != len(indices):
        raise DataError(f"{origin}: {len(pixels)} images but {len(indices)} labels")
    return ImageSet(pixels, indices, names, origin, test_from, preparation, notes=notes)


def _to_uint8(pixels: NDArray[Any], origin: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Pixels of any numeric type as uint8, and what has to be said about it."""
    if pixels.size == 0:
        return pixels.astype(np.uint8), ()
    convert, notes = conversion([pixels], pixels.dtype, origin)
    return convert(pixels), notes


def conversion(
    pieces: Iterable[NDArray[Any]], dtype: np.dtype[Any], origin: str
) -> tuple[Callable[[NDArray[Any]], NDArray[np.uint8]], tuple[str, ...]]:
    """How pixels of any numeric type become uint8, and what has to be said about it.

    Args:
        pieces: all of them, some images at a time; not looked at where the type says enough.
        dtype: their type.
        origin: where they came from, for error messages.

    Raises:
        DataError: if they are no numbers from 0 to 255; the message names the first image at fault.
    """
    if dtype == np.uint8:
        return _cast, ()
    if dtype == np.bool_:
        return _from_truth, ("pixels were true and false: taken as 255 and 0",)
    if dtype.kind not in "iuf":
        raise DataError(f"{origin}: pixels of type {dtype}: expected numbers from 0 to 255")
    before, most, whole = 0, 0.0, True
    for pixels in pieces:
        wrong = ~((pixels >= 0) & (pixels <= 255))
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            value, image = pixels[where], before + where[0]
            raise DataError(f"{origin}: pixel {value} in image {image}: expected a number from 0 to 255")
        if dtype.kind == "f":
            most, whole = max(most, float(pixels.max(initial=0))), whole and bool((np.rint(pixels) == pixels).all())
        before += len(pixels)
    if dtype.kind in "iu":
        return _cast, ()
    if most <= 1:
        return _from_0_to_1, ("pixels ran from 0 to 1: multiplied by 255",)
    return _round, () if whole else ("pixels were fractions: rounded to whole numbers",)


def _cast(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8, copy=False)


def _from_truth(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8) * np.uint8(255)


def _from_0_to_1(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(pixels * 255), np.uint8)


def _round(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(pixels), np.uint8)


def to_nchw(pixels: NDArray[Any], origin: str) -> NDArray[Any]:
    """Pixels as (N, C, H, W), from (N, H, W), (N, H, W, 1 or 3), (N, 1 or 3, H, W) or flat rows of square images.

    Raises:
        DataError: for another shape.
    """
    shape = pixels.shape
    if pixels.ndim == 2:
        return pixels.reshape(len(pixels), *square_shape(shape[1], origin))
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and shape[1] in (1, 3):
        return pixels
    if pixels.ndim == 4 and shape[3] in (1, 3):
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    raise DataError(f"{origin}: images of shape {shape}: expected (N, H, W), (N, H, W, 1 or 3) or flat rows")


def square_shape(pixels: int, origin: str) -> tuple[int, int, int]:
    """Channels, height and width of a square image with so many pixels: (1, s, s), else (3, s, s).

    Raises:
        DataError: if there is no such square.
    """
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side and channels * side * side == pixels:
            return channels, side, side
    raise DataError(
        f"{origin}: rows of {pixels} pixels are no square image",
        "expected a label and H*H (or 3*H*H) pixels a row; is a label column missing, or one too many?",
    )


def to_classes(
    labels: NDArray[Any], origin: str, classes: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as indices, int64, (N,), and the names that they stand for.

    Text becomes names in natural order (2 before 10). Whole numbers index `classes` if these are given;
    otherwise each number that occurs is a class, named by itself.

    Raises:
        DataError: for labels that are missing, negative, fractions, or far out of range.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{origin}: labels of shape {labels.shape}: expected one a row")
    if labels.dtype.kind in "OUS":
        return _named(labels, origin)
    if labels.dtype.kind not in "iufb":
        raise DataError(f"{origin}: labels of type {labels.dtype}: expected whole numbers or text")
    whole = np.isfinite(labels) & (labels >= 0) & (labels < 2**31)
    whole &= np.where(whole, labels, 0) == np.where(whole, labels, 0).astype(np.int64)
    if not whole.all():
        row = int(np.argmin(whole))
        raise DataError(f"{origin}: label {labels[row]} in row {row}: expected a whole number from 0")
    indices = labels.astype(np.int64)
    if classes is not None:
        names = tuple(printable(str(name)).strip() for name in classes)
        if len(set(names)) < len(names) or "" in names or any(isinstance(name, list) for name in classes):
            raise DataError(f"{origin}: the class names are not one name a class, all different")
        if len(indices) and indices.max() >= len(names):
            row = int(np.argmax(indices >= len(names)))
            raise DataError(f"{origin}: label {indices[row]} in row {row} is out of range: {len(names)} classes")
        return indices, names
    return _numbered(indices, origin)


def _named(labels: NDArray[Any], origin: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Text as indices into its names; of equal texts, which may be millions, one alone becomes a Python object."""
    values, where = (labels, None) if labels.dtype.kind == "O" else np.unique(labels, return_inverse=True)
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values.tolist()]
    for at, text in enumerate(texts):
        if text is None or text != text or not str(text).strip():
            row = at if where is None else int(np.argmax(where == at))
            raise DataError(f"{origin}: the label in row {row} is missing")
    texts = [printable(str(text).strip()) for text in texts]
    names = tuple(sorted(set(texts), key=natural))
    index = {name: i for i, name in enumerate(names)}
    indices = np.array([index[text] for text in texts], np.int64)
    return (indices if where is None else indices[where]), names


def _numbered(labels: NDArray[np.int64], origin: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Each number that occurs is a class; one that lies far above the count of them is no label."""
    numbers, indices = np.unique(labels, return_inverse=True)
    limit = 2 * len(numbers) + 10
    if len(numbers) and numbers[-1] >= limit:
        row = int(np.argmax(labels >= limit))
        raise DataError(
            f"{origin}: label {labels[row]} in row {row} is out of range: only {len(numbers)} different labels occur",
            "number the classes from 0, or name them by text",
        )
    return indices.astype(np.int64), tuple(str(n) for n in numbers)


def natural(text: str) -> tuple[tuple[int, int, str, str], ...]:
    """A sort key in which numbers inside a text count as numbers, of any length: 2 before 10."""
    return tuple(
        (0, len(number := part.lstrip("0")), number, part) if part.isdecimal() and part.isascii() else (1, 0, part, "")
        for part in re.split(r"([0-9]+)", text)
        if part
    )
