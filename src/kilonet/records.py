"""The records and arrays of a run as files: `results.csv`, a row an epoch, and `.npz`."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import DataError, RunError
from kilonet.history import Epoch
from kilonet.sources import npyfile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CSV = ("epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")


def results_csv(records: list[Epoch]) -> str:
    """The text of `results.csv`, a row an epoch."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV)
    for record in records:
        writer.writerow("" if (value := getattr(record, name)) is None else repr(value) for name in _CSV)
    return buffer.getvalue()


def read_results(path: Path) -> list[Epoch]:
    """The epochs in a `results.csv`.

    Raises:
        RunError: if it can't be read, or is cut short.
    """
    try:
        with path.open(newline="") as file:
            rows = [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]
        if any(row[name] is None for row in rows for name in ("epoch", "train_loss", "lr", "seconds")):
            raise ValueError("a row is cut short")
        return [Epoch(**{**row, "epoch": int(row["epoch"])}) for row in rows]  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, csv.Error) as error:
        raise RunError(f"{path} can't be read: {error}") from None


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def npz(arrays: dict[str, Any]) -> bytes:
    """The bytes of an `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The arrays in one of a run's `.npz` files: those that are named, all if None; no other is unpacked.

    Raises:
        RunError: if it is damaged, or holds more than such a file can.
    """
    try:
        return npyfile.read_npz(path, names)
    except (DataError, OSError) as error:
        raise RunError(f"{path} can't be read: {error}") from None
