"""Ink found on its paper, however that is lit, whichever is the brighter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.components import label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

COARSE, FINE = 64, 128
"""The most cells a side where a picture is looked over, and where its ink is looked at."""
FAINTEST = 10.0
"""Levels, of 255, by which ink differs from its paper at least."""
ROUNDS, SETTLED = 10, 0.1
"""Of the fit of the paper's brightness, at most; and the levels by which its terms still move when it is done."""
EDGE = 0.4
"""Of the ink's level, where a stroke ends."""
SPECK = 0.05
"""Of the heaviest stroke's mass, below which a spot is dirt."""
OUTER = 0.02
"""Of the mass of what runs along the picture's edge, what anything else has at least, to be taken for the drawing."""
SMALLEST = 3
"""Cells that a drawing has at least."""
BAR, BLOT = 0.9, 0.77
"""Of its box, what a bar along the picture's edge fills, and a blot: a disc fills pi / 4, and 2 of 50,000 digits do."""
CLEAR, SOLID = 0.15, 0.85
"""Of the ink's level, what is all paper and what is all ink."""
_DEVIATION = 1.4826
GRAIN = 3.0
"""Standard deviations of the noise that are all paper, too, but no more than up to where strokes end."""


def shades(picture: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """The ink of a picture in its box, float64, from 0, paper, to 1; None where nothing is drawn.

    Args:
        picture: uint8, (H, W).
    """
    coarse = _Grid.over(picture, _Window(0, 0, *picture.shape), COARSE)
    paper = _Paper.under(coarse)
    away = coarse.values - paper.light(coarse)
    found = next(filter(None, (_find(away, noise) for noise in _noises(away, coarse.values))), None)
    if found is None:
        return None
    fine = _Grid.over(picture, coarse.window_around(found.mask), FINE)
    ink = found.sign * (fine.values - paper.light(fine))
    if not (ink > EDGE * found.level).any():
        return None
    level = _level(ink, EDGE * found.level)
    drawn = ink > EDGE * level
    box = inside(drawn)
    if _is_blot(drawn[box]):
        return None
    grain = found.noise * coarse.size / fine.size / level
    clear = min(max(CLEAR, GRAIN * grain), EDGE)
    return np.asarray(np.clip((ink[box] / level - clear) / (SOLID - clear), 0, 1))


@dataclass(frozen=True)
class _Window:
    """A part of a picture: its first row and column, its height and width, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class _Grid:
    """Square cells over a window, from its first row and column on; what is left over at its end is left out.

    Attributes:
        window: that they lie over.
        size: of a cell, in pixels.
        values: mean brightness, rounded, float64, (rows, columns).
    """

    window: _Window
    size: int
    values: NDArray[np.float64]

    @classmethod
    def over(cls, picture: NDArray[np.uint8], window: _Window, most: int) -> _Grid:
        """The smallest cells of which there are at most so many a side, and one at least."""
        size = max(window.height, window.width)
        size = min(-(-size // most), window.height, window.width)
        rows, columns = window.height // size, window.width // size
        part = picture[window.top : window.top + rows * size, window.left : window.left + columns * size]
        sums = _added(part.reshape(rows, size, columns * size).transpose(1, 0, 2))
        sums = _added(sums.reshape(rows, columns, size).transpose(2, 0, 1))
        return cls(window, size, ((2 * sums + size * size) // (2 * size * size)).astype(np.float64))

    def window_around(self, mask: NDArray[np.bool_]) -> _Window:
        """The window around some cells and one more on each side, as far as this one goes."""
        rows, columns = inside(mask)
        top, left = max(0, rows.start - 1) * self.size, max(0, columns.start - 1) * self.size
        bottom = min(self.window.height, (rows.stop + 1) * self.size)
        right = min(self.window.width, (columns.stop + 1) * self.size)
        return _Window(self.window.top + top, self.window.left + left, bottom - top, right - left)


@dataclass(frozen=True, eq=False)
class _Paper:
    """How bright the paper is: a + b x + c y + d x^2 + e x y + f y^2, with x and y from -1 to 1 over the picture.

    Attributes:
        picture: the window that is the whole picture.
        terms: a to f, float64.
    """

    picture: _Window
    terms: NDArray[np.float64]

    @classmethod
    def under(cls, grid: _Grid) -> _Paper:
        """The surface that most cells of a picture's grid lie near; every other row and column is looked at.

        Least squares, reweighted in rounds: Cauchy's weights, 1 / (1 + (r / c)^2), with twice the median distance as
        c, beginning with the distances from the median brightness. A slight ridge keeps the surface flat where cells
        are few.
        """
        x, y = (v[::2, ::2].ravel() for v in np.broadcast_arrays(*_coordinates(grid, grid.window)))
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
        values = grid.values[::2, ::2].ravel()
        ridge = np.diag([0.0, 1, 1, 1, 1, 1]) * (len(values) / 1000)
        away, fitted = values - _median(values), np.zeros(6)
        for _ in range(ROUNDS):
            far = np.maximum(4.0, 2 * _median(np.abs(away)))
            weighted = terms / (1 + (away / far) ** 2)[:, None]
            before, fitted = fitted, np.linalg.solve(weighted.T @ terms + ridge, weighted.T @ values)
            if ((fitted - before) ** 2).sum() < SETTLED**2:
                break
            away = values - terms @ fitted
        return cls(grid.window, fitted)

    def light(self, grid: _Grid) -> NDArray[np.float64]:
        """The brightness at the cells of a grid."""
        x, y = _coordinates(grid, self.picture)
        a, b, c, d, e, f = self.terms
        return np.asarray((a + b * x + d * x * x) + (c * y + f * y * y) + e * (x * y))


def _added(parts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The sum over the first axis, int64: several times as fast as NumPy's own over bytes."""
    total: NDArray[np.int64] = parts[0].astype(np.int64)
    for part in parts[1:]:
        total += part
    return total


def _median(values: NDArray[np.float64]) -> float:
    """The median, as NumPy's own has it but for what that takes to be asked."""
    flat = values.ravel()
    middle = (len(flat) - 1) // 2, len(flat) // 2
    low, high = np.partition(flat, middle)[list(middle)]
    return float((low + high) / 2)


def _coordinates(grid: _Grid, picture: _Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The cells' centres, -1 to 1 over the picture: x as a row, y as a column."""
    rows, columns = grid.values.shape
    x = 2 * (grid.window.left + (np.arange(columns) + 0.5) * grid.size) / picture.width - 1
    y = 2 * (grid.window.top + (np.arange(rows) + 0.5) * grid.size) / picture.height - 1
    return x[None, :], y[:, None]


@dataclass(frozen=True, eq=False)
class _Found:
    """The ink on a grid.

    Attributes:
        sign: 1 if it is brighter than its paper, -1 if it is darker.
        mask: where it is, (rows, columns).
        level: by how much it differs from its paper.
        noise: the standard deviation of cells without ink.
    """

    sign: float
    mask: NDArray[np.bool_]
    level: float
    noise: float


def _noises(away: NDArray[np.float64], cells: NDArray[np.float64]) -> Iterator[float]:
    """The standard deviation of the noise: by the median distance from the paper; then by that of neighbours.

    Where ink covers a third of a picture and more, the first takes it for noise; the second sees no shadows.
    """
    yield _DEVIATION * _median(np.abs(away))
    steps = np.concatenate([np.abs(np.diff(cells, axis=axis)).ravel() for axis in (0, 1)])
    if steps.size:
        yield _DEVIATION * _median(steps) / math.sqrt(2)


def _find(away: NDArray[np.float64], noise: float) -> _Found | None:
    """The ink among cells' distances from the paper.

    What differs from the paper by more than four standard deviations of the noise is ink, on that side that has more
    of it. Of that, connected cells with some weight are taken: no dirt, and nothing that runs along the picture's edge,
    such as a table under the paper, if there is anything else or if it is but a bar.
    """
    least = max(FAINTEST, 4 * noise)
    bright, dark = away[away > least].sum(), -away[away < -least].sum()
    if max(bright, dark) == 0:
        return None
    sign = 1.0 if bright >= dark else -1.0
    ink = sign * away
    level = _level(ink, least)
    labels, n = label(ink > max(least, EDGE * level))
    mass = np.bincount(labels.ravel(), ink.ravel(), n + 1)
    mass[0] = 0
    outer = _along_edges(labels, n)
    inner = np.where(outer, 0, mass)
    mass = inner if inner.max() >= OUTER * mass.max() else mass
    taken = mass >= SPECK * mass.max()
    mask = taken[labels] & (labels > 0)
    bar = outer[taken].any() and mask[inside(mask)].mean() >= BAR
    return None if bar or np.count_nonzero(mask) < SMALLEST else _Found(sign, mask, level, noise)


def _along_edges(labels: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    """Which connected parts, by label, take up more than a third of one of the picture's edges."""
    edges = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    shares = np.stack([np.bincount(edge, minlength=n + 1) / len(edge) for edge in edges])
    return np.asarray((3 * shares > 1).any(axis=0))


def _is_blot(drawn: NDArray[np.bool_]) -> bool:
    """Whether what is drawn, given in its box, is about as wide as high and mostly filled."""
    rows, columns = drawn.shape
    return 5 * max(rows, columns) <= 6 * min(rows, columns) and float(drawn.mean()) >= BLOT


def _level(ink: NDArray[np.float64], least: float) -> float:
    """By how much ink differs from its paper: the mean over what differs by more than `least`, weighted by itself."""
    strong = ink[ink > least]
    return float((strong * strong).sum() / strong.sum())


def inside(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last with anything in them."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
