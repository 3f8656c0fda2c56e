"""The range of the pixels: 0 to 255 where all is well, and what other ranges tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor.contents import STRUCTURE, structure
from kilonet.doctor.finding import Finding
from kilonet.doctor.part import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kilonet.doctor.part import Part

OFFSET = 8
"""How far below the lowest of a tenth of the images a hundredth of them may go, if an offset was added.

An offset is a floor that most images touch: in sets of smooth noise from 0 to 255 these two lie 16 to 25 apart.
"""
_WHY = (
    "a model normalises with what it trained on: pictures, drawings and other sets come from 0 to 255 and look wrong "
    "to it"
)


def examine(parts: Sequence[Part]) -> list[Finding]:
    """Findings `scales-differ` between parts, or `scale` in them, and `mixed-scale` for single images."""
    found = _between(parts)
    for part in parts:
        whole = [] if found and found[0].name == "scales-differ" else _whole(part)
        found += whole or _single(part)
    return found


def _range(part: Part) -> tuple[float, float]:
    """Values that a tenth of the images goes below, and that a tenth goes above."""
    return float(np.quantile(part.low, 0.1)), float(np.quantile(part.high, 0.9))


def _whole(part: Part) -> list[Finding]:
    """Pixels that use the lower half of the range alone, or that hardly any of the part's images gets darker than."""
    low, high = _range(part)
    if high <= 127:
        what, guess, advice = _guess(high)
    elif low >= 32 and np.quantile(part.low, 0.01) >= low - OFFSET:
        what = f"hardly fall below {low:.0f}"
        guess, advice = (
            "an offset was added, or a signed range was shifted",
            f"subtract {low:.0f} and stretch to 0 to 255",
        )
    elif (ground := _grey_ground(part)) is not None:
        what = f"lie on a ground of {ground}, midway"
        guess, advice = (
            "signed values were shifted, or wrapped around",
            "store them anew: clip to 0 to 255 before uint8",
        )
    else:
        return []
    lowest, highest = int(part.low.min()), int(part.high.max())
    return [
        Finding(
            "scale",
            f"the pixels of {part.name} {what} (from {lowest} to {highest} in all): {guess}",
            _WHY,
            advice,
            evidence={"part": part.name, "low": low, "high": high, "min": lowest, "max": highest},
        )
    ]


def _grey_ground(part: Part) -> int | None:
    """The value that most outermost pixels of most grey images have, where it lies in the middle half of the range."""
    images = part.sample(1000).data.pixels
    if images.shape[1] != 1:
        return None
    grey = images[:, 0]
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    usual = int(np.bincount(border.ravel(), minlength=256).argmax())
    on_it = (np.abs(border.astype(np.int64) - usual) <= 2).mean(1) >= 0.5
    return usual if 64 <= usual <= 191 and on_it.mean() >= 0.8 else None


def _guess(high: float) -> tuple[str, str, str]:
    """What a small greatest value means: what was found, its likely cause, and what to do."""
    causes = {
        1: "0 to 1 stored as whole numbers",
        2: "standardised fractions cut to whole numbers",
        15: "16 levels",
        16: "17 levels, as scikit-learn's digits have",
        31: "5 bits",
        63: "6 bits",
        100: "percentages",
        127: "7 bits, or signed bytes",
    }
    bound = next(b for b in causes if high <= b)
    exact = high == bound
    cause = f"it looks like {causes[bound]}" if exact or bound <= 2 else "it looks like another scale"
    return (
        f"hardly exceed {high:.0f}",
        cause,
        f"multiply them by {255 / max(high, 1):.4g} before they are stored as bytes",
    )


def _between(parts: Sequence[Part]) -> list[Finding]:
    """Parts whose ranges are to each other as two scales are."""
    if len(parts) < 2:
        return []
    ranges = {part.name: _range(part) for part in parts}
    first = parts[0]
    found = []
    for part in parts[1:]:
        (low, high), (its_low, its_high) = ranges[first.name], ranges[part.name]
        ratio = max(its_high, 1) / max(high, 1)
        contrast = max(float(np.median(part.span)), 1) / max(float(np.median(first.span)), 1)
        if 0.67 < ratio < 1.5 and 0.6 < contrast < 1.67 and abs(its_low - low) < 32:
            continue
        found.append(
            Finding(
                "scales-differ",
                f"the pixels of {part.name} run from {its_low:.0f} to {its_high:.0f}, those of {first.name} from "
                f"{low:.0f} to {high:.0f}",
                "what was learnt on one scale is not recognised on another, so accuracy falls",
                "bring both to 0 to 255, by the same numbers",
                evidence={"parts": [first.name, part.name], "ranges": [[low, high], [its_low, its_high]]},
            )
        )
    return found


def _single(part: Part) -> list[Finding]:
    """Images whose range is at most an eighth of what it is elsewhere in the part, and that show something."""
    usual = float(np.quantile(part.span, 0.9))
    small = _faint(part, usual)
    if not small.any():
        return []
    widest = int(part.span[small].max())
    return [
        Finding(
            "mixed-scale",
            counted(small, part, f"on another scale: the values span {widest} at most, those of the rest {usual:.0f}"),
            "to a model they are all but blank, and their labels teach noise",
            "stretch these rows as the others were",
            part.rows(small),
            {"part": part.name, "count": int(small.sum()), "span": widest, "usual": usual},
        )
    ]


def _faint(part: Part, usual: float) -> NDArray[np.bool_]:
    small = part.span <= usual / 8
    if small.any():
        at = np.flatnonzero(small)
        small[at] = structure(part, at) > STRUCTURE
    return small
