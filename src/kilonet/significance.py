"""Whether two accuracies differ by more than noise: image by image, over seeds, and for many comparisons at once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import DataError
from kilonet.metrics import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from kilonet.metrics import Report

LEVEL = 0.05
"""A p-value below it is taken for more than noise."""


@dataclass(frozen=True)
class Paired:
    """Two nets over the same images.

    Attributes:
        n: the number of images.
        only_a: images that the first net alone gets right.
        only_b: images that the second net alone gets right.
        difference: accuracy of the first less that of the second, -1 to 1.
        interval: its 95 % interval, by Newcombe's method 10.
        p: of the exact McNemar test, two-sided: 1 where no image tells the nets apart.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p: float

    @property
    def least_p(self) -> float:
        """The least p-value that so many images that tell the nets apart can give: below 0.05 from six on."""
        return min(1.0, 2.0 ** (1 - self.only_a - self.only_b))


@dataclass(frozen=True)
class AcrossSeeds:
    """Two recipes, each net trained by one being one observation of it.

    Attributes:
        a: accuracies of the first recipe's nets, 0 to 1.
        b: accuracies of the second one's.
        difference: mean of the first less mean of the second.
        interval: its 95 % interval; None where no seed differs from another of its recipe.
        t: Student's statistic; None likewise.
        df: its degrees of freedom; None likewise.
        p: two-sided; 1 likewise, since nothing is known of the noise.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: float
    interval: tuple[float, float] | None
    t: float | None
    df: float | None
    p: float


def compare(a: Report, b: Report) -> Paired:
    """Compare two reports of the same images by the exact McNemar test; see `mcnemar`.

    Raises:
        DataError: if their labels or rows are not the same.
    """
    if not np.array_equal(a.labels, b.labels) or not np.array_equal(a.rows, b.rows):
        raise DataError(
            f"reports of different images ({a.n:,} and {b.n:,}) can't be paired", "measure both models on the same data"
        )
    return mcnemar(a.predicted == a.labels, b.predicted == b.labels)


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> Paired:
    """The exact McNemar test, and an interval for the difference of the accuracies.

    Of the images that only one net gets right, b and c of them, the first net has Binomial(b + c, 1/2) if neither
    is better (McNemar 1947). What it is about are these two nets, not how they were trained.

    Args:
        right_a: bool, (N,), whether the first net gets each image right.
        right_b: bool, (N,), whether the second one does, in the same order.

    Raises:
        DataError: if the shapes are not the same, or there are no images.
    """
    from scipy.stats import binomtest

    if right_a.shape != right_b.shape or right_a.ndim != 1 or not len(right_a):
        raise DataError(f"results of shapes {right_a.shape} and {right_b.shape}: expected two of (N,), N at least 1")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    both, n = int((right_a & right_b).sum()), len(right_a)
    p = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return Paired(
        n, only_a, only_b, (only_a - only_b) / n, newcombe(both, only_a, only_b, n - both - only_a - only_b), p
    )


def newcombe(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """95 % interval for the difference of two paired shares: method 10 of Newcombe (1998), Stat. Med. 17, 2635-2650.

    With l and u the ends of Wilson's intervals of the shares p (the first) and q (the second), it reaches
    sqrt((p - l_p)^2 - 2 phi (p - l_p)(u_q - q) + (u_q - q)^2) below p - q, and as far above with the ends and the
    shares exchanged. phi is the correlation of the two, corrected for continuity, and 0 where it is undefined.

    Args:
        both: images that both get right.
        only_a: those that the first gets right alone.
        only_b: those that the second gets right alone.
        neither: those that both get wrong.
    """
    n, right_a, right_b = both + only_a + only_b + neither, both + only_a, both + only_b
    margins = right_a * right_b * (n - right_a) * (n - right_b)
    together = float(both * neither - only_a * only_b)
    if together > 0:
        together = max(together - n / 2, 0.0)
    phi = together / sqrt(margins) if margins else 0.0
    (low_a, high_a), (low_b, high_b) = wilson(right_a, n), wilson(right_b, n)
    difference = (only_a - only_b) / n
    below = _add_squares(right_a / n - low_a, high_b - right_b / n, phi)
    above = _add_squares(right_b / n - low_b, high_a - right_a / n, phi)
    return difference - below, difference + above


def _add_squares(one: float, other: float, phi: float) -> float:
    return sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))


def across_seeds(a: Sequence[float], b: Sequence[float]) -> AcrossSeeds:
    """Compare two recipes by the accuracies of nets that they trained from different seeds.

    Where both have two seeds at least it is Welch's t-test (Welch 1947), which lets their spreads differ. A single
    net stands against several by Crawford and Howell's (1998): whether it could be one more of them, as far as its
    recipe spreads as much as theirs: t = (x - mean) / (s sqrt(1 + 1/n)), with n - 1 degrees of freedom.

    Args:
        a: accuracies, one a seed.
        b: the same of the other recipe, over the same images.

    Raises:
        DataError: if either is empty, or neither has two.
    """
    if min(len(a), len(b)) < 1 or max(len(a), len(b)) < 2:
        raise DataError(f"{len(a)} and {len(b)} seeds: expected two at least", "train several: --seeds 5")
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = float(first.mean() - second.mean())
    found: tuple[Any, ...]
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        found = None, None, None, 1.0
    elif min(len(a), len(b)) == 1:
        found = _single(first, second, difference)
    else:
        found = _welch(first, second)
    return AcrossSeeds(tuple(first.tolist()), tuple(second.tolist()), difference, *found)


def _welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[tuple[float, float], float, float, float]:
    """Interval, t, degrees of freedom and p."""
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # seeds of one side that are all alike
        found = ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return (float(low), float(high)), float(found.statistic), float(found.df), float(found.pvalue)


def _single(
    a: NDArray[np.float64], b: NDArray[np.float64], difference: float
) -> tuple[tuple[float, float], float, float, float]:
    """Interval, t, degrees of freedom and p, where one side is a single net."""
    from scipy.stats import t

    several = a if len(a) > 1 else b
    df, error = len(several) - 1, float(several.std(ddof=1)) * sqrt(1 + 1 / len(several))
    half, statistic = float(t.ppf(0.975, df)) * error, difference / error
    return (difference - half, difference + half), statistic, float(df), float(2 * t.sf(abs(statistic), df))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p-values, (M,), corrected for there being M of them, by Holm (1979): the chance of any false finding is kept.

    The i-th least, from 0, is multiplied by M - i; none gets less than one before it, nor more than 1.
    """
    given = np.asarray(p, np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return corrected
