"""CSV: a row an image, a column for the label, a column a pixel; gzipped or not, with a header or without."""

from __future__ import annotations

import csv
import io
import warnings
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import mapped
from kilonet.arrays import from_arrays, square_shape
from kilonet.errors import DataError
from kilonet.files import printable
from kilonet.images import ImageSet
from kilonet.sources import cache, packed, streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_COLUMNS = 256 * 256 + 1
"""A label and pixels; a table takes its reader longer by the column than by the byte."""
_VALUES = 2**22
"""Cells of a table that are read together, where it is read in pieces."""
_PACKED = 8
"""Bytes of text that a gzipped byte is taken for, to tell whether a table is large."""
_LABEL_NAMES = ("label", "labels", "class", "target", "y", "digit", "category")


def load(path: Path) -> ImageSet:
    """The images in a CSV file.

    The label's column is the one named `label` (or `class`, `target`, `y`, ...) in the header; without such a
    name it is the first, or the last where only that one can be it.

    Raises:
        DataError: for a file that is not such a table; the message names the first row at fault.
    """
    return cache.get("csv", cache.stamps([path]), lambda: _decode(path))


def _decode(path: Path) -> ImageSet | streams.Stream:
    header = _header(path)
    if path.stat().st_size * (_PACKED if path.suffix.lower() == ".gz" else 1) >= mapped.LARGE:
        return _in_pieces(path, header)
    frame = _read(path, header)
    at = _label_column(header, frame)
    pixels = frame.drop(columns=frame.columns[at])
    square_shape(pixels.shape[1], str(path))
    labels = frame.iloc[:, at]
    _check_labels(labels, path, header)
    values = labels.to_numpy() if labels.dtype.kind in "iuf" else np.array(labels.astype(str), object)
    return from_arrays(_numbers(pixels, path, header), values, origin=str(path))


def _in_pieces(path: Path, header: list[str] | None) -> ImageSet | streams.Stream:
    """A table that would fill the memory, read some lines at a time, and three times; the first ones tell the label."""
    import pandas as pd

    if path.suffix.lower() == ".gz":
        packed.check_content(path, packed.TEXT_RATIO)
    first = next(_frames(path, header), None)
    if first is None or first.empty:
        raise DataError(f"{path} holds no images")
    at, columns = _label_column(header, first), first.shape[1] - 1
    square_shape(columns, str(path))
    label = first.columns[at]

    def pixels() -> Iterator[Any]:
        for frame in _frames(path, header, label):
            yield _numbers(frame.drop(columns=label), path, header)

    words, dtypes = [], set()
    for frame in _frames(path, header, label):
        _check_labels(frame[label], path, header)
        words.append(np.array(frame[label], object))
        dtypes.add(_numbers(frame.drop(columns=label), path, header).dtype)
    labels = np.concatenate(words)
    numbers = pd.to_numeric(pd.Series(labels), errors="coerce")
    rows = streams.Rows((len(labels), columns), np.result_type(*dtypes), pixels)
    return streams.decode([rows], labels if numbers.isna().any() else numbers.to_numpy(), str(path))


def _frames(path: Path, header: list[str] | None, label: Any = None) -> Iterator[Any]:
    """The table, some lines at a time; the column of this name as it is written."""
    import pandas as pd

    with _reading(path), _open(path) as file:
        columns = len(next(csv.reader(file)))
    with _open(path) as file:
        with _reading(path):
            frames = pd.read_csv(
                file, header=None if header is None else 0, low_memory=False, index_col=False,
                dtype=None if label is None else {label: str}, chunksize=max(1, _VALUES // columns),
            )  # fmt: skip
        while True:
            with _reading(path):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever pandas finds wrong with the file is a `DataError`."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is no CSV file that can be read: {printable(str(error).strip())[:160]}") from None


def _check_labels(labels: Any, path: Path, header: list[str] | None) -> None:
    if labels.isna().any():
        raise DataError(f"{path}: the label in line {_line(labels.isna(), header)} is missing")


def _header(path: Path) -> list[str] | None:
    """The names in the first line, or None if that line is data already.

    Names are words, or the label's name among numbers that are all different, as pixels hardly are.
    """
    try:
        with _open(path) as file:
            first = next(csv.reader(file), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file that can be read: {printable(str(error))[:160]}") from None
    if len(first) < 2:
        raise DataError(f"{path} is no table of images: expected a label and pixels, separated by commas")
    if len(first) > _MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(first):,} columns: expected at most {_MOST_COLUMNS:,}", "use .npy or pictures"
        )
    names = [cell.strip().lower() for cell in first]
    words = sum(not _is_number(cell) for cell in first)
    numbered = words == 1 and not {names[0], names[-1]}.isdisjoint(_LABEL_NAMES) and len(set(names)) == len(names)
    return names if numbered or 2 * words > len(names) else None


def _open(path: Path) -> io.TextIOWrapper:
    """The text of a file, which is as long as may be believed if it is packed."""
    raw = packed.Unpacked(path, packed.TEXT_RATIO) if path.suffix.lower() == ".gz" else path.open("rb", buffering=0)
    return io.TextIOWrapper(io.BufferedReader(raw, 1 << 20), encoding="utf-8-sig", newline="")


def _read(path: Path, header: list[str] | None) -> Any:
    import pandas as pd

    with _reading(path):
        if path.suffix.lower() == ".gz":
            packed.check_content(path, packed.TEXT_RATIO)
        with _open(path) as file:
            frame = pd.read_csv(file, header=None if header is None else 0, low_memory=False, index_col=False)
    if frame.empty:
        raise DataError(f"{path} holds no images")
    return frame


def _label_column(header: list[str] | None, frame: Any) -> int:
    if header is not None:
        for name in _LABEL_NAMES:
            if name in header:
                return header.index(name)
    first, last = frame.iloc[:, 0], frame.iloc[:, -1]
    text = [column.dtype.kind not in "iuf" for column in (first, last)]
    if text[1] and not text[0]:
        return int(frame.shape[1]) - 1
    only_last = first.nunique() == 1 and last.nunique() > 1 and not text[0]
    return int(frame.shape[1]) - 1 if only_last else 0


def _numbers(pixels: Any, path: Path, header: list[str] | None) -> Any:
    """The pixels as an array of numbers, or the first cell that is none."""
    import pandas as pd

    if all(dtype.kind in "iu" for dtype in pixels.dtypes):
        return pixels.to_numpy()
    for name in pixels.columns:
        column = pixels[name]
        try:
            numbers = column if column.dtype.kind in "iuf" else pd.to_numeric(column, errors="coerce")
        except OverflowError:
            raise DataError(
                f"{path}: column {printable(str(name))[:40]} holds a number too large for a pixel"
            ) from None
        if numbers.isna().any():
            line = _line(numbers.isna(), header)
            cell = printable(str(column[numbers.isna()].iloc[0]))[:40]
            what = "is missing" if column.isna()[numbers.isna()].iloc[0] else f"is {cell!r}, no number"
            raise DataError(f"{path}: the pixel in line {line}, column {printable(str(name))[:40]} {what}")
    return pixels.to_numpy()


def _line(wrong: Any, header: list[str] | None) -> int:
    return int(wrong.index[int(np.argmax(wrong.to_numpy()))]) + (1 if header is None else 2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
