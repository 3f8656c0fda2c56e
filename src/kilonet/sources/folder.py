"""A folder of class folders, each full of pictures in any format that Pillow reads."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from kilonet import mapped
from kilonet.arrays import natural
from kilonet.errors import DataError
from kilonet.files import is_inside, printable
from kilonet.images import ImageSet
from kilonet.pictures import read_picture
from kilonet.sources import cache, packed, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_ALLOWANCE = 128 * 2**20
"""Bytes of pixels that any folder may unpack to; beyond that they are held against the size of its files."""
_PARTS = ({"train", "training"}, {"val", "valid", "validation"}, {"test", "testing"})


def load(path: Path) -> ImageSet:
    """The pictures of a folder: its subfolders are the classes, in natural order (2 before 10).

    A folder of `train` and `test` (and `val`; or `training`, ...) is taken as these parts, what validates behind
    what trains. Names that begin with a dot, and links that lead out of the folder, are passed over.

    Raises:
        DataError: for an empty folder, one class, a broken picture, or pictures of different size.
    """
    roots, has_test = _roots(path)
    listing = [_pictures(root, path) for root in roots]
    files = [file for part in listing for pictures in part.values() for file in pictures]
    names = sorted({name for part in listing for name in part}, key=natural)
    if not files:
        raise DataError(f"{path} holds no pictures", "expected a folder a class, with pictures in each")
    if len({printable(name) for name in names}) < len(names):
        raise DataError(f"{path} holds classes whose names differ by what can't be printed", "rename them first")
    if len(names) < 2:
        raise DataError(f"{path} holds pictures of one class only, {printable(names[0])!r}: expected two at least")
    return cache.get("folder", cache.stamps(files), lambda: _decode(path, listing, names, has_test))


def _roots(path: Path) -> tuple[list[Path], bool]:
    """The folders of class folders, in the order of their images, and whether the last is a test part."""
    folders = _folders(path, path)
    found = [[child for child in folders if child.name.lower() in names] for names in _PARTS]
    if all(len(some) <= 1 for some in found) and len(found[0]) and sum(map(len, found)) == len(folders) > 1:
        return [child for some in found for child in some], bool(found[2])
    return [path], False


def _folders(path: Path, top: Path) -> list[Path]:
    shown = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
    return [child for child in shown if child.is_dir() and is_inside(child, top)]


def _pictures(root: Path, top: Path) -> dict[str, list[Path]]:
    """The files of each class."""
    classes: dict[str, list[Path]] = {}
    for folder in _folders(root, top):
        files = [
            file
            for file in sorted(folder.rglob("*"), key=lambda p: natural(str(p)))
            if file.is_file() and not file.name.startswith(".") and is_inside(file, top)
        ]
        if files:
            classes[folder.name] = files
        else:
            raise DataError(f"the class folder {printable(str(folder))} is empty", "fill it or remove it")
    return classes


def _decode(
    path: Path, listing: list[dict[str, list[Path]]], names: list[str], has_test: bool
) -> ImageSet | streams.Stream:
    named = [(name, file) for part in listing for name in names for file in part.get(name, [])]
    files = [file for _, file in named]
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index[name] for name, _ in named], np.int64)
    test_from = len(files) - sum(map(len, listing[-1].values())) if has_test else None
    classes = tuple(printable(name) for name in names)
    if read_picture(files[0]).size * len(files) < mapped.LARGE:
        return ImageSet(_stack(list(_read_all(path, files))), labels, classes, str(path), test_from)
    coloured = any(picture.ndim == 3 for picture in _read_all(path, files))
    height, width = read_picture(files[0]).shape[:2]

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for some in _together(_read_all(path, files), max(1, mapped.PIECE // (3 * height * width))):
            yield _stack(some, coloured=coloured)

    shape = (len(files), 3 if coloured else 1, height, width)
    return streams.Stream(shape, pieces, labels, classes, str(path), test_from)


def _read_all(path: Path, files: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """The pictures in some files, all of one size, and not far more of them than the files have bytes."""
    pixels = size = 0
    first: NDArray[np.uint8] | None = None
    for file in files:
        picture = read_picture(file)
        first = picture if first is None else first
        pixels, size = pixels + picture.nbytes, size + file.stat().st_size
        if pixels > max(_ALLOWANCE, packed.RATIO * size):
            raise DataError(
                f"{printable(str(path))}: pictures in {size:,} bytes unpack to {pixels:,}: more than is believed",
                "make them smaller first",
            )
        if picture.shape[:2] != first.shape[:2]:
            raise DataError(
                f"pictures of different size: {_size(first)} in {printable(str(files[0]))}, "
                f"{_size(picture)} in {printable(str(file))}",
                "make them one size first",
            )
        yield picture


def _together(pictures: Iterator[NDArray[np.uint8]], most: int) -> Iterator[list[NDArray[np.uint8]]]:
    """So many pictures at a time."""
    while some := list(islice(pictures, most)):
        yield some


def _stack(images: list[NDArray[np.uint8]], *, coloured: bool | None = None) -> NDArray[np.uint8]:
    """All pictures as (N, 3, H, W) if any is coloured, or if that is asked for; else as (N, 1, H, W)."""
    if coloured is None:
        coloured = any(image.ndim == 3 for image in images)
    stacked = np.empty((len(images), 3 if coloured else 1, *images[0].shape[:2]), np.uint8)
    for row, image in zip(stacked, images, strict=True):
        row[:] = image if image.ndim == 2 else image.transpose(2, 0, 1)
    return stacked


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
