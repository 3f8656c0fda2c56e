"""The records: every row of docs/records.md, trained and measured from nothing, resumably.

    python bench/records.py [ROW ...] [--seeds N] [--first-seed S] [--runs FOLDER] [--to FILE]

A row is a recipe of Kilonet's, trained with one seed after another and measured on the test set. The trainings of a row
are a run directory under `--runs`, whose name holds their seeds: what is finished there is not trained again, what was
interrupted goes on. Without ROW every row is made; `--to` gets those made, under the conditions of this machine.

Rows whose seconds are a goal train one net at a time on all threads; the others as many side by side as there are
threads, and their seconds are those of one thread.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kilonet import config, display, shelf
from kilonet.augment import OFF
from kilonet.config import Config
from kilonet.doctor import machine
from kilonet.errors import ConfigError, KilonetError, RunError
from kilonet.evaluation import evaluate
from kilonet.measuring import measure
from kilonet.metrics import over_seeds
from kilonet.run import Plan, finish, plan, prepare, start
from kilonet.rundir import Run
from kilonet.seeds import finish_seeds, start_committee, start_seeds

MOVED = {**OFF, "shift": 1.0}
"""Clothes are not written at a slant."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        about: what is trained.
        asked: settings of the config.
        goal: test accuracy to pass, 0 to 1.
        published: the best figure that we know of for the size, and its source.
        seeds: trainings; of committees, their members together.
        each: whether a committee's members are measured, each by itself, not the committee.
        moves: whether an answer is the mean over the image and its copies moved by a pixel each way.
        folder: of its runs, if it is not the row's name: rows may share their trainings.
        seconds: the most that a training may take, where that is a goal.
        measured_on: the source whose test part is measured, if it is not the training's own.
        training: settings of the training.
    """

    about: str
    asked: dict[str, Any]
    goal: float
    published: tuple[str, str] = ("none found", "")
    seeds: int = 10
    each: bool = False
    moves: bool = False
    folder: str | None = None
    seconds: float | None = None
    measured_on: str | None = None
    training: dict[str, Any] = field(default_factory=dict)


FULL: dict[str, Any] = {"source": "mnist", "split": "full"}
FIVE: dict[str, Any] = {**FULL, "model": "kilo-100k", "committee": 5}
FASHION: dict[str, Any] = {"source": "fashion-mnist", "split": "full"}
ENSEMBLE = ("any size, an ensemble: 99.91 %", "arXiv 2008.10400")

ROWS = {
    "kilo-4k": Row(
        "`kilo-4k`", {**FULL, "model": "kilo-4k"}, 0.9930,
        ("4,142 parameters: 99.17 %", "ruslangrimov/mnist-minimal-model"),
    ),
    "kilo-16k": Row(
        "`kilo-16k`", {**FULL, "model": "kilo-16k"}, 0.9955,
        ("8,900 parameters, 15 epochs: 99.5 %; 19,898: 99.54 %",
         "The-School-of-AI/era-s7-ram; pradeep6kumar/mnist_994"),
    ),
    "kilo-100k": Row(
        "`kilo-100k`", FIVE, 0.9970, ("any size, a single net: 99.83 %", "arXiv 2001.09136"), each=True,
        folder="committee",
    ),
    "committee": Row("a committee of five `kilo-100k`", FIVE, 0.9980, ENSEMBLE),
    "moves": Row(
        "these committees, answering with the mean over the image and its copies moved by a pixel each way", FIVE,
        0.9980, ENSEMBLE, moves=True, folder="committee",
    ),
    "fast": Row(
        "`--preset fast`", {**FULL, "preset": "fast"}, 0.9900,
        ("1 epoch, 30 seeds: 99.04 % in 0.76 s on a GTX 1660 Ti", "tuomaso/train_mnist_fast"), seconds=2.0,
    ),
    "default": Row(
        "`kilonet train` as it is: `kilo-16k`, 3,500 of the bundled images, the best weights on 750 others", {}, 0.9850,
        seconds=5.0, measured_on="mnist",
    ),
    "fashion-16k": Row(
        "`kilo-16k`, Fashion-MNIST, only moved by a pixel, 40 epochs, rate 0.02", {**FASHION, "model": "kilo-16k"},
        0.9250, seeds=4, training={**MOVED, "epochs": 40, "lr": 0.02},
    ),
    "fashion-100k": Row(
        "`kilo-100k`, Fashion-MNIST, only moved by a pixel", {**FASHION, "model": "kilo-100k"},
        0.9400, seeds=2, training=MOVED,
    ),
}  # fmt: skip
"""Published figures are mostly of the best epoch or the best seed, chosen on the test set."""


def wanted(row: Row, first: int, seeds: int) -> list[Config]:
    """The configs of a row: one for all seeds, or one for each committee."""
    made = config.resolve(row.asked, row.training)
    members = made.committee
    if members == 1:
        return [replace(made, seeds=seeds, training=replace(made.training, seed=first))]
    if seeds % members:
        raise ConfigError(f"{seeds} seeds make no committees of {members}", f"give --seeds {members} or a multiple")
    firsts = range(first, first + seeds, members)
    return [replace(made, training=replace(made.training, seed=seed)) for seed in firsts]


def trained(path: Path, asked: Config, timed: bool) -> Run:
    """The run of a config, in this folder, trained to its end from wherever it stands."""
    made = plan(asked)
    if path.exists():
        found = shelf.find_directory(str(path), path.parent)
        check_same(found, made)
    elif asked.committee > 1:
        found = start_committee(made, path.parent, path.name)
    elif asked.seeds > 1:
        found = start_seeds(made.config, path.parent, path.name)
    else:
        found = start(made, path.parent, path.name)
    with display.TrainingDisplay() as shown:
        if len(asked.numbers) > 1:
            finish_seeds(found, shown.watch, display.say, beside=None if timed else shown.beside(found.config))
        elif (left := prepare(found, say=display.say)) is not None:
            finish(found, left, shown.watch(left), display.say)
    return found


def check_same(run: Run, made: Plan) -> None:
    """Make sure that a run on the disk is of the recipe as it stands, and its nets of the size that they would have."""
    there, asked = (
        replace(one, split_seed=None, training=replace(one.training, threads=None)) for one in (run.config, made.config)
    )
    sizes = {one.metrics()["parameters"] for one in shelf.trainings(run) if one.finished()}
    if there != asked or sizes - {made.model.parameter_count()}:
        raise RunError(f"{run.path} was trained by another recipe", "delete it, or give another --runs")


def measured(row: Row, runs: list[Run]) -> dict[str, Any]:
    """Figures of a row over its nets or committees."""
    nets = [net for run in runs for net in (shelf.trainings if row.each else shelf.members)(run)]
    metrics = [net.metrics() for net in nets]
    if row.moves:
        accuracies = [over_moves(net) for net in nets]
    elif row.measured_on:
        accuracies = [measure(net, row.measured_on)[0].accuracy for net in nets]
    else:
        accuracies = [found["test"]["accuracy"] for found in metrics]
    return {
        **over_seeds(accuracies),
        "parameters": metrics[0]["parameters"],
        "epochs": metrics[0]["epochs"],
        "seconds": statistics.mean(map(seconds, nets)),
        "seeds": [seed for net in nets for seed in net.config.numbers],
    }


def over_moves(net: Run) -> float:
    """Test accuracy of mean probabilities over each image and its copies moved by a pixel up, down, left and right."""
    model, test = net.model(), net.part("test")
    assert test is not None
    height, width = test.shape[1:]
    framed = np.pad(test.images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    views = [framed[:, :, y : y + height, x : x + width] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    probabilities = sum(evaluate(model, replace(test, images=view)).probabilities for view in views)
    return float(np.mean(np.argmax(probabilities, 1) == test.labels))


def seconds(net: Run) -> float:
    """Seconds that a net, or all of a committee, trained."""
    return sum(record.seconds for one in shelf.trainings(net) for record in one.history().epochs)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The table, in Markdown."""
    head = ["", "parameters", "bytes", "epochs", "seconds", "test accuracy, mean ± std", "95 % interval of the mean",
            "least and most", "n", "goal", "best published, source"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for name, found in rows.items():
        row = ROWS[name]
        low, high = found["interval"] or (found["mean"], found["mean"])
        least, most = min(found["values"]), max(found["values"])
        goal = percent(row.goal) + (f" in {row.seconds:g} s" if row.seconds else "")
        lines.append([
            row.about, f"{found['parameters']:,}", f"{4 * found['parameters']:,}", str(found["epochs"]),
            f"{found['seconds']:.1f}", f"**{percent(found['mean'])}** ± {100 * (found['std'] or 0):.3f}",
            f"{percent(low)} to {percent(min(1, high))}", f"{percent(least)}, {percent(most)}",
            str(found["n"]), goal, ", ".join(filter(None, row.published)),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float) -> str:
    """A share as a percentage of three digits, ten images of 10,000 being 0.100."""
    return f"{100 * share:.3f} %"


def document(rows: dict[str, dict[str, Any]]) -> str:
    """What is written to docs/records.md."""
    about = machine.describe()
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    seeds = "\n".join(
        f"- {ROWS[name].about}: seeds {', '.join(map(str, found['seeds']))}" for name, found in rows.items()
    )
    return f"""# Records

Written by `python bench/records.py`, which trains every net below afresh on all images that are not test images, with
the recipe that `kilonet train` has by default, and measures its last weights, unless the row says otherwise. How nets
and recipes were chosen, on validation images alone, is in [search.md](search.md). Intervals are Student's t over seeds.

{table(rows)}

Seconds are those of training, validation in between included: with all threads where they are a goal, else with one
thread, other nets on the others; a committee's are the sum over its nets. The accuracy of one net is a share of 10,000
images: its own 95 % interval is ±0.14 points at 99.5 %. Published figures are mostly of the best epoch or the best
seed, chosen on the test set.

{seeds}

{about["system"]}, {about["threads"]}; kernels {about["kernels"]}; {versions}
"""


def main() -> None:
    """Train what is asked for, and write what is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, help="trainings of each row; each row's own number if not given")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/records"))
    parser.add_argument("--to", type=Path)
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no row {unknown[0]}: expected {', '.join(ROWS)}")
    found = {}
    for name in asked.rows or ROWS:
        row = ROWS[name]
        try:
            runs = [
                trained(asked.runs / f"{row.folder or name}-{one.numbers[0]}-{one.numbers[-1]}", one, bool(row.seconds))
                for one in wanted(row, asked.first_seed, row.seeds if asked.seeds is None else asked.seeds)
            ]
            found[name] = measured(row, runs)
        except KilonetError as error:
            raise SystemExit(f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else "")) from None
        print(table({name: found[name]}).splitlines()[-1], flush=True)
        if asked.to:
            asked.to.write_text(document(found), encoding="utf-8")


if __name__ == "__main__":
    main()
