"""The connected parts of a mask. SciPy has the same, and needs 27 MB for it, of each process that reads pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the connected parts of a mask, neighbours at corners counted, in the order of their first cells.

    Rows are cut into runs; runs that touch one of the row before are joined to it.

    Args:
        mask: bool, (H, W).

    Returns:
        int32, (H, W): 0 outside, else the part's number, from 1; and how many parts there are.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    rows, starts = (axis.tolist() for axis in np.nonzero(edges == 1))
    ends = np.nonzero(edges == -1)[1].tolist()
    parents = list(range(len(rows)))
    above = 0
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[run]):
            above += 1
        other = above
        while rows[other] == row - 1 and starts[other] <= ends[run]:
            _join(parents, run, other)
            other += 1
    labels = np.zeros(mask.shape, np.int32)
    numbers: dict[int, int] = {}
    for run, row in enumerate(rows):
        number = numbers.setdefault(_root(parents, run), len(numbers) + 1)
        labels[row, starts[run] : ends[run]] = number
    return labels, len(numbers)


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


def _join(parents: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(parents, one), _root(parents, other)))
    parents[high] = low
