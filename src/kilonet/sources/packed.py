"""Packed data, which may hold far more than its file: how much more is believed, and gzip read no further than that."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

from kilonet.errors import DataError
from kilonet.files import printable

if TYPE_CHECKING:
    from pathlib import Path

ALLOWANCE = 16 * 2**20
"""Bytes that any file may unpack to."""
RATIO = 100
"""Bytes that each packed byte may unpack to, beyond that: MNIST needs 5, and 25 in 64-bit numbers."""
TEXT_RATIO = 40
"""The same of text, which takes ten times its length to be read: numbers from 0 to 255 need 7, fractions 30."""
DEFLATE = 1032
"""Bytes that deflate can make of one at the very most."""


def most(packed: int, ratio: int = RATIO) -> int:
    """The bytes that a file of so many bytes may unpack to."""
    return max(ALLOWANCE, ratio * packed)


def check(path: Path, unpacked: int, ratio: int = RATIO, packed: int | None = None) -> None:
    """Hold what packed bytes unpack to, or say that they will, against their number.

    Args:
        path: the file.
        unpacked: bytes.
        ratio: bytes that each packed byte may unpack to.
        packed: bytes; those of the whole file if None.

    Raises:
        DataError: if it is too much to be data, or more than there can be.
    """
    name, size = printable(str(path)), path.stat().st_size if packed is None else packed
    if unpacked > DEFLATE * size:
        raise DataError(f"{name} is cut short: {size:,} bytes can't unpack to the {unpacked:,} that it asks for")
    if unpacked > most(size, ratio):
        raise DataError(
            f"{name}: {size:,} bytes unpack to {unpacked:,}: at most {most(size, ratio):,} are believed",
            "unpack it first, if it is what it should be",
        )


def check_content(path: Path, ratio: int = RATIO) -> None:
    """Unpack a gzip file to nowhere, to see how much it holds before anything is made of it.

    Raises:
        DataError: if it is too much to be data.
    """
    with Unpacked(path, ratio) as stream:
        while stream.read(1 << 20):
            pass


class Unpacked(io.RawIOBase):
    """The content of a gzip file, as a stream that refuses to go on once it is too much to be data.

    Args:
        path: the file.
        ratio: bytes that each of its bytes may unpack to.
    """

    def __init__(self, path: Path, ratio: int = RATIO) -> None:
        super().__init__()
        self._path, self._ratio = path, ratio
        self._file = path.open("rb")
        self._stream = gzip.GzipFile(fileobj=self._file)
        self._read = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, as far as there is anything left.

        Raises:
            DataError: if more comes than a file of this size may hold.
        """
        count = self._stream.readinto(buffer)
        self._read += count
        if self._read > ALLOWANCE:
            check(self._path, self._read, self._ratio, self._file.tell())
        return count

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._file.close()
        super().close()
