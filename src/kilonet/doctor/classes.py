"""How the classes are spread: missing from a part, or far from balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor.finding import Finding
from kilonet.images import in_class_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kilonet.doctor.part import Part
    from kilonet.images import ImageSet

RATIO = 0.6
"""A class is rare below this share of the median class, and common above its inverse."""
CHANCE = 0.001
"""Probability, over all classes together, that balanced classes look so by chance."""


def missing(parts: Sequence[Part], all_labels: NDArray[np.int64]) -> list[Finding]:
    """Finding `missing-classes` for each part that lacks classes which occur elsewhere.

    Args:
        parts: of one source.
        all_labels: int64, the labels of the source in its order.
    """
    occurring = np.unique(all_labels)
    found = []
    for part in parts:
        lost = np.setdiff1d(occurring, part.data.labels)
        if not len(lost):
            continue
        names = _names(part.data, lost)
        sequence = in_class_order(part.data.labels) and len(np.unique(part.data.labels)) > 1
        cause = "; it lies in class order, so the source looks sorted and cut in sequence" if sequence else ""
        found.append(
            Finding(
                "missing-classes",
                f"{len(lost)} of {len(occurring)} classes {_have(lost)} no image in {part.name}: {names}{cause}",
                "a class that is not trained on is never predicted, and one that is not measured can fail unseen",
                "draw the parts by class and not in sequence: --split 70/15/15 does",
                evidence={
                    "part": part.name,
                    "classes": [part.data.classes[k] for k in lost],
                    "class_order": sequence,
                },
            )
        )
    return found


def absent(data: ImageSet) -> list[Finding]:
    """Finding `missing-classes` for classes that are named, but have no image anywhere."""
    lost = np.flatnonzero(data.counts() == 0)
    if not len(lost):
        return []
    return [
        Finding(
            "missing-classes",
            f"{len(lost)} of {len(data.classes)} classes {_have(lost)} no image at all: {_names(data, lost)}",
            "the model gets an output for them that nothing teaches",
            "add images of them, or take their names out",
            evidence={"part": "the set", "classes": [data.classes[k] for k in lost], "class_order": False},
        )
    ]


def imbalance(part: Part) -> list[Finding]:
    """Finding `imbalance`: classes far from the median class, further than chance takes them."""
    counts = part.data.counts()
    there = np.flatnonzero(counts)
    median = float(np.median(counts[there]))
    far = there[(counts[there] <= RATIO * median) | (counts[there] * RATIO >= median)]
    far = np.array([k for k in far if _chance(int(counts[k]), round(median)) < CHANCE / len(there)], np.int64)
    if not len(far):
        return []
    rare, common = far[counts[far] < median], far[counts[far] > median]
    words = [
        f"{len(some)} {word} ({_names(part.data, some, counts)})"
        for word, some in (("rare", rare), ("common", common))
        if len(some)
    ]
    ratio = counts.max() / counts[there].min()
    return [
        Finding(
            "imbalance",
            f"{part.name}: the greatest class has {ratio:.1f} times the images of the smallest: {' and '.join(words)}; "
            f"the median class has {median:,.0f}",
            "accuracy is ruled by the common classes, and the rare ones are learnt worst",
            "read the scores of each class, not accuracy alone; get more of the rare ones, or draw fewer of the rest",
            evidence={
                "part": part.name,
                "ratio": float(ratio),
                "median": median,
                "rare": [part.data.classes[k] for k in rare],
                "common": [part.data.classes[k] for k in common],
            },
        )
    ]


def _chance(count: int, median: int) -> float:
    """Probability of a difference like this one between two classes that are drawn equally often (binomial)."""
    from scipy.special import bdtr

    return float(bdtr(min(count, median), count + median, 0.5))


def _have(classes: NDArray[np.int64]) -> str:
    return "has" if len(classes) == 1 else "have"


def _names(data: ImageSet, labels: NDArray[np.int64], counts: NDArray[np.int64] | None = None) -> str:
    names = [data.classes[k] + (f" with {counts[k]:,}" if counts is not None else "") for k in labels[:8]]
    return ", ".join(names) + (", ..." if len(labels) > 8 else "")
