"""Class probabilities as the JSON of an answer, many rows at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

NOTHING = b'{"class": null, "probability": null, "probabilities": null, "note": "nothing drawn"},'
NOTHING_SHORT = b'{"class": null, "probability": null, "note": "nothing drawn"},'
_DIGITS = 9
_THOUSANDS = np.array([list(b"%03d" % i) for i in range(1000)], np.uint8)


class Writer:
    """Writes predictions as rows of bytes, all of one length, each with a comma behind it.

    A probability has nine digits; a class name is filled up with blanks behind its quotation mark. So a thousand
    rows are a few copies of arrays, where `json.dumps` would turn each number into text by itself.

    Attributes:
        length: bytes of a row.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        names = [json.dumps(name).encode() for name in classes]
        most = max(map(len, names))
        self._names = np.array([list(name.ljust(most)) for name in names], np.uint8)
        zero = b"0." + b"0" * _DIGITS
        head = [b'{"class": ', b" " * most, b', "probability": ', zero]
        tail = [part for name in names for part in (b", " + name + b": ", zero)]
        tail[0] = b', "probabilities": {' + names[0] + b": "
        self._row = np.frombuffer(b"".join([*head, *tail, b"}},"]), np.uint8)
        self.length = len(self._row)
        self._head = sum(map(len, head))
        self._class = len(head[0])
        ends = np.cumsum([len(part) for part in tail]) + self._head
        starts = [self._head - len(zero), *(int(end) - len(zero) for end in ends[1::2])]
        self._slots = np.array(starts)[:, None] + np.arange(len(zero))

    def rows(self, probabilities: NDArray[np.float64]) -> Bytes:
        """Predictions, (N, K), as uint8, (N, L): what `joined` takes."""
        best = probabilities.argmax(axis=1)
        values = np.empty((len(probabilities), probabilities.shape[1] + 1))
        values[:, 1:] = probabilities
        values[:, 0] = probabilities[np.arange(len(best)), best]
        rows = np.repeat(self._row[None], len(best), axis=0)
        rows[:, self._class : self._class + self._names.shape[1]] = self._names[best]
        rows[:, self._slots] = _decimals(values)
        return rows

    def short(self, rows: Bytes) -> Bytes:
        """The same rows without the probabilities of all the classes."""
        end = np.broadcast_to(np.frombuffer(b"},", np.uint8), (len(rows), 2))
        return np.concatenate([rows[:, : self._head], end], axis=1)


def joined(parts: Sequence[bytes]) -> bytes:
    """The answer to a request, of predictions in their order, each part one or many with a comma behind each."""
    return b'{"predictions": [' + b"".join(parts)[:-1] + b"]}"


def _decimals(values: NDArray[np.float64]) -> Bytes:
    """Numbers from 0 to 1, (N, K), as text with nine digits, uint8, (N, K, 11)."""
    whole = np.rint(values * 10**_DIGITS).astype(np.int64)
    text = np.empty((*values.shape, 2 + _DIGITS), np.uint8)
    rest, text[..., 8:] = whole // 1000, _THOUSANDS[whole % 1000]
    rest, text[..., 5:8] = rest // 1000, _THOUSANDS[rest % 1000]
    rest, text[..., 2:5] = rest // 1000, _THOUSANDS[rest % 1000]
    text[..., 0], text[..., 1] = rest + ord("0"), ord(".")
    return text
