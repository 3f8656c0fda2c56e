"""Orientation: images that are transposed (EMNIST's case), mirrored or turned, all of them or a part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor import glyphs
from kilonet.doctor.finding import Finding
from kilonet.doctor.part import listed
from kilonet.doctor.symmetry import UNDO, Match, PairMatch, match, match_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.doctor.part import Part

MARGIN = 0.1
"""By how much a symmetry must match better than the images as they are."""
PAIRED = 4.5
"""Standard errors by which classes have to match their own characters better than those of other classes."""
PAIR_SCORE = 0.75
"""Correlation that the difference of two classes must reach, no third one being there to tell a match from chance."""
PAIR_OWN = 0.7
"""Correlation that each of two classes must reach: things of other kinds had 0.54 at most beside such a score."""
PAIR_MARGIN = 0.3
"""By how much two classes must match better than as they are."""
_WHY = "what was learnt one way up is not recognised the other way, in drawings, other sets or the browser"


def against_known(part: Part) -> list[Finding]:
    """Finding `orientation`: the digits or letters of a set are transposed, mirrored or turned.

    The class means are compared with handwritten and printed characters under the eight symmetries of the square.
    A match counts only if the classes pair rightly far beyond chance, so that classes which are merely
    numbered 0 to 9 are not taken for digits.
    """
    found = _match(part)
    clear = _is_clear_pair(found) if isinstance(found, PairMatch) else found is not None and _is_clear(found)
    if found is None or found.symmetry == "upright" or not clear:
        return []
    return [
        Finding(
            "orientation",
            f"the {len(part):,} images in {part.name} are {found.symmetry}: their class means match those of upright "
            f"characters by {found.score:.2f} when these are {found.symmetry}, by {found.upright:.2f} as they are",
            _WHY,
            UNDO[found.symmetry],
            part.rows(np.arange(len(part))),
            {"part": part.name, **vars(found)},
        )
    ]


def _is_clear(found: Match) -> bool:
    """Whether some classes pair rightly beyond chance, and better so than as they are."""
    return found.z >= PAIRED and found.score >= 0.25 and found.score - found.upright >= MARGIN and found.t >= 1.5


def _is_clear_pair(found: PairMatch) -> bool:
    """Whether two classes look so, and not as they are."""
    beyond = found.score - found.upright >= PAIR_MARGIN
    return beyond and found.score >= PAIR_SCORE and found.own >= PAIR_OWN


def _match(part: Part) -> Match | PairMatch | None:
    """How the class means match handwritten digits, or printed characters if not, where two or three and more are such.

    Two classes are held against handwritten digits alone; 0 and 1 are not, as any two classes are numbered so.
    """
    characters = glyphs.characters(part.data.classes)
    there = [k for k, name in enumerate(characters) if name and not np.isnan(part.class_means[k, 0, 0])]
    digits = [k for k in there if (characters[k] or "").isdecimal()]
    if len(there) == len(digits) == 2 and {characters[k] for k in digits} != {"0", "1"}:
        return match_pair(*_framed(part, digits, _handwritten(characters, digits)))
    found = None
    if len(digits) >= 3:
        found = match(*_framed(part, digits, _handwritten(characters, digits)))
    if len(there) >= 3 and (found is None or found.z < PAIRED):
        print_match = match(*_framed(part, there, [glyphs.printed(characters[k] or "") for k in there]))
        found = print_match if found is None or print_match.z > found.z else found
    return found


def _handwritten(characters: list[str | None], labels: list[int]) -> list[NDArray[np.float32]]:
    written = glyphs.handwritten()
    return [written[characters[k] or ""] for k in labels]


def _framed(
    part: Part, labels: list[int], expected: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The means of some classes, and what is expected of them, in one frame, (K, S, S) each."""
    return glyphs.framed(part.class_means[labels]), glyphs.framed(np.stack(expected))


def between(first: Part, second: Part) -> list[Finding]:
    """Finding `orientation-differs`: the class means of one part are those of the other, transposed or turned."""
    means, others = first.class_means, second.class_means
    common = ~np.isnan(means[:, 0, 0]) & ~np.isnan(others[:, 0, 0])
    if common.sum() < 2 or means.shape[1] != means.shape[2]:
        return []
    found = match(others[common], means[common])
    if found.symmetry == "upright" or found.score < 0.5 or found.score - found.upright < MARGIN or found.t < 2:
        return []
    return [
        Finding(
            "orientation-differs",
            f"{second.name} is {found.symmetry} against {first.name}: their class means match by {found.score:.2f} "
            f"so, by {found.upright:.2f} as they are ({listed(second.data.rows.tolist())})",
            _WHY,
            f"find out which is upright; for {second.name} {UNDO[found.symmetry]}",
            second.rows(np.arange(len(second))),
            {"parts": [first.name, second.name], **vars(found)},
        )
    ]
