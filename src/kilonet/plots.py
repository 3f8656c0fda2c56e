"""The figures: from records and arrays, never from a live model."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kilonet import files
from kilonet.images import in_class_order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from kilonet.history import History
    from kilonet.images import ImageSet
    from kilonet.metrics import Report
    from kilonet.predict import Prediction

_BLUE, _ORANGE, _RED, _GREY = "#2563a8", "#d9730d", "#c02626", "#5b6470"
_STYLE: Any = {
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.edgecolor": "#9aa1aa",
    "axes.axisbelow": True,
    "savefig.dpi": 120,
}


COLOURS = {"blue": _BLUE, "orange": _ORANGE, "red": _RED, "grey": _GREY}
"""What figures are drawn in."""


def styled() -> AbstractContextManager[None]:
    """Draw in the style of all figures."""
    return mpl.rc_context(_STYLE)


@dataclass(frozen=True)
class Difference:
    """A difference to draw.

    Attributes:
        name: of what against what.
        difference: -1 to 1.
        interval: around it, or None.
        clear: whether it is more than noise.
        remark: beside it.
    """

    name: str
    difference: float
    interval: tuple[float, float] | None
    clear: bool
    remark: str


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as a whole file; the format is what the name's ending says."""
    path = Path(path)
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names in scripts that the font lacks
        figure.savefig(buffer, format=path.suffix.lower().lstrip(".") or "png")
    files.write(path, buffer.getvalue())


def curves(histories: History | Sequence[History], title: str = "") -> Figure:
    """Training and validation loss, and validation accuracy, over epochs; of one run, or of several compared.

    More than ten get a thin line each, and their median a thick one.
    """
    from kilonet.history import History

    several = [histories] if isinstance(histories, History) else list(histories)
    with mpl.rc_context(_STYLE):
        figure = Figure((9.5, 3.8), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        if len(several) > 10:
            _many_curves(loss, accuracy, several)
        else:
            for i, history in enumerate(several):
                _curve(loss, accuracy, history, f"C{i}" if len(several) > 1 else None, f"{history.name}, ")
        _finish_curves(loss, accuracy, len(several))
        figure.suptitle(title)
    return figure


def comparison(
    named: Sequence[tuple[str, Sequence[History]]], differences: Sequence[Difference], what: str, title: str = ""
) -> Figure:
    """Curves of runs or of several seeds, a colour each, and under them the differences with their intervals.

    Args:
        named: what is compared: a name, and its histories.
        differences: the first 40 of them are drawn.
        what: what they are differences of, for the axis, with its unit.
        title: of the figure.
    """
    shown = differences[:40]
    below = 0.9 + 0.42 * len(shown) if shown else 0.0
    with mpl.rc_context(_STYLE):
        figure = Figure((9.5, 3.8 + below), layout="constrained")
        top = figure
        if shown:
            top, bottom = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(3.8, below))))
            _intervals(bottom.subplots(), shown, what)
            if len(differences) > len(shown):
                bottom.suptitle(f"the first {len(shown)} of {len(differences):,} differences", fontsize=9)
        loss, accuracy = top.subplots(1, 2)
        for i, (name, histories) in enumerate(named):
            for j, history in enumerate(histories):
                _curve(loss, accuracy, history, f"C{i}", "_" if j else f"{shortened(name, 24)}, ")
        _finish_curves(loss, accuracy, len(named))
        top.suptitle(title)
    return figure


def _intervals(axes: Any, shown: Sequence[Difference], what: str) -> None:
    """A line a difference, the first on top: filled and dark if it is more than noise, else hollow and grey."""
    axes.axvline(0, color=_GREY, linewidth=1)
    for at, found in enumerate(shown):
        colour = _BLUE if found.clear else _GREY
        if found.interval is not None:
            low, high = found.interval
            axes.plot([100 * low, 100 * high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
        face = colour if found.clear else "white"
        axes.plot(100 * found.difference, at, "o", color=colour, markerfacecolor=face, markersize=7)
        axes.text(1.01, at, found.remark, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(shown)), [shortened(found.name, 44) for found in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(what)
    furthest = max(map(abs, axes.get_xlim()))
    axes.set_xlim(-furthest, furthest)


def _finish_curves(loss: Any, accuracy: Any, several: int) -> None:
    """Labels of the axes, and a legend."""
    for axes, label in ((loss, "cross-entropy, nats"), (accuracy, "validation accuracy, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.legend(frameon=False, fontsize=8 if several > 1 else None)
    if not accuracy.lines:
        accuracy.text(0.5, 0.5, "no validation part", ha="center", color=_GREY, transform=accuracy.transAxes)


def _curve(loss: Any, accuracy: Any, history: History, colour: str | None, name: str) -> None:
    """A run's curves: in its own colour with its name if there are several, else one colour a curve."""
    epochs = [record.epoch for record in history.epochs]
    marker = "o" if len(epochs) < 30 else None
    name = name if colour else ""
    style = {"marker": marker, "markersize": 3}
    train = [record.train_loss for record in history.epochs]
    loss.plot(epochs, train, "--", color=colour or _BLUE, label=f"{name}training", **style)
    val = [(r.epoch, r.val_loss, r.val_accuracy) for r in history.epochs if r.val_loss is not None]
    if not val:
        return
    at, losses, shares = zip(*val, strict=True)
    loss.plot(at, losses, color=colour or _ORANGE, label=f"{name}validation", **style)
    percent = [100 * (share or 0) for share in shares]
    accuracy.plot(at, percent, color=colour or _ORANGE, **style)
    best = int(np.argmax(percent))
    if colour is None:
        accuracy.annotate(
            f"{percent[best]:.2f} %",
            (at[best], percent[best]),
            (0, 6),
            textcoords="offset points",
            ha="center",
        )
        accuracy.margins(y=0.12)


def _many_curves(loss: Any, accuracy: Any, histories: Sequence[History]) -> None:
    """The curves of many runs, and the medians of those that came so far."""
    longest = max(len(history.epochs) for history in histories)
    for axes, figure, scale, colour, label in (
        (loss, "train_loss", 1, _BLUE, "training"),
        (loss, "val_loss", 1, _ORANGE, "validation"),
        (accuracy, "val_accuracy", 100, _ORANGE, "validation"),
    ):
        curves = np.full((len(histories), longest), np.nan)
        for curve, history in zip(curves, histories, strict=True):
            values = [getattr(record, figure) for record in history.epochs]
            curve[: len(values)] = [np.nan if value is None else scale * value for value in values]
        at = np.flatnonzero(~np.isnan(curves).all(0))
        if not len(at):
            continue
        lines = [np.column_stack([at + 1, curve[at]]) for curve in curves]
        thin = max(0.04, 0.5 / len(lines) ** 0.3)
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.7, alpha=thin))
        median = np.nanmedian(curves[:, at], axis=0)
        axes.plot(at + 1, median, color=colour, linewidth=2.2, label=f"{label}, median of {len(lines):,}")
        axes.autoscale_view()


def images(
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    captions: Sequence[str],
    wrong: Sequence[bool] | None = None,
    columns: int | None = None,
    title: str = "",
) -> Figure:
    """A grid of images, uint8, (C, H, W) each, with their captions; the wrong ones' captions in red."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows, head = math.ceil(len(pictures) / columns), 0.45 if title else 0.1
    lines = 1 + max((caption.count("\n") for caption in captions), default=0)
    above = 0.1 + 0.15 * lines
    width, height = 1.5 * columns + 0.2, head + (above + 1.4) * rows + 0.1
    with mpl.rc_context(_STYLE):
        figure = Figure((width, height))
        axes = figure.add_axes((0, 0, 1, 1))  # one for all: each of its own costs ten times as much
        for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            middle, top = 0.85 + 1.5 * (i % columns), head + above + (above + 1.4) * (i // columns)
            shown = picture[0] if len(picture) == 1 else np.asarray(picture).transpose(1, 2, 0)
            tall, wide = (1.4 * side / max(shown.shape[:2]) for side in shown.shape[:2])
            extent = (middle - wide / 2, middle + wide / 2, top + tall, top)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            colour = _RED if wrong is not None and wrong[i] else "black"
            axes.text(middle, top - 0.05, shortened(caption, 20), ha="center", fontsize=9, color=colour)
        axes.axis("off")
        axes.set(xlim=(0, width), ylim=(height, 0))
        figure.text(0.5, 1 - 0.15 / height, title, ha="center", va="top", fontsize=12)
    return figure


def answers(found: Sequence[Prediction]) -> Figure:
    """What a model says of pictures: where some had to be prepared, each picture beside what the model saw."""
    pictures: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    wrong: list[bool] = []
    paired = any(one.original is not None for one in found)
    for one in found:
        if paired:
            original = one.image[0] if one.original is None else one.original
            pictures.append(original[None] if original.ndim == 2 else original.transpose(2, 0, 1))
            captions.append(Path(one.source).name)
            wrong.append(False)
        label = one.label or "nothing drawn"
        pictures.append(one.image)
        captions.append(label if one.truth in (None, label) else f"{label}, is {one.truth}")
        wrong.append(one.truth not in (None, label))
    pairs = math.ceil(math.sqrt(len(pictures) / 2))
    return images(pictures, captions, wrong, columns=2 * pairs if paired else None)


def examples(data: ImageSet, rows: Sequence[int] | None = None) -> Figure:
    """Some images with their classes: those at the given rows, else 25, the classes taking turns."""
    if rows is None:
        by_class = [np.flatnonzero(data.labels == label)[:25] for label in range(len(data.classes))]
        rows = [int(group[i]) for i in range(25) for group in by_class if i < len(group)][:25]
    return images(data.images[np.array(rows)], [data.classes[data.labels[row]] for row in rows])


def predictions(report: Report, pictures: NDArray[np.uint8], names: Sequence[str], title: str = "") -> Figure:
    """Nine measured images as a 3 x 3 grid, with predicted and true class.

    They are the first nine, or nine spread over the set where it is in class order.
    """
    n = min(9, report.n)
    shown = np.linspace(0, report.n - 1, n).astype(int) if in_class_order(report.labels) else np.arange(n)
    captions = [
        f"{shortened(names[report.predicted[i]], 9)} (true {shortened(names[report.labels[i]], 9)})" for i in shown
    ]
    wrong = [bool(report.predicted[i] != report.labels[i]) for i in shown]
    return images(np.asarray(pictures[shown]), captions, wrong, 3, title)


def mistakes(report: Report, pictures: NDArray[np.uint8], names: Sequence[str], title: str = "") -> Figure:
    """The most confident mistakes."""
    worst = report.worst()
    if not len(worst):
        figure = Figure((4, 2))
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center")
        return figure
    captions = [
        f"{shortened(names[report.predicted[i]], 8)} {100 * report.probabilities[i, report.predicted[i]]:.0f} %, "
        f"is {shortened(names[report.labels[i]], 8)}\nrow {report.rows[i]}"
        for i in worst
    ]
    return images(np.stack([pictures[i] for i in worst]), captions, None, None, title)


def confusion(report: Report, names: Sequence[str], title: str = "") -> Figure:
    """The confusion matrix: counts, shaded by the share of the true class."""
    matrix = report.confusion
    k = len(names)
    side = min(2.6 + 0.42 * k, 16)
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure((side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        small: Any = {"fontsize": 9 if k <= 15 else 6}
        if k <= 30:
            for (i, j), count in np.ndenumerate(matrix):
                if count:
                    axes.text(
                        j,
                        i,
                        str(count),
                        ha="center",
                        va="center",
                        color="white" if share[i, j] > 0.5 else "black",
                        **small,
                    )
        labels = [shortened(name, 12) for name in names]
        turn = 90 if max(map(len, labels)) > 3 else 0
        axes.set_xticks(range(k), labels, rotation=turn, **small)
        axes.set_yticks(range(k), labels, **small)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        figure.colorbar(shown, ax=axes, label="share of the true class", shrink=0.8)
        figure.suptitle(title)
    return figure


def weights(
    matrix: NDArray[np.floating[Any]], shape: tuple[int, int, int], names: Sequence[str], title: str = ""
) -> Figure:
    """A linear model's weights, (K, C*H*W), as an image a class: red speaks for the class, blue against it."""
    maps = matrix.reshape(len(names), *shape).mean(1)
    limit = float(np.abs(maps).max()) or 1.0
    columns = min(5, len(names))
    rows = math.ceil(len(names) / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure((1.6 * columns + 0.9, 1.8 * rows + 0.5), layout="constrained")
        grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        shown = None
        for i, axes in enumerate(grid):
            axes.axis("off")
            if i < len(names):
                shown = axes.imshow(maps[i], cmap="RdBu_r", vmin=-limit, vmax=limit)
                axes.set_title(shortened(names[i], 16), fontsize=9)
        if shown is not None:
            figure.colorbar(shown, ax=list(grid), shrink=0.7)
        figure.suptitle(title)
    return figure


def shortened(text: str, most: int) -> str:
    """A text whose lines are cut where they are much longer than wanted."""
    return "\n".join(line if len(line) <= most + 12 else f"{line[: most - 1]}…" for line in text.split("\n"))
