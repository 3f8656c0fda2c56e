"""What NumPy writes, `.npy` and `.npz`, with nothing believed: no objects, and no size but the true one."""

from __future__ import annotations

import io
import math
import sys
import warnings
import zipfile
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from kilonet.errors import DataError
from kilonet.files import printable
from kilonet.sources import packed, streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LONGEST_HEADER = 12 + 1_000
"""Bytes from the start of an `.npy` file in which its header has to end: that of plain arrays takes 128, and what
NumPy does with a broken one takes a second for 10,000."""


def read(path: Path) -> NDArray[Any]:
    """The array in an `.npy` file, memory-mapped.

    Raises:
        DataError: for a file that is none, or holds objects or a single value.
    """
    try:
        with path.open("rb") as file:
            dtype, shape, order, start = _header(file, path.stat().st_size)
        array = np.memmap(path, dtype, "r", start, shape, order) if math.prod(shape) else np.empty(shape, dtype)
        _check_text(array)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no .npy file that can be read: {first_line(error)}") from None
    if array.ndim == 0:
        raise DataError(f"{path} holds a single value: expected one a row")
    return array


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an `.npz` file, by their names in lower case.

    Args:
        path: the file.
        names: those that are to be read; all if None.

    Raises:
        DataError: for a file that is no such archive, is packed in another way than NumPy packs, holds objects or a
            single value, or unpacks to more than can be data.
    """
    with archive(path) as (opened, members):
        chosen = members if names is None else {name: members[name] for name in names}
        packed.check(path, sum(info.file_size for info in chosen.values()))
        arrays = {name: _member(opened, info) for name, info in chosen.items()}
    for name, array in arrays.items():
        _check_rows(array.shape, name, path)
    return arrays


def rows_of_npz(path: Path, names: Sequence[str]) -> list[streams.Rows]:
    """Arrays of an `.npz` file, to be unpacked some rows at a time; one in Fortran's order is read whole.

    Args:
        path: the file.
        names: of the arrays, in lower case; they are all that will be unpacked.

    Raises:
        DataError: as `read_npz` does; what is packed is read to its end only by who reads its rows.
    """
    found = []
    with archive(path) as (opened, members):
        packed.check(path, sum(members[name].file_size for name in names))
        for name in names:
            with _opened(opened, members[name]) as file:
                dtype, shape, order, _ = _header(file, members[name].file_size)
            _check_rows(shape, name, path)
            if order == "F" or not math.prod(shape):
                found.append(streams.Rows.of(_member(opened, members[name])))
            else:
                found.append(streams.Rows(shape, dtype, partial(_unpack, path, name, dtype, shape)))
    return found


def _unpack(path: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """The rows of an array in an `.npz` file, some at a time, held against its checksum at their end."""
    each, step = math.prod(shape[1:]) * dtype.itemsize, streams.rows_of(shape, dtype)
    with archive(path) as (opened, members), _opened(opened, members[name]) as file:
        file.seek(_header(file, members[name].file_size)[3])
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            yield np.frombuffer(file.read(count * each), dtype).reshape(count, *shape[1:])
        file.read(1)


def _check_rows(shape: tuple[int, ...], name: str, path: Path) -> None:
    if not shape:
        raise DataError(f"{path}: {printable(name)[:80]} is a single value: expected one a row")


@contextmanager
def archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """A zip archive and its members, by the names of their arrays; whatever is wrong with it is a `DataError`."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as opened:
            yield opened, {info.filename.removesuffix(".npy").lower(): info for info in opened.infolist()}
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is no .npz file that can be read: {first_line(error)}") from None


def _opened(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{printable(info.filename)} is packed by method {info.compress_type}")
    return opened.open(info)


def _member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with _opened(opened, info) as file:
        dtype, shape, order, start = _header(file, info.file_size)
        file.seek(start)
        array = np.frombuffer(file.read(), dtype).reshape(shape, order=order)
    _check_text(array)
    return array


def _check_text(array: NDArray[Any]) -> None:
    """Hold text against the last character that there is: NumPy makes broken strings of what lies beyond."""
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max(initial=0) > sys.maxunicode:
            raise ValueError("some of its text holds no characters")


def _header(file: IO[bytes], size: int) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"], int]:
    """Type, shape, order and where the values begin, of an `.npy` file of so many bytes.

    Raises:
        ValueError: if it is none, or holds anything but numbers and text, or more or fewer of them than it says.
    """
    head = io.BytesIO(file.read(_LONGEST_HEADER))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(head)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, is_fortran, dtype = readers[version](head)
    except Exception as error:
        raise ValueError(first_line(error)) from None
    if dtype.hasobject or dtype.kind not in "biufcSUmM" or not dtype.itemsize:
        raise ValueError("Python objects are not read" if dtype.hasobject else f"values of type {dtype} are not read")
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != size - head.tell():
        size_text = "x".join(map(str, shape))
        raise ValueError(f"{size - head.tell():,} bytes, but its header asks for {size_text[:60]} of {dtype}")
    return dtype, shape, "F" if is_fortran else "C", head.tell()


def first_line(error: Exception) -> str:
    """What an error of a library says, as far as it fits a line."""
    return printable((str(error).splitlines() or [""])[0])[:160] or type(error).__name__
