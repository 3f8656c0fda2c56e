"""How the accuracies of many runs are spread, as a picture: a dot a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from kilonet.metrics import over_seeds
from kilonet.plots import BLUE, GREY, ORANGE, STYLE

if TYPE_CHECKING:
    from collections.abc import Mapping

_BINS = 64
_WIDTH, _MOST, _BELOW = 9.0 * 72, 118.0, 58.0
"""Points: the figure's width, and a panel's height above (at most) and below the line that the dots stand on."""
_DOT = 0.9 * (_WIDTH - 36) / _BINS
"""Points: the diameter of a dot."""
_PARTS = {"val": "validation accuracy", "test": "test accuracy"}


def distribution(parts: Mapping[str, Mapping[str, float]], left_out: Mapping[str, str], title: str = "") -> Figure:
    """The accuracy of each of several runs, a dot each, with mean, quartiles and extremes.

    Args:
        parts: of each measured part (`val`, `test`) the accuracies, 0 to 1, by the runs' names.
        left_out: the runs that have none, and why.
        title: of the figure.
    """
    above = min(_MOST, 1.5 * _DOT + _DOT * max(map(len, parts.values()), default=0))
    heads, panel = 24 + 14 * (1 + bool(left_out)), 36 + above + _BELOW + 26
    height = heads + panel * len(parts)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure((_WIDTH / 72, height / 72))
        figure.text(18 / _WIDTH, 1 - 22 / height, title, fontsize=12)
        figure.text(18 / _WIDTH, 1 - 38 / height, _told(left_out), fontsize=9, color=GREY)
        for at, (part, named) in enumerate(parts.items()):
            bottom = height - heads - (at + 1) * panel + 30
            axes = figure.add_axes((18 / _WIDTH, bottom / height, 1 - 36 / _WIDTH, (above + _BELOW) / height))
            axes.set_ylim(-_BELOW, above)
            _panel(axes, named, _PARTS.get(part, part))
    return figure


def _told(left_out: Mapping[str, str]) -> str:
    """The runs that are left out, the first three by name, with the reason of the first."""
    names = list(left_out)
    if not names:
        return ""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    line = f"left out: {', '.join(names[:3])}{more}; {names[0]}: {left_out[names[0]]}"
    return line if len(line) <= 130 else f"{line[:129]}…"


def _panel(axes: Any, named: Mapping[str, float], what: str) -> None:
    """One part's dots, and under them its quartiles, its mean and its extremes."""
    names, percent = list(named), 100 * np.array(list(named.values()))
    found = over_seeds([float(value) for value in percent])
    least, lower, median, upper, most = found["quantiles"]
    margin = 0.04 * (most - least) or 0.5
    axes.set_xlim(least - margin, most + margin)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.axhline(0, color="#9aa1aa", linewidth=0.8)
    _dots(axes, percent)
    axes.plot([lower, upper], [-12, -12], color=BLUE, linewidth=7, alpha=0.35, solid_capstyle="butt")
    axes.plot([median, median], [-17, -7], color=BLUE, linewidth=2)
    if found["interval"] is not None:
        axes.plot(found["interval"], [-27, -27], color=ORANGE, linewidth=2, solid_capstyle="butt")
    axes.plot(found["mean"], -27, "o", color=ORANGE, markersize=5)
    _extremes(axes, names, percent)
    axes.set_title(f"{what}, %", loc="left", fontsize=10, pad=16)
    between = "" if found["interval"] is None else ", 95 % interval {:.2f} to {:.2f}".format(*found["interval"])
    _words(axes, 0, f"median {median:.2f}, quartiles {lower:.2f} to {upper:.2f}", BLUE, "left")
    _words(axes, 1, f"mean {found['mean']:.2f}{between}", ORANGE, "right")


def _dots(axes: Any, percent: Any) -> None:
    """A dot a run over its accuracy; those in one of the bins, each of as many steps of accuracy, are a stack."""
    (low, high), above, values = axes.get_xlim(), axes.get_ylim()[1], np.sort(percent)
    steps = np.diff(np.unique(values))
    step = float(steps[steps > 1e-9].min(initial=high - low))
    width = max(math.ceil((high - low) / _BINS / step), 1) * step
    bins = ((values - values[0]) / width + 0.5).astype(int)
    counts = np.bincount(bins)
    level = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    middles = np.bincount(bins, values) / np.maximum(counts, 1)
    pitch = min(_DOT, (above - 1.5 * _DOT) / max(counts.max() - 1, 1))
    edge = 0.4 if pitch == _DOT else 0.0
    at, heights = middles[bins], _DOT / 2 + level * pitch
    axes.scatter(at, heights, s=(0.9 * _DOT) ** 2, color=BLUE, edgecolor="white", linewidth=edge)


def _extremes(axes: Any, names: list[str], percent: Any) -> None:
    """The worst and the best by name."""
    worst, best = int(np.argmin(percent)), int(np.argmax(percent))
    if percent[worst] == percent[best]:
        axes.text(percent[best], -50, f"each {percent[best]:.2f}", ha="center", fontsize=9, color=GREY)
        return
    axes.text(percent[worst], -50, f"worst: {names[worst]}, {percent[worst]:.2f}", fontsize=9, color=GREY)
    axes.text(percent[best], -50, f"best: {names[best]}, {percent[best]:.2f}", ha="right", fontsize=9, color=GREY)


def _words(axes: Any, at: float, text: str, colour: str, align: str) -> None:
    axes.text(at, 1.03, text, transform=axes.transAxes, ha=align, fontsize=9, color=colour)
