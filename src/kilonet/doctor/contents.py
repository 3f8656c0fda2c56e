"""Images that hold nothing: constant ones, and blank ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor.finding import Finding
from kilonet.doctor.part import correlation, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.doctor.part import Part

BLANK = 0.15
"""An image is blank if, smoothed over 3x3 pixels, it varies by less than this share of what the others do."""
SPECK = 0.1
"""An image is blank if what is on it covers less than this share of what the median image's covers.

A dot of 2x2 pixels on MNIST's 28x28 has 0.04 to 0.05; the thinnest digit of MNIST 0.2.
"""
STRUCTURE = 0.25
"""Likeness above which a faint image is no noise: it is one on a wrong scale."""
_TYPICAL = 0.9


def constant(part: Part) -> NDArray[np.bool_]:
    """Which images have one value (one colour) all over, bool, (N,)."""
    found = np.asarray(part.low == part.high)
    if part.data.shape[0] == 1:
        return found
    channels = part.data.pixels.reshape(len(part), part.data.shape[0], -1)
    return np.asarray((channels.min(2) == channels.max(2)).all(1))


def blank(part: Part) -> NDArray[np.bool_]:
    """Which images hold practically nothing, without being constant, bool, (N,): noise, or a speck."""
    found = np.zeros(len(part), bool)
    full = ~constant(part)
    if not full.any():
        return found
    mean = part.flat.mean(1, dtype=np.float32)
    ink = np.minimum(mean - part.low, part.high - mean)
    little = ink < 0.15 * np.quantile(ink[full], _TYPICAL)
    narrow = part.span < 0.5 * np.quantile(part.span[full], _TYPICAL)
    suspects = np.flatnonzero(full & (little | narrow))
    if not len(suspects):
        return found
    others = part.take(np.flatnonzero(full)).sample(1000)
    typical = np.quantile(_variation(others.data.pixels), _TYPICAL)
    nothing = _variation(part.data.images[suspects]) < BLANK * typical
    covered = ink / np.maximum(part.span, 1)
    nothing |= covered[suspects] < SPECK * np.median(covered[full])
    faint = part.span[suspects] < BLANK * np.quantile(part.span[full], _TYPICAL)
    found[suspects] = nothing & ~(faint & (structure(part, suspects) > STRUCTURE))
    return found


def _variation(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Greatest less smallest value of each image smoothed over 3x3 pixels, float64, (N,)."""
    padded = np.pad(images.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = images.shape[2:]
    smooth = sum(padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)) / np.float32(9)
    return np.asarray(np.ptp(smooth.reshape(len(images), images.shape[1], -1), axis=2).max(1), np.float64)


def structure(part: Part, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much some images, int64, (M,), look like images and not like noise, float64, (M,): noise has about 0.

    The mean of three correlations: of pixels with their neighbours across and down, and of the image with the
    mean of its class.
    """
    grey, n = part.grey[which].astype(np.float32), len(which)
    across = correlation(grey[:, :, 1:].reshape(n, -1), grey[:, :, :-1].reshape(n, -1))
    down = correlation(grey[:, 1:].reshape(n, -1), grey[:, :-1].reshape(n, -1))
    means = part.class_means.reshape(len(part.class_means), -1)[part.data.labels[which]]
    return (across + down + correlation(grey.reshape(n, -1), means)) / 3


def examine(part: Part, empty: dict[str, NDArray[np.bool_]]) -> list[Finding]:
    """Findings `constant` and `blank`, from what the functions of these names found."""
    found = []
    if empty["constant"].any():
        values = np.unique(part.low[empty["constant"]])
        found.append(
            Finding(
                "constant",
                counted(empty["constant"], part, "of one value all over"),
                "there is nothing on them to learn from, and their labels teach noise",
                "look at them with --show, then remove them or find out what emptied them",
                part.rows(empty["constant"]),
                {"part": part.name, "count": int(empty["constant"].sum()), "values": values.tolist()},
            )
        )
    if empty["blank"].any():
        found.append(
            Finding(
                "blank",
                counted(empty["blank"], part, "practically nothing", "shows show"),
                "noise or a speck under a label teaches noise",
                "look at them with --show, then remove them or get the pictures again",
                part.rows(empty["blank"]),
                {"part": part.name, "count": int(empty["blank"].sum())},
            )
        )
    return found
