"""How the accuracies of many runs are spread, as a picture: a dot a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from kilonet.metrics import over_seeds
from kilonet.plots import COLOURS, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Percent = NDArray[np.float64]

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
    percents = {part: 100 * np.array(list(named.values())) for part, named in parts.items()}
    highest = max((int(_stacked(percent)[1].max()) for percent in percents.values()), default=0)
    above = min(_MOST, _DOT * (highest + 2.5))
    heads, panel = 24 + 14 * (1 + bool(left_out)), 36 + above + _BELOW + 26
    height = heads + panel * len(parts)
    with styled():
        figure = Figure((_WIDTH / 72, height / 72))
        figure.text(18 / _WIDTH, 1 - 22 / height, title, fontsize=12)
        figure.text(18 / _WIDTH, 1 - 38 / height, _told(left_out), fontsize=9, color=COLOURS["grey"])
        for at, (part, percent) in enumerate(percents.items()):
            bottom = height - heads - (at + 1) * panel + 30
            axes = figure.add_axes((18 / _WIDTH, bottom / height, 1 - 36 / _WIDTH, (above + _BELOW) / height))
            axes.set_ylim(-_BELOW, above)
            _panel(axes, list(parts[part]), percent, _PARTS.get(part, part))
    return figure


def _told(left_out: Mapping[str, str]) -> str:
    """The runs that are left out, the first three by name, with the reason of the first."""
    if not left_out:
        return ""
    names = [f"{name} ({why})" if i == 0 else name for i, (name, why) in enumerate(left_out.items())]
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    line = f"left out: {', '.join(names[:3])}{more}"
    return line if len(line) <= 130 else f"{line[:129]}…"


def _panel(axes: Any, names: list[str], percent: Percent, what: str) -> None:
    """One part's dots, and under them its quartiles, its mean and its extremes."""
    found = over_seeds([float(value) for value in percent])
    least, lower, median, upper, most = found["quantiles"]
    axes.set_xlim(least - _margin(percent), most + _margin(percent))
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.axhline(0, color="#9aa1aa", linewidth=0.8)
    _dots(axes, percent)
    axes.plot([lower, upper], [-12, -12], color=COLOURS["blue"], linewidth=7, alpha=0.35, solid_capstyle="butt")
    axes.plot([median, median], [-17, -7], color=COLOURS["blue"], linewidth=2)
    if found["interval"] is not None:
        axes.plot(found["interval"], [-27, -27], color=COLOURS["orange"], linewidth=2, solid_capstyle="butt")
    axes.plot(found["mean"], -27, "o", color=COLOURS["orange"], markersize=5)
    _extremes(axes, names, percent)
    axes.set_title(f"{what}, %", loc="left", fontsize=10, pad=18)
    between = "" if found["interval"] is None else ", 95 % interval {:.2f} to {:.2f}".format(*found["interval"])
    _words(axes, 0, f"median {median:.2f}, quartiles {lower:.2f} to {upper:.2f}", "blue", "left")
    _words(axes, 1, f"mean {found['mean']:.2f}{between}", "orange", "right")


def _margin(percent: Percent) -> float:
    """What the axis has on each side of the values."""
    return 0.04 * float(np.ptp(percent)) or 0.5


def _stacked(percent: Percent) -> tuple[Percent, NDArray[np.int64]]:
    """The accuracies from the least on, those in one of the bins as their mean; and how many stand under each there.

    A bin is as wide as a dot at least, and has a whole number of the smallest steps between two accuracies.
    """
    values = np.sort(percent)
    steps = np.diff(np.unique(values))
    across = float(np.ptp(values)) + 2 * _margin(values)
    step = float(steps[steps > 1e-9].min(initial=across))
    width = max(math.ceil(across / _BINS / step), 1) * step
    bins = ((values - values[0]) / width + 0.5).astype(int)
    counts = np.bincount(bins)
    levels = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (np.bincount(bins, values) / np.maximum(counts, 1))[bins], levels


def _dots(axes: Any, percent: Percent) -> None:
    """A dot a run over its accuracy; the higher the stacks, the closer."""
    at, levels = _stacked(percent)
    pitch = min(_DOT, (axes.get_ylim()[1] - 1.5 * _DOT) / max(levels.max(), 1))
    edge = 0.4 if pitch == _DOT else 0.0
    axes.scatter(
        at, _DOT / 2 + levels * pitch, s=(0.9 * _DOT) ** 2, color=COLOURS["blue"], edgecolor="white", linewidth=edge
    )


def _extremes(axes: Any, names: list[str], percent: Percent) -> None:
    """The worst and the best by name."""
    worst, best = int(np.argmin(percent)), int(np.argmax(percent))
    if percent[worst] == percent[best]:
        axes.text(percent[best], -50, f"each {percent[best]:.2f}", ha="center", fontsize=9, color=COLOURS["grey"])
        return
    axes.text(percent[worst], -50, f"worst: {names[worst]}, {percent[worst]:.2f}", fontsize=9, color=COLOURS["grey"])
    axes.text(
        percent[best], -50, f"best: {names[best]}, {percent[best]:.2f}", ha="right", fontsize=9, color=COLOURS["grey"]
    )


def _words(axes: Any, at: float, text: str, colour: str, align: str) -> None:
    place: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(text, (at, 1), (0, 5), ha=align, fontsize=9, color=COLOURS[colour], **place)
