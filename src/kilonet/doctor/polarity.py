"""Polarity: light ink on dark ground, as in MNIST and its kin, or the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor import glyphs
from kilonet.doctor.finding import Finding
from kilonet.doctor.part import correlation, counted, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.doctor.part import Part

GROUNDED = 0.8
"""A set is drawn on a ground if this share of its images has a border that is mostly near one end of their range."""
AGAINST = -0.1
"""Correlation with the mean of its class below which an image on the other ground is an inverted one."""


def bright_ground(part: Part) -> NDArray[np.bool_] | None:
    """Which images stand on a ground brighter than what is drawn on it, bool, (N,); None for a set without grounds.

    The ground is what the outermost pixels show: in a set of drawings most of them lie within 15 % of one end of
    the image's own range; in one of photographs they don't.
    """
    grey = part.grey
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    low = grey.reshape(len(part), -1).min(1).astype(np.float32)[:, None]
    high = grey.reshape(len(part), -1).max(1).astype(np.float32)[:, None]
    dark = (border <= low + 0.15 * (high - low)).mean(1)
    bright = (border >= high - 0.15 * (high - low)).mean(1)
    if (np.maximum(dark, bright) >= 0.5).mean() < GROUNDED:
        return None
    return np.asarray((border > (low + high) / 2).mean(1) > 0.5)


def examine(part: Part) -> list[Finding]:
    """Findings `inverted`, most images being dark on bright, and `mixed-polarity`, a minority being unlike the rest."""
    bright = bright_ground(part)
    if bright is None:
        return []
    most = bool(bright.mean() > 0.5)
    other = bright != most
    if other.any():
        other[other] = _against_the_rest(part, other)
    found = []
    if most and _compares_with_known_sets(part):
        found.append(
            Finding(
                "inverted",
                counted(~other, part, "dark ink on bright ground", "shows show"),
                "MNIST and its kin are light on dark: models and pictures prepared for them see these inverted",
                "invert them: 255 less the pixel",
                part.rows(~other),
                {"part": part.name, "count": int((~other).sum())},
            )
        )
    if other.any():
        ground = (
            "dark on bright ground, the rest light on dark" if not most else "light on dark, the rest dark on bright"
        )
        found.append(
            Finding(
                "mixed-polarity",
                counted(other, part, f"of the other polarity: {ground}"),
                "one class then looks two ways, and a small net has to learn both from fewer examples",
                "invert these rows: 255 less the pixel",
                part.rows(other),
                {"part": part.name, "count": int(other.sum())},
            )
        )
    return found


def _against_the_rest(part: Part, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the images on the other ground are the negative of what their class looks like on the usual one."""
    rest, suspects = part.take(np.flatnonzero(~other)), part.take(np.flatnonzero(other))
    means = rest.class_means
    means = np.where(np.isnan(means), np.nanmean(means, 0), means).reshape(len(means), -1)
    return correlation(suspects.grey.reshape(len(suspects), -1), means[suspects.data.labels]) < AGAINST


def _compares_with_known_sets(part: Part) -> bool:
    """Whether the images are grey, in one channel or in three equal ones, or their classes digits or letters.

    Of other coloured images a bright ground says little: goods are photographed so.
    """
    images = part.sample(500).data.pixels
    return bool((images == images[:, :1]).all()) or sum(map(bool, glyphs.characters(part.data.classes))) >= 3


def between(first: Part, second: Part) -> list[Finding]:
    """Finding `polarity-differs`: the class means of one part are the negative of the other's."""
    common = ~np.isnan(first.class_means[:, 0, 0]) & ~np.isnan(second.class_means[:, 0, 0])
    if not common.any():
        return []
    ours, theirs = (part.class_means[common].reshape(int(common.sum()), -1) for part in (first, second))
    alike = float(correlation(ours, theirs).mean())
    brightness = [float(part.class_means[common].mean()) for part in (first, second)]
    if alike > -0.6:
        return []
    inverted = max(first, second, key=lambda part: float(part.class_means[common].mean()))
    return [
        Finding(
            "polarity-differs",
            f"{second.name} is the negative of {first.name}: their class means correlate by {alike:.2f}; "
            f"the brighter one is {inverted.name} ({listed(inverted.data.rows.tolist())})",
            "what was learnt from one part is read inverted in the other, so accuracy falls to chance or below",
            f"invert {inverted.name}: 255 less the pixel",
            inverted.rows(np.ones(len(inverted), bool)),
            {"parts": [first.name, second.name], "correlation": alike, "mean_pixel": brightness},
        )
    ]
