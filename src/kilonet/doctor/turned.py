"""Single images of a part that lie otherwise than the rest of their class: transposed, mirrored or turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.doctor.finding import Finding
from kilonet.doctor.part import correlation, counted
from kilonet.doctor.symmetry import SYMMETRIES, UNDO

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.doctor.part import Part

SIDE = 14
"""Images are brought to at most this many pixels a side."""
FEWEST = 30
"""Images a class needs for this."""
TIGHT = 0.32
"""Spread of the scores' sizes, in units of their median, up to which a class tells its orientation well."""
LOOSE = 0.6
"""Spread up to which a class is looked through once the tight ones have shown that images are turned."""
TURNED = -0.5
"""Score at and below which an image may be turned: upright ones lie about 1, turned ones about -1."""
VALLEY = (-0.45, -0.05)
"""Scores that odd handwriting takes more often than those below: where it does not, there are two heaps."""
LEAST = 10
"""Turned images of the tight classes that it takes: 60 clean divisions of `mnist-5k` showed up to 6 odd ones."""
SHARE = 0.005
"""Share of them in the tight classes that it takes: sets with 3 to 10 % of wrong labels showed up to 3 of 2,010."""
HEAPS = 1.5
"""They must be more than so many times those in the valley: the 6 odd ones had 8 beside them, 22 turned ones 12."""


def examine(part: Part) -> list[Finding]:
    """Finding `mixed-orientation`: a minority of the images is transposed, mirrored or turned against its class.

    Found in the classes that tell their orientation well; those that look the same both ways are left out.
    """
    if part.grey.shape[1] != part.grey.shape[2] or min(part.grey.shape[1:]) < 4:
        return []
    images = _small(part.grey)
    labels = part.data.labels
    classes = [rows for k in np.unique(labels) if len(rows := np.flatnonzero(labels == k)) >= FEWEST]
    means = np.stack([images[members].mean(0).ravel() for members in classes]) if classes else np.empty((0, 0))
    best, turned = "", np.empty(0, np.int64)
    for name in list(SYMMETRIES)[1:]:
        rows = _turned([_judge(images, rows, np.delete(means, k, 0), name) for k, rows in enumerate(classes)])
        if len(rows) > len(turned):
            best, turned = name, rows
    if not len(turned):
        return []
    which = np.zeros(len(part), bool)
    which[turned] = True
    return [
        Finding(
            "mixed-orientation",
            counted(which, part, f"{best}, the rest of their classes being upright"),
            "one class then looks two ways, and a small net has to learn both from fewer examples",
            f"look at them with --show, and for what lies beside them; for these rows {UNDO[best]}",
            part.rows(which),
            {"part": part.name, "symmetry": best, "count": len(turned)},
        )
    ]


def _small(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Square images at most `SIDE` pixels wide, float32, by means over whole blocks of pixels."""
    block = -(-grey.shape[1] // SIDE)
    inside = grey.shape[1] // block * block
    cut = grey[:, :inside, :inside].reshape(len(grey), inside // block, block, inside // block, block)
    return np.asarray(cut.mean((2, 4), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class _Judged:
    """A class under one symmetry: the spread of its scores, its turned images, and how many lie in the valley."""

    n: int
    spread: float
    turned: NDArray[np.int64]
    valley: int


def _judge(images: NDArray[np.float32], members: NDArray[np.int64], others: NDArray[np.float32], name: str) -> _Judged:
    """Judge a class, whose members lie at some positions; `others`, (K - 1, D), are the means of the other classes."""
    own = images[members]
    scores = _scores(own, name)
    suspects = np.flatnonzero(scores <= TURNED)
    if len(suspects):
        suspects = suspects[_set_right(own, suspects, scores > 0, others, name)]
    valley = int(((scores > VALLEY[0]) & (scores < VALLEY[1])).sum())
    return _Judged(len(members), float(np.std(np.abs(scores))), members[suspects], valley)


def _turned(classes: list[_Judged]) -> NDArray[np.int64]:
    """Positions of the turned images, int64; none, unless the tight classes show two heaps."""
    tight = [one for one in classes if one.spread <= TIGHT]
    n, valley = sum(len(one.turned) for one in tight), sum(one.valley for one in tight)
    if n < max(LEAST, SHARE * sum(one.n for one in tight)) or n <= HEAPS * valley:
        return np.empty(0, np.int64)
    clear = [one for one in classes if one.spread <= LOOSE and len(one.turned) >= 2 * one.valley]
    return np.sort(np.concatenate([one.turned for one in (*tight, *(one for one in clear if one not in tight))]))


def _scores(images: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    """How upright each image of a class is, float64, (N,): about 1, about -1 if turned, NaN if it can't be told.

    Ridge regression of 1 on the difference between an image and its turned copy, without intercept, which is Fisher's
    discriminant (1936) between the two; each image is judged by the others alone (its leave-one-out residual
    in closed form, Allen 1974). What comes out turned counts as -1 in a second and a third round.
    """
    own, turned = (x.reshape(len(images), -1).astype(np.float64) for x in (images, SYMMETRIES[name](images)))
    difference = own - turned
    scatter = difference.T @ difference
    scatter += (0.05 * np.trace(scatter) / len(scatter) + 1e-6) * np.eye(len(scatter))
    weighed = np.linalg.solve(scatter, difference.T).T
    leverage = (weighed * difference).sum(1)
    centred = own - (own + turned).mean(0) / 2
    crossed = (weighed * centred).sum(1)
    target = np.ones(len(images))
    for _ in range(3):
        fitted = difference @ (weighed.T @ target)
        scores = 2 * (centred @ (weighed.T @ target) - crossed * (target - fitted) / (1 - leverage))
        target = np.where(scores < 0, -1.0, 1.0)
    size = np.median(np.abs(scores))
    told = size > 0 and np.mean(scores > 0) > 0.5
    return scores / size if told else np.full(len(images), np.nan)


def _set_right(
    own: NDArray[np.float32],
    suspects: NDArray[np.int64],
    upright: NDArray[np.bool_],
    others: NDArray[np.float32],
    name: str,
) -> NDArray[np.bool_]:
    """Which suspects look like their class once turned back, and less like any class as they are; wrong labels don't.

    Args:
        own: the images of the class.
        suspects: positions in it.
        upright: which of the class look upright.
        others: the means of the other classes, (K - 1, D).
        name: of the symmetry.
    """
    mean = own[upright].mean(0).ravel()
    as_it_is = own[suspects].reshape(len(suspects), mean.size)
    back = SYMMETRIES[_OPPOSITE.get(name, name)](own[suspects]).reshape(as_it_is.shape)
    set_right = correlation(back, mean)
    usual = np.quantile(correlation(own[upright].reshape(int(upright.sum()), -1), mean), 0.1)
    best_else = np.max([correlation(as_it_is, other) for other in (mean, *others)], axis=0)
    return np.asarray((set_right > best_else) & (set_right > usual))


_LEFT, _RIGHT = "turned by 90 degrees to the left", "turned by 90 degrees to the right"
_OPPOSITE = {_LEFT: _RIGHT, _RIGHT: _LEFT}
