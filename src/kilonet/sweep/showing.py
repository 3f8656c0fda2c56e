"""A sweep on a terminal: its progress, and its best trials."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kilonet import display
from kilonet.sweep.sweeping import NO_END

if TYPE_CHECKING:
    from kilonet.sweep.results import Trial
    from kilonet.sweep.space import Space
    from kilonet.sweep.sweeping import Sweep
    from kilonet.sweep.worker import Counts


class SweepDisplay:
    """One line for all workers and machines, on standard error; nothing where that is no terminal."""

    def __init__(self, asked: int) -> None:
        console = Console(stderr=True)
        self._asked = asked
        self._first: int | None = None
        self._since = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[more]}"),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        total = None if asked >= NO_END else asked
        self._task = self._progress.add_task("starting workers", total=total, more="", left="")

    def __enter__(self) -> SweepDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, counts: Counts) -> None:
        """Show how far the sweep is."""
        if self._first is None:
            self._first, self._since = counts.done, time.monotonic()
        elapsed, new = time.monotonic() - self._since, counts.done - self._first
        best = "" if counts.score is None else f"best {display.percent(counts.score)} (trial {counts.best})"
        rate = f"{60 * new / elapsed:.1f} trials/min  " if new and elapsed > 0 else ""
        endless = self._asked >= NO_END
        left = f"{(self._asked - counts.done) * elapsed / new:.0f} s left" if new and not endless else ""
        of = "" if endless else f" of {self._asked:,}"
        done = f"{counts.done:,}{of} trials, {counts.running} running"
        self._progress.update(self._task, completed=counts.done, description=done, more=rate + best, left=left)


def told(sweep: Sweep, found: list[Trial], best: list[Trial], winner: dict[str, Any]) -> None:
    """Print the ten best trials, and what came of the winner."""
    early, wrong = (sum(trial.state == state for trial in found) for state in ("ended early", "went wrong"))
    counts = f"{len(found):,} trials" + (f", {early:,} ended early" if early else "")
    display.line(f"{sweep.name}: {counts}" + (f", {wrong:,} went wrong" if wrong else ""))
    _table(best[:10], sweep.spec.space)
    display.line("\nscores are on the validation images, and the best of many is flattered by chance")
    display.line(f"winner    trial {best[0].number}, {sweep.path / 'winner.toml'}")
    _winner(winner)
    display.line(f"sweep     {sweep.path}")


def _table(best: list[Trial], space: Space) -> None:
    keys = [axis.key for axis in space.axes]
    spread = any(trial.std is not None for trial in best)
    numbers = ["trial", "accuracy", *(["±"] if spread else []), "loss", "parameters", "seconds"]
    rows = [
        (
            trial.number, display.percent(trial.accuracy), *([_points(trial.std)] if spread else []),
            f"{trial.loss:.4f}", f"{trial.parameters:,}", f"{trial.seconds:.1f}",
            *(_shown(trial.values.get(key)) for key in keys),
        )
        for trial in best
    ]  # fmt: skip
    display.table([*numbers, *keys], rows, numbers)


def _points(std: float | None) -> str:
    return "–" if std is None else f"{100 * std:.2f}"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _winner(winner: dict[str, Any]) -> None:
    if winner["state"] == "waiting":
        display.line(f"          trials still run on {winner['host']}: who ends last trains the winner and measures it")
        return
    if winner["state"] == "elsewhere":
        display.line(f"          is trained and measured on {winner['host']}: the same command shows what came of it")
        return
    metrics = winner["metrics"]
    if "seeds" in metrics:
        display.seeds(metrics)
    else:
        for part in ("val", "test"):
            if part in metrics:
                display.line(f"{part:4} accuracy {display.accuracy(metrics[part])}")
    if winner["readings"] > 1:
        display.line(f"note      the test part has been read for {winner['readings']} winners of this sweep")
    display.line(f"run       {winner['run']}" + ("" if winner["here"] else f" on {winner['host']}"))
