"""IDX, the format of MNIST's original files, gzipped or not.

Layout (Y. LeCun, "The MNIST database"): two zero bytes, a byte for the type, a byte for the number of
dimensions, each dimension as a big-endian 32-bit number, then the values, big-endian.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.arrays import from_arrays
from kilonet.errors import DataError
from kilonet.files import is_inside
from kilonet.images import ImageSet
from kilonet.sources import cache, packed, pairs, streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_TORCHVISION = "raw"


def is_idx(path: Path) -> bool:
    """Whether a file begins as IDX does, or is named as IDX files are."""
    name = path.name.lower()
    if "idx1" in name or "idx3" in name or "ubyte" in name:
        return True
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 4


def find(path: Path, prefix: str = "", *, follow: bool = False) -> tuple[pairs.Pair, pairs.Pair | None] | None:
    """The pairs of IDX files in a folder, torchvision's layout (`MNIST/raw`, `raw`) included.

    Args:
        path: the folder.
        prefix: only files whose names begin so.
        follow: whether links may lead out of the folder, as they may where the user keeps well-known data.

    Raises:
        DataError: if there are IDX files, but no images with their labels.
    """
    for folder in (path, path / _TORCHVISION, *sorted(path.glob(f"*/{_TORCHVISION}"))):
        if folder.is_dir():
            files = [file for file in sorted(folder.iterdir()) if file.is_file() and (follow or is_inside(file, path))]
            candidates = [file for file in files if is_idx(file)]
            if (found := pairs.parts(folder, candidates, prefix)) is not None:
                return found
            if candidates:
                names = ", ".join(file.name for file in candidates[:4])
                raise DataError(f"{folder}: no images with their labels among {names}")
    return None


def load_folder(path: Path, found: tuple[pairs.Pair, pairs.Pair | None]) -> ImageSet:
    """The training images of a folder, followed by its test images.

    Raises:
        DataError: for files that are not the IDX they should be, or do not belong together.
    """
    train, test = found
    return _cached([train] if test is None else [train, test], str(path))


def load_pair(path: Path) -> ImageSet:
    """A file of images or labels, with its other half.

    Raises:
        DataError: for files that are not the IDX they should be, or an other half that is not there.
    """
    pair = pairs.partner(path)
    if pair is None:
        read(path)
        raise DataError(
            f"can't find the other half of {path}",
            "images and labels lie in one folder, named so, as MNIST's are",
        )
    return _cached([pair], str(pair.images))


def _cached(found: list[pairs.Pair], origin: str) -> ImageSet:
    """What has to be decoded from the cache; raw files as they lie, several of them only if they are large."""
    paths = [file for pair in found for file in (pair.images, pair.labels)]
    if not any(_is_gzip(path) for path in paths):
        images = [rows(pair.images) for pair in found]
        plain = len(found) == 1 and not streams.are_many(images)
        if (plain or streams.are_ready(images, origin)) and isinstance(decoded := decode(found, origin), ImageSet):
            return decoded
    return cache.get("idx", cache.stamps(paths), lambda: decode(found, origin))


def decode(found: list[pairs.Pair], origin: str, classes: Sequence[str] | None = None) -> ImageSet | streams.Stream:
    """The images of all pairs in one set; the second pair is the test part."""
    parts = [_read_pair(pair) for pair in found]
    shapes = {images.shape[1:] for images, _ in parts}
    if len(shapes) > 1:
        raise DataError(f"{origin}: training and test images differ in size: {sorted(shapes)}")
    labels = np.concatenate([labels for _, labels in parts])
    test_from = parts[0][0].shape[0] if len(parts) > 1 else None
    if streams.are_many([images for images, _ in parts]):
        arrays = [images for images, _ in parts]
        return streams.decode(arrays, labels, origin, classes=classes, test_from=test_from)
    images = np.concatenate([images.whole() for images, _ in parts]) if len(parts) > 1 else parts[0][0].whole()
    return from_arrays(images, labels, classes=classes, origin=origin, test_from=test_from)


def _read_pair(pair: pairs.Pair) -> tuple[streams.Rows, NDArray[Any]]:
    images, labels = rows(pair.images), read(pair.labels)
    if len(images.shape) not in (3, 4):
        raise DataError(f"{pair.images}: {len(images.shape)} dimensions: images have 3 (magic number 2051)")
    if labels.ndim != 1:
        raise DataError(f"{pair.labels}: {labels.ndim} dimensions: labels have 1 (magic number 2049)")
    if images.shape[0] != len(labels):
        raise DataError(f"{pair.images} holds {images.shape[0]} images but {pair.labels.name} {len(labels)} labels")
    if images.shape[0] == 0:
        raise DataError(f"{pair.images} holds no images")
    return images, labels


def read(path: Path) -> NDArray[Any]:
    """The array in an IDX file, memory-mapped if it is not gzipped.

    Raises:
        DataError: for a wrong magic number, a size that does not match, or a file cut short.
    """
    return rows(path).whole()


def rows(path: Path) -> streams.Rows:
    """The array in an IDX file, memory-mapped or to be unpacked some rows at a time.

    Raises:
        DataError: for a wrong magic number, or a size that does not match; what is gzipped is read to its end only
            by who reads its rows.
    """
    if not _is_gzip(path):
        if path.suffix == ".gz":
            raise DataError(f"{path} is not gzip, which its name says")
        with path.open("rb") as file:
            dtype, shape, start = _header(file.read(4 + 4 * 255), path)
        _check_size(path.stat().st_size - start, dtype, shape, path)
        return streams.Rows.of(
            np.memmap(path, dtype, "r", start, shape) if math.prod(shape) else np.empty(shape, dtype)
        )
    with _unpacked(path) as stream:
        dtype, shape, start = _header(_read_at_most(stream, 4 + 4 * 255), path)
    packed.check(path, start + math.prod(shape) * dtype.itemsize)
    return streams.Rows(shape, dtype, partial(_unpack, path, dtype, shape, start))


def _unpack(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> Iterator[NDArray[Any]]:
    """The rows of a gzipped file, some at a time."""
    each = math.prod(shape[1:]) * dtype.itemsize
    step = streams.rows_of(shape, dtype)
    with _unpacked(path) as stream:
        _read_at_most(stream, start)
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            content = _read_at_most(stream, count * each)
            if len(content) < count * each:
                _check_size(first * each + len(content), dtype, shape, path)
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])
        _check_size(shape[0] * each + len(_read_at_most(stream, 1)), dtype, shape, path)


@contextmanager
def _unpacked(path: Path) -> Iterator[packed.Unpacked]:
    """The content of a gzipped file; what is wrong with it is a `DataError`."""
    try:
        with packed.Unpacked(path) as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged: {error}") from None


def _read_at_most(stream: packed.Unpacked, limit: int) -> bytearray:
    """Up to so many bytes, in room that is only taken as they come."""
    found = bytearray()
    while len(found) < limit and (chunk := stream.read(min(limit - len(found), 1 << 20))):
        found += chunk
    return found


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _header(head: bytes | bytearray, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and where the values begin."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= 4:
        magic = head[:4].hex() or "nothing"
        raise DataError(f"{path} is not IDX: magic number {magic}: expected 00000803 (images) or 00000801 (labels)")
    start = 4 + 4 * head[3]
    if len(head) < start:
        raise DataError(f"{path} is cut short inside its header")
    return np.dtype(_TYPES[head[2]]), struct.unpack(f">{head[3]}I", head[4:start]), start


def _check_size(found: int, dtype: np.dtype[Any], shape: tuple[int, ...], path: Path) -> None:
    expected = math.prod(shape) * dtype.itemsize
    size = "x".join(map(str, shape))
    if found < expected:
        raise DataError(f"{path} is cut short: {found:,} bytes of the {expected:,} that its header ({size}) asks for")
    if found > expected:
        raise DataError(f"{path} is longer than the {expected:,} bytes that its header ({size}) asks for")


def header(shape: Sequence[int]) -> bytes:
    """What an uncompressed IDX file of bytes, of this shape, begins with."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def encode(array: NDArray[np.uint8]) -> bytes:
    """An array of bytes as an uncompressed IDX file."""
    return header(array.shape) + np.ascontiguousarray(array).tobytes()
