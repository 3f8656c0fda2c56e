"""Images that occur more than once: inside a part, under several labels, in two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor.finding import Finding
from kilonet.doctor.part import counted, listed, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.doctor.part import Part


def duplicates(part: Part, prints: NDArray[np.uint64], labels: NDArray[np.int64] | None) -> list[Finding]:
    """Findings `duplicates`, and `conflicting-labels` where the labels may be looked at.

    Args:
        part: the images.
        prints: uint64, (N,), their hashes.
        labels: int64, (N,), or None.
    """
    if not len(_twice(prints)):
        return []
    _, first, group = np.unique(prints, return_index=True, return_inverse=True)
    extra = np.ones(len(prints), bool)
    extra[first] = False
    copied = np.bincount(group)[group] > 1
    evidence = {"part": part.name, "extra": int(extra.sum()), "images": int(copied.sum())}
    found = [
        Finding(
            "duplicates",
            counted(extra, part, "again what an earlier row shows, to the pixel", "shows show"),
            "copies count double in training, and in a measured part they narrow the interval unduly",
            "keep the first of each and remove these rows",
            part.rows(extra),
            evidence,
        )
    ]
    return found if labels is None else found + _conflicting(part, group, labels)


def _conflicting(part: Part, group: NDArray[np.int64], labels: NDArray[np.int64]) -> list[Finding]:
    """Equal images whose labels differ."""
    low, high = _label_range(group, labels, int(group.max()) + 1)
    at_odds = (low != high)[group]
    if not at_odds.any():
        return []
    sets = len(np.unique(group[at_odds]))
    return [
        Finding(
            "conflicting-labels",
            counted(at_odds, part, f"equal to others of another label, in {plural(sets, 'group')}"),
            "at most one label of each group can be right, so the others are errors for certain",
            "look at them with --show and correct or remove the wrong ones",
            part.rows(at_odds),
            {"part": part.name, "images": int(at_odds.sum()), "groups": sets},
        )
    ]


def _label_range(
    group: NDArray[np.int64], labels: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the greatest label in each group of equal images; of a group without images, such as never meet."""
    low, high = np.full(groups, np.iinfo(np.int64).max), np.full(groups, -1)
    np.minimum.at(low, group, labels)
    np.maximum.at(high, group, labels)
    return low, high


def conflicting_between(earlier: Part, later: Part) -> list[Finding]:
    """Finding `conflicting-labels`: images of one part that another one holds under another label."""
    if not len(_common(earlier.prints, later.prints)):
        return []
    prints = np.concatenate([earlier.prints, later.prints])
    groups, group = np.unique(prints, return_inverse=True)
    before, behind = group[: len(earlier)], group[len(earlier) :]
    here = _other_label(behind, later.data.labels, before, earlier.data.labels, len(groups))
    if not here.any():
        return []
    there = _other_label(before, earlier.data.labels, behind, later.data.labels, len(groups))
    n, rows, others = int(here.sum()), later.rows(here), earlier.rows(there)
    return [
        Finding(
            "conflicting-labels",
            f"{plural(n, 'image')} of {later.whole or len(later):,} in {later.name} {'is' if n == 1 else 'are'} in "
            f"{earlier.name}, too, under another label ({listed(rows)}; there {listed(others)})",
            "at most one of the two labels can be right: a wrong one is trained on, or right answers count as wrong",
            "look at them with --show and correct or remove the wrong ones",
            rows + others,
            {"parts": [earlier.name, later.name], "images": n, "groups": len(np.unique(behind[here]))},
        )
    ]


def _other_label(
    group: NDArray[np.int64],
    labels: NDArray[np.int64],
    their_group: NDArray[np.int64],
    their_labels: NDArray[np.int64],
    groups: int,
) -> NDArray[np.bool_]:
    """Which images, by their group of equal ones, have an equal one of another label among others, bool, (N,)."""
    low, high = _label_range(their_group, their_labels, groups)
    return np.asarray((high[group] >= 0) & ((low[group] != labels) | (high[group] != labels)))


def shared(
    earlier: Part, earlier_prints: NDArray[np.uint64], later: Part, later_prints: NDArray[np.uint64]
) -> list[Finding]:
    """Finding `shared`: images of the later part, which measures or chooses, that the earlier one holds, too."""
    common = _common(earlier_prints, later_prints)
    if not len(common):
        return []
    also, there = np.isin(later_prints, common), np.isin(earlier_prints, common)
    n, rows = int(also.sum()), later.rows(also)
    return [
        Finding(
            "shared",
            f"{plural(n, 'image')} of {later.whole or len(later):,} in {later.name} {'is' if n == 1 else 'are'} in "
            f"{earlier.name}, too ({listed(rows)}; "
            f"there {listed(earlier.rows(there))})",
            f"what was trained on is remembered, not recognised: accuracy on {later.name} comes out too high",
            f"remove {'it' if n == 1 else f'the {n:,}'} from one of the two, best from {earlier.name}",
            rows + earlier.rows(there),
            {"parts": [earlier.name, later.name], "shared": n, "there": int(there.sum())},
        )
    ]


def _twice(prints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes that occur more than once, rising. Millions are sorted in no time, which NumPy's sets of them are not."""
    found = np.sort(prints)
    return np.unique(found[1:][found[1:] == found[:-1]])


def _common(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes that occur on both sides, rising."""
    return _twice(np.concatenate([_once(some), _once(others)]))


def _once(prints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    found = np.sort(prints)
    return np.asarray(found[np.diff(found, prepend=~found[:1]) != 0])
