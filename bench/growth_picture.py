"""The picture of `growth.py`: six small panels, native and torch in a colour each, their names at the lines' ends."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kilonet.plots import _BLUE, _GREY, _ORANGE, _STYLE

COLOURS = {"native": _BLUE, "torch": _ORANGE}
Line = tuple[str, str, str, list[float], list[float]]
"""Its name, colour and style, and its points."""


def draw(results: dict[str, list[dict[str, Any]]]) -> Figure:
    """From the rows of each part; one that was not measured stays empty."""

    def of(part: str, model: str = "") -> list[dict[str, Any]]:
        return [row for row in results.get(part, []) if row["model"] == (model or row["model"])]

    def by_model(part: str, models: Iterable[str]) -> list[Line]:
        styles = zip(models, ("-", "--"), strict=True)
        return [line for model, style in styles for line in lines(of(part, model), model, style)]

    with mpl.rc_context({**_STYLE, "font.size": 8.5, "axes.titlesize": 9.5, "axes.titlelocation": "left"}):
        figure = Figure((11, 6.2), layout="constrained")
        panels = figure.subplots(2, 3).ravel()
        images = of("images")
        epoch = lines(images, "", "-", lambda row, engine: [us * row["at"] / 1e6 for us in row[engine]])
        peak = lines(images, "", "-", lambda row, engine: [n / 1e6 for n in row[f"{engine} bytes"]])
        raw = [("the images", _GREY, ":", [row["at"] for row in images], [row["bytes"] / 1e6 for row in images])]
        panel(panels[0], "tutorial-cnn: time of an epoch", "images", "s", epoch)
        panel(panels[1], "tutorial-cnn: memory at the peak", "images", "MB", [*peak, *(raw if images else [])])
        panel(panels[2], "Batches", "images a step", "µs an image", by_model("batch", ("tutorial-cnn", "kilo-4k")))
        for axes, family in zip(panels[3:], ("convolutional", "linear"), strict=False):
            title = f"{family.capitalize()} nets of one form"
            panel(axes, title, "parameters", "µs an image", lines(of("parameters", family), "", "-"))
        panel(panels[5], "Threads", "threads", "µs an image", by_model("threads", ("tutorial-cnn", "kilo-16k")))
    return figure


def lines(
    rows: list[dict[str, Any]],
    model: str,
    style: str,
    values: Callable[[dict[str, Any], str], list[float]] = lambda row, engine: row[engine],
) -> list[Line]:
    """A line an engine, of medians."""
    at = [row["at"] for row in rows]
    name = f"{model}, " if model else ""
    return [
        (name + engine, colour, style, at, [statistics.median(values(row, engine)) for row in rows])
        for engine, colour in COLOURS.items()
        if rows
    ]


def panel(axes: Any, title: str, across: str, up: str, drawn: list[Line]) -> None:
    """Lines over logarithmic axes, ticks where something was measured."""
    axes.set_title(title)
    if not drawn:
        axes.axis("off")
        axes.text(0.5, 0.5, "not measured", ha="center", color=_GREY, transform=axes.transAxes)
        return
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
    for _, colour, style, x, y in drawn:
        axes.plot(x, y, style, color=colour, marker="o", markersize=3, linewidth=1.4)
    measured = sorted({at for line in drawn for at in line[3]})
    ticks = [10**e for e in range(3, 7)] if across == "parameters" else measured
    axes.set_xlim(measured[0] / 1.3, measured[-1] * 1.2)
    axes.set_xticks([at for at in ticks if measured[0] / 1.3 <= at <= measured[-1] * 1.2])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: short(at)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    lowest, highest = min(min(line[4]) for line in drawn), max(max(line[4]) for line in drawn)
    if highest < 100 * lowest:
        marks = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
        axes.set_yticks([mark for mark in marks if lowest / 2 <= mark <= highest * 2])
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(lowest / 1.4, highest * 1.7)
    name_ends(axes, drawn)


def name_ends(axes: Any, drawn: list[Line]) -> None:
    """Each line's name behind its last point, moved up as far as it takes to stay off the one below."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    last = -1.0
    for name, colour, _, x, y in sorted(drawn, key=lambda line: line[4][-1]):
        own = (math.log(y[-1]) - low) / (high - low)
        last = max(own, last + 0.075)
        axes.annotate(
            name, (x[-1], y[-1]), (6, last), textcoords=("offset points", "axes fraction"), color=colour, va="center"
        )


def short(count: float) -> str:
    """30,000 as 30k, but 1,024 in full."""
    for power, unit in ((1e6, "M"), (1e3, "k")):
        if count >= power and count % power == 0:
            return f"{count / power:.0f}{unit}"
    return f"{count:,.0f}"
