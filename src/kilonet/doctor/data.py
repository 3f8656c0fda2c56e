"""What is wrong with a data set: the whole examination, and the short one that a training begins with."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor import classes, contents, copies, orientation, polarity, scale, turned
from kilonet.doctor.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from kilonet.doctor.finding import Finding
    from kilonet.images import ImageSet, Splits

_SAMPLE = 2_000
"""Images of a part that are looked at for what concerns all of them, in the short examination."""
_NAMES = {"train": "the training part", "val": "the validation part", "test": "the test part"}


def examine(data: ImageSet, splits: Splits | None = None) -> list[Finding]:
    """Examine a source: its pixels and labels, all of them, its own test part included; of large files a sample.

    Args:
        data: the source.
        splits: how it is to be divided; what concerns two parts is held against this division, too.

    Returns:
        What was found, the gravest first within each kind; nothing for clean data.
    """
    parts = _own_parts(data)
    inside, full, counted = _each_by_itself(parts)
    found = classes.absent(data) + inside
    for first, second in combinations(counted, 2):
        found += copies.conflicting_between(first, second)
    pixels = _shared(counted) + _pixels(full, known=True)
    found += pixels
    inverted = [row for one in pixels if one.name == "mixed-polarity" for row in one.rows]
    for part in full:
        if (rest := _without(part, np.isin(part.data.rows, inverted))) is not None:
            found += turned.examine(rest)
    missing = classes.missing(parts, data.labels)
    if splits is not None:
        known = [one.evidence for one in missing]
        found += [one for one in _of_split(data, splits) if one.evidence not in known]
    found += missing
    for part in parts:
        found += classes.imbalance(part)
    return found


def examine_briefly(splits: Splits) -> list[Finding]:
    """Examine what a training is about to use, in little time.

    Of the test part nothing but the hashes of its images is asked for. Polarity, orientation and scale
    are judged by a sample of each other part; empty and repeated images are looked for among all.
    """
    parts = [Part(_NAMES[name], data) for name, data in splits.parts().items() if name != "test"]
    found, full, counted = _each_by_itself(parts)
    for first, second in combinations(counted, 2):
        found += copies.shared(first, first.prints, second, second.prints) + copies.conflicting_between(first, second)
    if splits.test is not None:
        found += _test_by_hashes(splits.test, counted)
    found += _pixels([part.sample(_SAMPLE) for part in full], known=True)
    found += classes.missing(parts, np.arange(len(splits.train.classes)))
    return found + [finding for part in parts for finding in classes.imbalance(part)]


def _each_by_itself(parts: Sequence[Part]) -> tuple[list[Finding], list[Part], list[Part]]:
    """What concerns images that hold nothing or come twice in their part; and the parts without empty images.

    The parts come twice: to be looked at, those on the disk being samples, and with all their images for hashes.
    """
    found: list[Finding] = []
    full, counted = [], []
    for part in parts:
        seen = part.at_hand()
        empty = {"constant": contents.constant(seen), "blank": contents.blank(seen)}
        found += contents.examine(seen, empty)
        if (rest := _without(seen, empty["constant"] | empty["blank"])) is not None:
            full.append(rest)
            counted.append(rest if seen is part else part)
    for part in counted:
        found += copies.duplicates(part, part.prints, part.data.labels)
    return found, full, counted


def _own_parts(data: ImageSet) -> list[Part]:
    """The parts that the source itself makes."""
    if data.test_from is None or not 0 < data.test_from < len(data):
        return [Part("the set", data)]
    before, behind = data.take(slice(0, data.test_from)), data.take(slice(data.test_from, None))
    return [Part(_NAMES["train"], before), Part(_NAMES["test"], behind)]


def _without(part: Part, empty: NDArray[np.bool_]) -> Part | None:
    """The part without its empty images, or None if nothing is left."""
    if not empty.any():
        return part
    return None if empty.all() else part.take(np.flatnonzero(~empty))


def _across(parts: Sequence[Part], *, known: bool) -> list[Finding]:
    """What concerns the pixels of each part, and of two."""
    return _shared(parts) + _pixels(parts, known=known)


def _shared(parts: Sequence[Part]) -> list[Finding]:
    """Images that two parts hold."""
    found: list[Finding] = []
    for first, second in combinations(parts, 2):
        found += copies.shared(first, first.prints, second, second.prints)
    return found


def _pixels(parts: Sequence[Part], *, known: bool) -> list[Finding]:
    """Polarity, orientation and scale, against the known sets or between parts alone."""
    between: list[Finding] = []
    for first, second in combinations(parts, 2):
        between += polarity.between(first, second) + orientation.between(first, second)
    if not known:
        return between
    found = list(between)
    names = {finding.name for finding in between}
    for part in parts:
        found += [one for one in polarity.examine(part) if one.name != "inverted" or "polarity-differs" not in names]
        if "orientation-differs" not in names:
            found += orientation.against_known(part)
    return found + scale.examine(parts)


def _of_split(data: ImageSet, splits: Splits) -> list[Finding]:
    """What concerns two parts of a division, where it is not the source's own."""
    own = [] if data.test_from is None else [np.arange(data.test_from, len(data))]
    parts = [
        Part(_NAMES[name], part).at_hand()
        for name, part in splits.parts().items()
        if not any(np.array_equal(part.rows, rows) for rows in own)
    ]
    full = [
        rest for part in parts if (rest := _without(part, contents.constant(part) | contents.blank(part))) is not None
    ]
    return _across(full, known=False) + classes.missing(parts, data.labels)


def _test_by_hashes(test: ImageSet, parts: Sequence[Part]) -> list[Finding]:
    """Copies inside the test part, and of it in the other parts, by the hashes of its images alone."""
    part, prints = Part(_NAMES["test"], test), test.fingerprints()
    found = copies.duplicates(part, prints, None)
    for earlier in parts:
        found += copies.shared(earlier, earlier.prints, part, prints)
    return found


def picture(data: ImageSet, findings: Sequence[Finding], each: int = 5) -> Figure:
    """Examples of the images that each finding is about: a row a finding, captioned with its name, row and class.

    Args:
        data: the source that was examined.
        findings: those without rows are passed over.
        each: images of a finding.

    Returns:
        A figure; without images, if no finding has rows.
    """
    from matplotlib.figure import Figure

    from kilonet import plots

    drawn = [one for one in findings if one.rows]
    blank, pictures, captions = np.full(data.shape, 255, np.uint8), [], []
    for one in drawn:
        instead = {suspect["row"]: suspect["suggested"] for suspect in one.evidence.get("suspects", [])}
        for i in range(each):
            row = one.rows[i] if i < len(one.rows) else None
            pictures.append(blank if row is None else data.images[row])
            captions.append("" if row is None else f"{one.name}\nrow {row}: {data.classes[data.labels[row]]}")
            if row in instead:
                captions[-1] += f", or {instead[row]}?"
    if not pictures:
        return Figure((4, 2))
    return plots.images(np.stack(pictures), captions, columns=each)
