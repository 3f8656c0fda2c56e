"""The eight symmetries of the square, and which of them takes one set of class means to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.doctor.part import correlation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Turn = Callable[[NDArray[Any]], NDArray[Any]]

SYMMETRIES: dict[str, Turn] = {
    "upright": lambda images: images,
    "transposed": lambda images: images.swapaxes(-1, -2),
    "mirrored": lambda images: images[..., ::-1],
    "upside down": lambda images: images[..., ::-1, :],
    "turned by 180 degrees": lambda images: images[..., ::-1, ::-1],
    "turned by 90 degrees to the left": lambda images: np.rot90(images, 1, (-2, -1)),
    "turned by 90 degrees to the right": lambda images: np.rot90(images, -1, (-2, -1)),
    "transposed about the other diagonal": lambda images: images[..., ::-1, ::-1].swapaxes(-1, -2),
}
"""What became of an image, (..., H, W): by name, how to do it to one."""

UNDO = {
    "transposed": "swap rows and columns: images.transpose(0, 2, 1), or (0, 1, 3, 2) with channels",
    "mirrored": "mirror them: images[..., ::-1]",
    "upside down": "turn rows about: images[..., ::-1, :]",
    "turned by 180 degrees": "turn them: images[..., ::-1, ::-1]",
    "turned by 90 degrees to the left": "turn them right: numpy.rot90(images, -1, (-2, -1))",
    "turned by 90 degrees to the right": "turn them left: numpy.rot90(images, 1, (-2, -1))",
    "transposed about the other diagonal": "images[..., ::-1, ::-1], then swap rows and columns",
}
"""What to do against each."""


@dataclass(frozen=True)
class Match:
    """How well a symmetry takes some class means to others.

    Attributes:
        symmetry: a name in `SYMMETRIES`.
        score: mean correlation of the class means, each less the mean of all, -1 to 1.
        upright: that of the images as they are.
        z: the score above that of wrongly paired classes, in standard errors.
        t: how far the score lies above the upright one, in standard errors over the classes.
    """

    symmetry: str
    score: float
    upright: float
    z: float
    t: float


def match(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Match:
    """The symmetry that makes the expected class means most like the found ones, inverted polarity allowed.

    Args:
        found: (K, S, S), K at least 2.
        expected: (K, S, S), of the same classes.
    """
    k = len(found)
    ours = _less_mean(found).reshape(k, -1)
    own, others = {}, {}
    for name, turn in SYMMETRIES.items():
        theirs = turn(_less_mean(expected)).reshape(k, -1)
        table = np.stack([correlation(np.repeat(row[None], k, 0), theirs) for row in ours])
        own[name], others[name] = np.diag(table), table[~np.eye(k, dtype=bool)]
    sign = np.sign(max((scores.mean() for scores in own.values()), key=abs)) or 1.0
    best = max(own, key=lambda name: sign * own[name].mean())
    gain = sign * (own[best] - own["upright"])
    return Match(
        best,
        float(sign * own[best].mean()),
        float(sign * own["upright"].mean()),
        float(sign * (own[best].mean() - others[best].mean()) / max(others[best].std() / k**0.5, 1e-6)),
        float(gain.mean() / max(gain.std(ddof=1) / k**0.5, 1e-6)),
    )


@dataclass(frozen=True)
class PairMatch:
    """How well a symmetry takes the means of two classes to others.

    Attributes:
        symmetry: a name in `SYMMETRIES`.
        score: correlation of the differences between the two means, -1 to 1.
        upright: that of the images as they are.
        own: correlation of each mean with its own, the lower of the two.
    """

    symmetry: str
    score: float
    upright: float
    own: float


def match_pair(found: NDArray[np.float32], expected: NDArray[np.float32]) -> PairMatch:
    """The symmetry that makes two class means most like the expected ones, inverted polarity allowed.

    Args:
        found: (2, S, S).
        expected: (2, S, S), of the same classes.
    """
    scores = {
        name: float(correlation((found[0] - found[1]).ravel(), (turned[0] - turned[1]).ravel()))
        for name, turn in SYMMETRIES.items()
        for turned in (turn(expected),)
    }
    best = max(scores, key=lambda name: abs(scores[name]))
    sign = 1 if scores[best] >= 0 else -1
    own = sign * correlation(found.reshape(2, -1), SYMMETRIES[best](expected).reshape(2, -1))
    return PairMatch(best, sign * scores[best], sign * scores["upright"], float(own.min()))


def _less_mean(means: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(means - means.mean(0))
