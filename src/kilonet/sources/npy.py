"""NumPy's own formats: `.npy` pairs and `.npz`, never with pickled objects inside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.arrays import from_arrays
from kilonet.errors import DataError
from kilonet.files import is_inside, printable
from kilonet.images import ImageSet
from kilonet.sources import cache, npyfile, pairs, streams

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_KEYS = [("images", "labels"), ("x", "y"), ("data", "target"), ("data", "labels"), ("arr_0", "arr_1")]
_CLASSES = ("classes", "class_names")
_PARTS = [("train", "val", "test"), ("training", "validation", "testing")]


def find(path: Path) -> tuple[pairs.Pair, pairs.Pair | None] | None:
    """The pairs of `.npy` files in a folder."""
    candidates = [file for file in sorted(path.iterdir()) if file.suffix == ".npy" and file.is_file()]
    return pairs.parts(path, [file for file in candidates if is_inside(file, path)])


def load_folder(path: Path, found: tuple[pairs.Pair, pairs.Pair | None]) -> ImageSet:
    """The training images of a folder, followed by its test images."""
    train, test = found
    if test is None:
        return _load([train], str(train.images))
    return _load([train, test], str(path))


def load_pair(path: Path) -> ImageSet:
    """A file of images or labels, with its other half.

    Raises:
        DataError: for files that are not `.npy`, do not fit together, or an other half that is not there.
    """
    pair = pairs.partner(path)
    if pair is None:
        npyfile.read(path)
        raise DataError(
            f"can't find the other half of {path}", "name them images.npy and labels.npy, or x.npy and y.npy"
        )
    return _load([pair], str(pair.images))


def load_npz(path: Path) -> ImageSet:
    """An `.npz`: `images` and `labels` (or `x` and `y`, `data` and `target`), or both for `train` and `test`.

    Raises:
        DataError: for a file that is no such archive, or arrays that hold no labelled images.
    """
    return cache.get("npz", cache.stamps([path]), lambda: _decode_npz(path))


def _load(found: list[pairs.Pair], origin: str) -> ImageSet:
    """The images of all pairs in one set; the second pair is the test part. What has to be made of them is cached."""
    images = [streams.Rows.of(npyfile.read(pair.images)) for pair in found]
    decode = partial(_decode, found, origin)
    plain = len(found) == 1 and not streams.are_many(images)
    if (plain or streams.are_ready(images, origin)) and isinstance(decoded := decode(), ImageSet):
        return decoded
    return cache.get("npy", cache.stamps([file for pair in found for file in (pair.images, pair.labels)]), decode)


def _decode(found: list[pairs.Pair], origin: str) -> ImageSet | streams.Stream:
    images = [streams.Rows.of(npyfile.read(pair.images)) for pair in found]
    return _join(images, [npyfile.read(pair.labels) for pair in found], origin, has_test=len(found) > 1)


def _join(
    images: list[streams.Rows], labels: list[NDArray[Any]], origin: str, *, has_test: bool, classes: Any = None
) -> ImageSet | streams.Stream:
    for some, their in zip(images, labels, strict=True):
        if some.shape[0] != len(their):
            raise DataError(f"{origin}: {some.shape[0]} images but {len(their)} labels")
    try:
        all_labels = np.concatenate(labels)
        test_from = sum(some.shape[0] for some in images[:-1]) if has_test else None
        if streams.are_many(images):
            return streams.decode(images, all_labels, origin, classes=classes, test_from=test_from)
        joined = np.concatenate([some.whole() for some in images]) if len(images) > 1 else images[0].whole()
    except ValueError as error:
        raise DataError(f"{origin}: training and test do not fit together: {error}") from None
    return from_arrays(joined, all_labels, origin=origin, test_from=test_from, classes=classes)


def _decode_npz(path: Path) -> ImageSet | streams.Stream:
    with npyfile.archive(path) as (_, members):
        names = set(members)
    chosen, has_test = _choose(names, path)
    arrays = npyfile.read_npz(path, {y for _, y in chosen} | (names & set(_CLASSES)))
    classes = next((arrays[name].tolist() for name in _CLASSES if name in arrays), None)
    images = npyfile.rows_of_npz(path, [x for x, _ in chosen])
    return _join(images, [arrays[y] for _, y in chosen], str(path), has_test=has_test, classes=classes)


def _choose(keys: set[str], path: Path) -> tuple[list[tuple[str, str]], bool]:
    """The names of images and labels, part by part, and whether the last of them is a test part."""
    for images, labels in _KEYS:
        for parts in _PARTS:
            for pattern in ("{0}_{1}", "{1}_{0}"):
                named = [(pattern.format(images, part), pattern.format(labels, part)) for part in parts]
                found = [pair for pair in named if set(pair) <= keys]
                if named[0] in found:
                    return found, named[2] in found
        if {images, labels} <= keys:
            return [(images, labels)], False
    shown = printable(", ".join(sorted(keys)))[:160] or "nothing"
    raise DataError(f"{path} holds {shown}: expected images and labels, or x_train, y_train, ...")
