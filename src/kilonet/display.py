"""What a person sees on a terminal: tables, figures in words, and the progress of a training."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kilonet.files import printable
from kilonet.history import Epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kilonet.comparing import Comparison, Comparisons
    from kilonet.config import Config
    from kilonet.doctor.finding import Finding
    from kilonet.images import ImageSet
    from kilonet.metrics import Report
    from kilonet.predict import Prediction
    from kilonet.run import Plan
    from kilonet.seeds import Ended
    from kilonet.state import State
    from kilonet.summary import Summary


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()) -> None:
    """Print a table, the named columns aligned as numbers."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*[Text(printable(str(cell))) for cell in row])
    _console().print(shown)


def line(text: str = "") -> None:
    """Print a line as it is."""
    sys.stdout.write("".join(printable(part) + "\n" for part in text.split("\n")))


def say(text: str) -> None:
    """Print a line about the work to standard error."""
    sys.stderr.write(printable(text) + "\n")


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def accuracy(figures: dict[str, Any]) -> str:
    """An accuracy with its counts and interval."""
    low, high = figures["interval"]
    return (
        f"{percent(figures['accuracy'])} ({figures['correct']:,} of {figures['n']:,}), "
        f"95 % interval {100 * low:.2f} to {100 * high:.2f} %, loss {figures['loss']:.4f}"
    )


def data(found: ImageSet) -> None:
    """Print what an image set is."""
    channels, height, width = found.shape
    test = 0 if found.test_from is None else len(found) - found.test_from
    counts = found.counts()
    line(f"origin    {found.origin}")
    line(f"images    {len(found):,} of {height}x{width}x{channels}, uint8")
    line(f"pixels    from {found.images.min()} to {found.images.max()}")
    line(f"parts     {f'{len(found) - test:,} and a test part of {test:,}' if test else 'one, without a test part'}")
    line(f"sha256    {found.sha256()}")
    for note in found.notes:
        line(f"note      {note}")
    line()
    table(["class", "images"], zip(found.classes, (f"{n:,}" for n in counts), strict=True), ["images"])


def summary(found: Summary) -> None:
    """Print a model worked through."""
    line(f"{found.name}: {found.path}")
    line("n_out = floor((n_in - k + 2p) / s) + 1")
    line()
    rows: list[Sequence[object]] = [("input", found.input, "", "", "", "", "")]
    for layer in found.layers:
        sizes = (layer.parameters, layer.multiply_adds, layer.weight_bytes, layer.output_bytes)
        rows.append((layer.kind, layer.output, layer.formula, *(f"{n:,}" for n in sizes)))
    rows.append(("total", "", "", f"{found.parameters:,}", f"{found.multiply_adds:,}", f"{found.bytes:,}", ""))
    numbers = ["parameters", "multiply-adds", "weight bytes", "output bytes"]
    table(["layer", "output", "size", *numbers], rows, numbers)
    line(f"\nas int8 an input and its output take at most {found.live_int8:,} bytes together")


def report(found: Report, what: str) -> None:
    """Print a measurement."""
    line(f"{what}: {accuracy(found.figures())}")
    for note in found.notes:
        line(f"note: {note}")
    line(f"calibration error (ECE, 15 bins) {percent(found.ece)}")
    line()
    rows = [(c.name, f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", f"{c.n:,}") for c in found.classes]
    table(["class", "precision", "recall", "F1", "images"], rows, ["precision", "recall", "F1", "images"])
    names = [c.name for c in found.classes]
    if len(names) <= 20:
        line("\nconfusion (rows true, columns predicted)")
        table(["", *names], [(name, *row) for name, row in zip(names, found.confusion, strict=True)], names)
    worst = found.worst(8)
    if len(worst):
        line("\nworst mistakes")
        told = [
            (found.rows[i], names[found.labels[i]], names[found.predicted[i]],
             percent(float(found.probabilities[i, found.predicted[i]])))
            for i in worst
        ]  # fmt: skip
        table(["row", "true", "predicted", "probability"], told, ["row", "probability"])


def predictions(found: Sequence[Prediction]) -> None:
    """Print a row a picture, and, where the truth is known, a grid of three columns."""
    known = all(p.truth is not None for p in found)
    rows = [
        (
            p.source,
            p.label or "nothing drawn",
            percent(p.probability),
            *((p.truth, "" if p.truth == p.label else "wrong") if known else ()),
        )
        for p in found
    ]
    table(["picture", "class", "probability", *(["true", ""] if known else [])], rows, ["probability"])
    if known and len(found) <= 30:
        line("\npredicted (true)")
        cells = [f"{p.label} ({p.truth})" for p in found]
        width = max(map(len, cells))
        for start in range(0, len(cells), 3):
            line("  " + "   ".join(cell.ljust(width) for cell in cells[start : start + 3]).rstrip())


def seeds(summary: dict[str, Any]) -> None:
    """Print the figures of several seeds."""
    _left_out(summary, f"the figures are over the other {len(summary.get('runs', ()))}")
    for part in ("val", "test"):
        if part in summary:
            found = summary[part]["accuracy"]
            line(f"{part:4} accuracy {_over(found)}")
            least, lower, median, upper, most = (100 * value for value in found["quantiles"])
            line(
                f"     from {least:.2f} to {most:.2f} %, median {median:.2f} %, quartiles {lower:.2f} and {upper:.2f} %"
            )


def _left_out(summary: dict[str, Any], then: str) -> None:
    """Print which seeds a summary leaves out, the first five with the reason, and what follows."""
    told = [f"{name} ({why})" for name, why in summary.get("why", {}).items()]
    if told:
        more = f" and {len(told) - 5:,} more" if len(told) > 5 else ""
        line(f"left out: {', '.join(told[:5])}{more}; {then}")


def _over(found: dict[str, Any]) -> str:
    """An accuracy over several nets."""
    spread = "" if found["std"] is None else f" ± {100 * found['std']:.2f}"
    interval = [f"{100 * end:.2f}" for end in found["interval"] or ()]
    between = f", 95 % interval {' to '.join(interval)} %" if interval else ""
    n = f"mean and standard deviation, n = {found['n']}"
    return f"{100 * found['mean']:.2f}{spread} % ({n}{between})"


def trained(config: Config, metrics: dict[str, Any], members: dict[str, Any] | None = None) -> None:
    """Print the figures of a run that is done; of a committee's members, too, as `summary.json` has them."""
    members = members or {}
    _left_out(members, f"the committee is of the other {metrics.get('committee')}")
    of, each = (f"committee of {metrics['committee']} ", " each") if "committee" in metrics else ("", "")
    count = f"{metrics['parameters']:,} parameters, {metrics['epochs']} epochs{each}, {metrics['seconds']:.1f} s"
    line(f"{of}{config.model} on {config.source}: {count}, {metrics['engine']} engine, {metrics['weights']} weights")
    for part in ("val", "test"):
        if part in metrics:
            line(f"{part:4} accuracy {accuracy(metrics[part])}")
        if part in members:
            line(f"     members  {_over(members[part]['accuracy'])}")


def comparisons(found: Comparisons) -> None:
    """Print what was compared, a row a pair, and under it what stands behind each."""
    for name, why in found.left_out.items():
        line(f"\n{name} is not compared: {why}")
    if not found.pairs:
        return
    several = found.made > 1
    corrected = f"; p is corrected for {found.made} comparisons (Holm)" if several else ""
    line(f"\ndifferences of {found.what} accuracy, in points{corrected}")
    numbers = ["first", "second", "difference"]
    rows = [
        (f"{pair.a} less {pair.b}", percent(pair.accuracy_a), percent(pair.accuracy_b), points(pair.difference),
         interval(pair), pair.p_in_words, pair.verdict)
        for pair in found.pairs
    ]  # fmt: skip
    table(["", *numbers, "95 % interval", "", "verdict"], rows, numbers)
    line()
    for pair in found.pairs:
        line(f"{pair.a} less {pair.b}: {pair.in_words()}")


def points(difference: float | None) -> str:
    """A difference of shares in percentage points."""
    return "–" if difference is None else f"{100 * difference:+.2f}"


def interval(pair: Comparison) -> str:
    """The interval of a difference, in points."""
    return "–" if pair.interval is None else " to ".join(points(end) for end in pair.interval)


def findings(found: Sequence[Finding], of: str) -> None:
    """Print what a doctor found: what it is, why it matters, what to do."""
    line(f"{of}: {'nothing to blame' if not found else f'{len(found)} finding' + 's' * (len(found) > 1)}")
    for finding in found:
        line(f"\n{finding.name}: {finding.what}")
        if finding.rows:
            rest = f", and {len(finding.rows) - 20:,} more" if len(finding.rows) > 20 else ""
            line(f"  rows  {', '.join(map(str, finding.rows[:20]))}{rest}")
        line(f"  why   {finding.why}")
        line(f"  do    {finding.advice}")


def findings_in_short(found: Sequence[Finding]) -> None:
    """Print what a doctor found, a line each, to standard error."""
    for finding in found:
        say(f"finding: {finding.name}: {finding.what}; {finding.advice}")


def description(found: dict[str, Any]) -> None:
    """Print headings and what stands under them."""
    for heading, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" for name, text in value.items()) or "none"
        line(f"{heading:15} {value}")


def races(found: dict[str, Any]) -> None:
    """Print what was timed, and under which conditions."""
    for key, value in found["conditions"].items():
        line(f"{key:10} {value}")
    line()
    numbers = ["that, s", "ours, s", "ratio", "goal", "GFLOP/s", "of peak", "that, MB", "ours, MB"]
    table(["work", "against", *numbers], [_race(race) for race in found["results"]], numbers)
    for race in found["results"]:
        if race["compile_seconds"] is not None:
            longer = f"{race['compile_seconds']:.1f} s longer than a timed one: it compiled"
            line(f"{race['name']}: the first round of {race['against']} took {longer}")


def _race(race: dict[str, Any]) -> tuple[str, ...]:
    goal = "" if race["goal"] is None else f"{race['goal']:.2f}"
    memory = ["" if side is None else f"{side['peak'] - side['start']:.0f}" for side in race["memory"]]
    return (
        race["name"], race["against"], f"{race['baseline_seconds']:.3f}", f"{race['kilonet_seconds']:.3f}",
        f"{race['ratio']:.2f}", goal, f"{race['gflops']:.0f}", f"{100 * race['share_of_peak']:.0f} %", *memory,
    )  # fmt: skip


@contextmanager
def share(what: str) -> Iterator[Callable[[float], None]]:
    """Show how far some work has come, on standard error; what is given is to be told the share done, 0 to 1."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda done: progress.update(task, completed=done)


class TrainingDisplay:
    """The progress of trainings on standard error: a line an epoch and a bar; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._epochs, self._images, self._best, self._indent = 0, 0, -1.0, ""
        console = Console(stderr=True)
        self._on = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not self._on,
        )
        self._task = self._progress.add_task("", total=1, speed="", left="")
        self._first: int | None = None

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, made: Plan, seed: int | None = None) -> Callable[[State | Epoch], None]:
        """Begin to show a training; what is returned is to be told each step's state and each epoch's record."""
        self._epochs, self._images, self._best = made.config.training.epochs, len(made.splits.train), -1.0
        self._indent = "" if seed is None else f"seed {seed}  "
        self._first = None
        self._progress.reset(self._task, total=self._epochs * self._images, speed="", left="")
        if self._on:
            self._progress.console.print(
                f"[bold]{self._indent}{'epoch':>5}   training loss   validation loss   accuracy   seconds[/]"
            )
        return self._told

    def beside(self, config: Config, more: int | None = None) -> Callable[[int, Epoch | Ended], None]:
        """Show seeds that are trained side by side, perhaps for more epochs; what is returned is to be told each."""
        epochs, n = more or config.training.epochs, len(config.numbers)
        latest, ended, failed = dict[int, Epoch](), set[int](), 0
        told_epochs, first = 0, 0.0
        self._progress.update(self._task, description=f"0 of {n} seeds")

        def told(seed: int, now: Epoch | Ended) -> None:
            nonlocal failed, told_epochs, first
            elapsed = self._progress.tasks[0].elapsed or 0.0
            if isinstance(now, Epoch):
                first = elapsed if told_epochs == 0 else first
                latest[seed], told_epochs = now, told_epochs + 1
            else:
                ended.add(seed)
                failed += now.why is not None
                if self._on and now.why is None and seed in latest:
                    self._seed(seed, latest[seed])
            done = epochs * len(ended) + sum(one.epoch for number, one in latest.items() if number not in ended)
            speed = (told_epochs - 1) / (elapsed - first) if elapsed > first else 0.0
            self._progress.update(
                self._task,
                total=n * epochs,
                completed=done,
                description=f"{len(ended)} of {n} seeds" + (f", {failed} left out" if failed else ""),
                speed=f"{speed:.1f} epochs/s" if speed > 0 else "",
                left=f"{(n * epochs - done) / speed:.0f} s left" if speed > 0 else "",
            )

        return told

    def _seed(self, seed: int, last: Epoch) -> None:
        """A line for a seed that was trained to its end."""
        loss = last.train_loss if last.val_loss is None else last.val_loss
        accuracy = "" if last.val_accuracy is None else f"   accuracy {percent(last.val_accuracy)}"
        self._progress.console.print(f"seed {seed:<6} loss {loss:.4f}{accuracy}", highlight=False)

    def _told(self, now: State | Epoch) -> None:
        if self._on:
            self._record(now) if isinstance(now, Epoch) else self._step(now)

    def _step(self, now: State) -> None:
        """How many images are done, and at what speed since this process began."""
        done, elapsed = now.epoch * self._images + now.images, self._progress.tasks[0].elapsed or 0.0
        if self._first is None:
            self._first = done
        speed = (done - self._first) / elapsed if elapsed > 0 else 0.0
        left = (self._epochs * self._images - done) / speed if speed > 0 else 0.0
        self._progress.update(
            self._task,
            completed=done,
            description=f"epoch {now.epoch + 1}/{self._epochs}  loss {now.loss:.4f}",
            speed=f"{speed:,.0f} images/s",
            left=f"{left:.0f} s left",
        )

    def _record(self, record: Epoch) -> None:
        """A line; the best validation accuracy so far is marked."""
        val = "–" if record.val_loss is None else f"{record.val_loss:.4f}"
        mark = "  [green]best[/]" if (record.val_accuracy or 0.0) > self._best else ""
        self._best = max(self._best, record.val_accuracy or 0.0)
        cells = f"{record.epoch:>5}   {record.train_loss:>13.4f}   {val:>15}   {percent(record.val_accuracy):>8}"
        line = f"{' ' * len(self._indent)}{cells}   {record.seconds:>7.2f}{mark}"
        self._progress.console.print(line, highlight=False)


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=200)
