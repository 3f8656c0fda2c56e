"""A sweep in pictures: parallel coordinates, what mattered, accuracy against size and time with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kilonet.plots import COLOURS, save, shortened, styled
from kilonet.sweep.results import importances, ranked

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.sweep.results import Trial
    from kilonet.sweep.space import Axis, Space
    from kilonet.sweep.spec import Spec

_NAME = 18
"""Letters of a name that are shown."""


def draw(path: Path, found: list[Trial], spec: Spec, name: str) -> None:
    """Write `parallel.png`, `importance.png` and `accuracy.png` into a folder.

    Args:
        path: the folder.
        found: all trials that are done.
        spec: the sweep.
        name: of the sweep.

    Raises:
        OSError: if they can't be written.
    """
    best = ranked(found)
    save(parallel(found, best, spec.space, name), path / "parallel.png")
    save(importance(importances(found, spec), name), path / "importance.png")
    save(tradeoff(found, best, name), path / "accuracy.png")


def front(trials: Sequence[Trial], cost: Callable[[Trial], float]) -> list[Trial]:
    """The trials that no other beats in accuracy at no higher cost, the cheapest first (Pareto)."""
    chosen: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (cost(t), -t.accuracy)):
        if not chosen or trial.accuracy > chosen[-1].accuracy:
            chosen.append(trial)
    return chosen


@dataclass(frozen=True)
class _Scale:
    """Where values stand on an upright line from 0 to 1, and which are named there."""

    title: str
    place: Callable[[Any], float]
    ticks: list[tuple[float, str]]


def parallel(found: Sequence[Trial], best: Sequence[Trial], space: Space, name: str) -> Figure:
    """A line a trial across an axis a setting, to its accuracy: the better the darker, the winner on top."""
    varied = [axis for axis in space.axes if len(axis.ends) > 1] or space.axes
    scales = [_axis_scale(axis) for axis in varied]
    errors = _Errors([trial.accuracy for trial in found if trial.state != "went wrong"])
    score = _Scale("accuracy, %", errors.place, [(errors.place(tick), _accuracy(tick)) for tick in errors.ticks])
    shown = [trial for trial in found if trial.state != "went wrong"]
    ordered = sorted(shown, key=lambda t: (t.state == "complete", t.accuracy))
    with styled(), mpl.rc_context({"axes.grid": False}):
        figure = Figure((max(5.5, 1.9 * (len(scales) + 1) + 1), 4.2), layout="constrained")
        axes = figure.subplots()
        for trial in ordered:
            spread = 0.03 * math.sin(2.4 * trial.number)  # lines through one choice don't hide each other
            heights = [
                scale.place(trial.values[axis.key]) + (spread if isinstance(trial.values[axis.key], str) else 0)
                for axis, scale in zip(varied, scales, strict=True)
            ]
            axes.plot(range(len(scales) + 1), [*heights, score.place(trial.accuracy)], **_line(trial, best, errors))
        for at, scale in enumerate([*scales, score]):
            _upright(axes, at, scale)
        axes.set_xlim(-0.75, len(scales) + 0.45)
        axes.set_ylim(-0.06, 1.06)
        axes.set_axis_off()
        legend = "orange: the winner; grey: ended early; the darker the better"
        axes.set_title(legend, fontsize=8, color=COLOURS["grey"])
        figure.suptitle(f"{name}: {_counted(found)}")
    return figure


def _line(trial: Trial, best: Sequence[Trial], errors: _Errors) -> dict[str, Any]:
    if best and trial is best[0]:
        return {"color": COLOURS["orange"], "linewidth": 2.5, "zorder": 3}
    if trial.state != "complete":
        return {"color": "#c3c8cf", "linewidth": 0.8, "zorder": 1}
    shade = mpl.colormaps["Blues"](0.25 + 0.7 * errors.place(trial.accuracy))
    return {"color": shade, "linewidth": 1.1, "alpha": 0.85, "zorder": 2}


def _upright(axes: Any, at: int, scale: _Scale) -> None:
    """An axis of the parallel coordinates, with its name under it and its ticks to the left."""
    axes.plot([at, at], [0, 1], color=COLOURS["grey"], linewidth=1, zorder=4)
    axes.text(at, -0.1, scale.title, ha="center", va="top", fontweight="bold")
    for height, text in scale.ticks:
        axes.plot([at - 0.02, at], [height, height], color=COLOURS["grey"], linewidth=1, zorder=4)
        box = {"facecolor": "white", "alpha": 0.75, "pad": 0.8, "edgecolor": "none"}
        axes.text(at - 0.05, height, text, ha="right", va="center", fontsize=8, zorder=5, bbox=box)


def _axis_scale(axis: Axis) -> _Scale:
    title = axis.key.replace("_", " ")
    low, high = axis.low, axis.high
    if low is None or high is None:
        if all(not isinstance(value, str) for value in axis.values):
            return _listed(title, sorted(axis.values))
        return _listed(title, list(axis.values))
    if axis.log:
        span = math.log(high / low)
        ticks = _logarithmic_ticks(low, high)
        return _Scale(title, lambda v: math.log(v / low) / span, [(math.log(t / low) / span, f"{t:g}") for t in ticks])
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    if isinstance(low, int):
        ticks = sorted({round(tick) for tick in ticks})
    return _Scale(
        title, lambda v: (v - low) / (high - low), [((tick - low) / (high - low), f"{tick:.4g}") for tick in ticks]
    )


def _listed(title: str, values: list[Any]) -> _Scale:
    """A scale of a list, evenly spaced; of a long one some are named."""
    places = {value: (at + 0.5) / len(values) for at, value in enumerate(values)}
    every = math.ceil(len(values) / 12)
    named = [(place, shortened(str(value), _NAME)) for value, place in list(places.items())[::every]]
    return _Scale(title, places.__getitem__, named)


class _Errors:
    """A scale of accuracies that is logarithmic in the error, so that 99 and 99.5 % stand apart."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        errors = [1 - accuracy for accuracy in accuracies] or [1.0]
        least = min((error for error in errors if error > 0), default=0.01)
        self.floor = least / 2 if min(errors) <= 0 else least
        highest = max(max(errors), self.floor)
        margin = 1.05 if highest > 2 * self.floor else 2.0
        self.low, self.high = self.floor / margin, highest * margin
        self.ticks = [tick for tick in _logarithmic_ticks(self.low, self.high) if tick <= 1]

    def place(self, accuracy: float) -> float:
        """0 for the worst, 1 for the best; of a tick, which is an error, likewise."""
        error = accuracy if accuracy in self.ticks else max(1 - accuracy, self.floor)
        return math.log(self.high / error) / math.log(self.high / self.low)


def _accuracy(error: float) -> str:
    return f"{100 * (1 - error):.6g}"


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two: powers of ten where they are far apart, 1, 2 and 5 times these, or any five."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        ticks = [float(f"{step}e{power}") for power in decades for step in steps]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 9)]
    return [float(f"{value:.3g}") for value in np.geomspace(low, high, 3)]


def importance(importances: dict[str, float], name: str) -> Figure:
    """A bar an axis, the most important on top."""
    with styled():
        figure = Figure((6.5, 1.6 + 0.42 * max(len(importances), 2)), layout="constrained")
        axes = figure.subplots()
        ordered = sorted(importances.items(), key=lambda item: item[1])
        if not ordered:
            axes.set_axis_off()
            why = "not enough to tell:\nten complete trials and two settings that vary"
            axes.text(0.5, 0.5, why, ha="center", va="center", color=COLOURS["grey"], transform=axes.transAxes)
        else:
            shares = [100 * share for _, share in ordered]
            axes.barh([key.replace("_", " ") for key, _ in ordered], shares, color=COLOURS["blue"], height=0.6)
            for at, share in enumerate(shares):
                axes.text(share + 1, at, f"{share:.0f} %", va="center", fontsize=9)
            axes.set_xlim(0, max(shares) * 1.15)
            axes.grid(visible=False, axis="y")
            axes.set_xlabel("share of what sets good trials apart, % (PED-ANOVA)")
        figure.suptitle(f"{name}: what mattered")
    return figure


def tradeoff(found: Sequence[Trial], best: Sequence[Trial], name: str) -> Figure:
    """Accuracy against parameters and against seconds, each with its Pareto front."""
    errors = _Errors([trial.accuracy for trial in found if trial.state != "went wrong"])
    with styled():
        figure = Figure((10, 4.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        costs: list[tuple[Callable[[Trial], float], str]] = [
            (lambda t: max(t.parameters, 1), "parameters"),
            (lambda t: max(t.seconds, 1e-3), "seconds of training, one thread"),
        ]
        for axes, (cost, label) in zip(panels, costs, strict=True):
            _panel(axes, found, best, cost, errors)
            axes.set_xlabel(label)
        panels[0].set_ylabel("validation accuracy, %")
        panels[0].yaxis.set_major_locator(FixedLocator(errors.ticks))
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda error, _: _accuracy(error)))
        panels[0].set_ylim(errors.high * 1.1, errors.low / 1.15)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        figure.suptitle(f"{name}: {_counted(found)}")
    return figure


def _panel(
    axes: Any, found: Sequence[Trial], best: Sequence[Trial], cost: Callable[[Trial], float], errors: _Errors
) -> None:
    def drawn(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        return [cost(t) for t in trials], [max(1 - t.accuracy, errors.floor) for t in trials]

    early = [trial for trial in found if trial.state == "ended early"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    if early:
        axes.plot(*drawn(early), "o", color="#b4bac2", markerfacecolor="none", markersize=4.5, label="ended early")
    axes.plot(*drawn(best), "o", color=COLOURS["blue"], markersize=4.5, alpha=0.7, label="complete")
    chosen = front(best, cost)
    axes.plot(*drawn(chosen), "-", color=COLOURS["orange"], linewidth=1.5, drawstyle="steps-post", label="Pareto front")
    axes.plot(*drawn(chosen), "o", color=COLOURS["orange"], markersize=5)
    axes.plot(*drawn(best[:1]), "*", color=COLOURS["red"], markersize=13, label="winner")
    costs = [cost(trial) for trial in [*early, *best]] or [1.0]
    low, high = min(costs), max(costs)
    if high < 2 * low:
        low, high = low / 2, high * 2
    margin = (high / low) ** 0.06
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_major_locator(FixedLocator(_logarithmic_ticks(low / margin, high * margin)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def _counted(found: Sequence[Trial]) -> str:
    early, wrong = (sum(trial.state == state for trial in found) for state in ("ended early", "went wrong"))
    n = len(found)
    told = [f"{n:,} trial{'s' if n != 1 else ''}", *([f"{early:,} ended early"] if early else [])]
    return ", ".join([*told, *([f"{wrong:,} went wrong and not shown"] if wrong else [])])
