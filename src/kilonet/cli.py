"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError, UnknownOptionError

from kilonet.config import Config, Training, read_toml, resolve
from kilonet.errors import ConfigError, KilonetError
from kilonet.flags import Json, ModelFile, Project, Show, TrainingFlags, Whole, parse_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kilonet.run import Plan
    from kilonet.rundir import Run
    from kilonet.train import Epoch

app = App(
    name="kilonet",
    help="Kilobyte-sized image classifiers, trained in seconds, measured honestly.",
    version=lambda: version("kilonet"),
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
)


RUNS = Path("runs")


@app.command
def data(source: str | None = None, /, *, show: Show = None, index: str | None = None, json: Json = False) -> None:
    """List the known data sources, or show one: its shape, classes, counts, origin and checksum.

    Parameters
    ----------
    source
        A known name, openml:NAME_OR_ID, or a path.
    index
        The rows to draw, such as 0 or 10-19; 25 examples over all classes if not given.
    """
    from kilonet import display, files, plots, sources

    if source is None:
        known = sources.known()
        _out(known, json, lambda: display.table(["source", "what it is"], known.items()))
        return
    target = files.check_picture_target(show) if show else None
    found = sources.load(source)
    rows = parse_rows(index, len(found)) if index is not None else None
    if target:
        plots.save(plots.examples(found, rows), target)
    shown: dict[str, Any] = {
        "source": source, "origin": found.origin, "n": len(found), "shape": list(found.shape),
        "test_from": found.test_from, "classes": dict(zip(found.classes, found.counts().tolist(), strict=True)),
        "sha256": found.sha256(), "notes": list(found.notes),
    }  # fmt: skip
    if rows is not None:
        shown["labels"] = {row: found.classes[found.labels[row]] for row in rows}
    _out(shown, json, lambda: display.data(found))
    if rows is not None and not json:
        display.line("\n" + "\n".join(f"row {row} is {label}" for row, label in shown["labels"].items()))


@app.command
def models(model: str | None = None, /, *, data: str | None = None, json: Json = False) -> None:
    """List the zoo, or work a model through layer by layer.

    Parameters
    ----------
    model
        A name of the zoo, or path/to/file.py:ClassName.
    data
        A source whose image size and classes the model is built for; 28x28x1 and ten classes if not given.
    """
    import numpy as np

    from kilonet import display
    from kilonet import models as zoo
    from kilonet.images import ImageSet
    from kilonet.sources import load
    from kilonet.summary import summarise

    if data is None:
        names = tuple("0123456789")
        example = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10), names)
    else:
        example = load(data)
    if model is not None:
        worked = summarise(zoo.build(model, example))
        _out(asdict(worked), json, lambda: display.summary(worked))
        return
    counts = {name: zoo.build(name, example).parameter_count() for name in zoo.ZOO}
    rows = [(name, f"{n:,}", f"{4 * n:,}", zoo.ZOO[name].about) for name, n in counts.items()]
    listed = [
        {"model": name, "parameters": n, "bytes": 4 * n, "about": zoo.ZOO[name].about} for name, n in counts.items()
    ]
    _out(
        listed,
        json,
        lambda: display.table(["model", "parameters", "bytes", ""], rows, ["parameters", "bytes"]),
    )


@app.command
def train(
    source: str | None = None,
    /,
    *,
    model: str | None = None,
    preset: str | None = None,
    split: str | None = None,
    seeds: Whole | None = None,
    training: Annotated[TrainingFlags | None, Parameter(name="*")] = None,
    config: Path | None = None,
    project: Project = RUNS,
    name: str | None = None,
    dry_run: bool = False,
    json: Json = False,
) -> None:
    """Train a model, measure it, and leave weights, figures and pictures in a run directory.

    Parameters
    ----------
    source
        A known name, openml:NAME_OR_ID, or a path; mnist-5k if not given.
    model
        A name of the zoo, or path/to/file.py:ClassName; kilo-16k if not given.
    preset
        A whole experiment: tutorial-linear or tutorial-cnn.
    split
        standard, full, tutorial, or fractions such as 70/15/15.
    seeds
        Independent runs, with one seed after another.
    config
        Begin from this config.toml of a run.
    name
        Name of the run; train, train2, ... if not given.
    dry_run
        Load, split, build and take one step; write nothing.
    """
    from kilonet import display, run, rundir

    chosen = _chosen(source, model, preset, split, seeds, training, config)
    if name is not None:
        rundir.check_name(name)
    made = run.plan(chosen)
    notes = [*made.data.notes, *made.splits.notes]
    for note in notes:
        display.say(f"note: {note}")
    if dry_run:
        _dry_run(made, json)
        return
    path = rundir.folder(project, name)
    if chosen.seeds > 1:
        _train_seeds(chosen, path, json)
        return
    with display.TrainingDisplay(chosen.training.epochs, len(made.splits.train)) as shown:

        def watch(record: Epoch | None, done: int, loss: float) -> None:
            shown.step(done, loss) if record is None else shown.epoch(record)

        finished = run.train(made, path, watch)
    metrics = finished.metrics()

    def tell() -> None:
        count = f"{metrics['parameters']:,} parameters, {metrics['epochs']} epochs, {metrics['seconds']:.1f} s"
        display.line(f"{chosen.model} on {chosen.source}: {count}, {metrics['weights']} weights")
        for part in ("val", "test"):
            if part in metrics:
                display.line(f"{part:4} accuracy {display.accuracy(metrics[part])}")
        display.line(f"run       {path}")

    _out({"run": str(path), "notes": notes, **metrics}, json, tell)


@app.command
def evaluate(
    run: str = "last", /, *, data: str | None = None, model: ModelFile = None, show: Show = None,
    project: Project = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Measure a run: loss, accuracy with its interval, per-class scores, confusion, calibration, worst mistakes.

    Parameters
    ----------
    run
        A run directory, one of its weight files, a name in the project, or last.
    data
        Measure on this source instead of the run's own test part: on its test part, else on all of it.
    show
        Draw the confusion matrix to this .png, .pdf or .svg.
    """
    from kilonet import display, files, plots, rundir
    from kilonet.run import measure

    target = files.check_picture_target(show) if show else None
    found = rundir.find(run, project)
    members = rundir.members(found)
    if members != [found]:
        if target:
            raise ConfigError("--show draws one run, not several seeds", f"name one, such as {members[0].path}")
        _report_members(found, {member.path.name: measure(member, data, model)[0] for member in members}, json)
        return
    report, images, what = measure(found, data, model)
    title = f"{files.printable(str(found.weights or found.path))}, {what}"
    if target:
        plots.save(plots.confusion(report, images.classes, title), target)
    document = {
        "run": str(found.path), "measured": what, **report.figures(), "ece": report.ece, "notes": report.notes,
        "classes": [asdict(score) for score in report.classes], "confusion": report.confusion.tolist(),
        "mistakes": [
            {"row": int(report.rows[i]), "true": images.classes[report.labels[i]],
             "predicted": images.classes[report.predicted[i]],
             "probability": float(report.probabilities[i, report.predicted[i]])}
            for i in report.worst()
        ],
    }  # fmt: skip
    _out(document, json, lambda: display.report(report, title))


@app.command
def predict(
    run: str = "last", /, *images: Path, data: str | None = None, index: str | None = None, model: ModelFile = None,
    show: Show = None, project: Project = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Predict pictures: a row a picture, its class and probability.

    Parameters
    ----------
    run
        A run directory, one of its weight files, a name in the project, or last.
    images
        Picture files of any format, or .npy arrays.
    data
        Take the pictures from this source.
    index
        Which rows of it, such as 7 or 50000-50008; the first nine if not given.
    show
        Draw the pictures with their classes to this .png, .pdf or .svg.
    """
    import numpy as np

    from kilonet import display, files, plots, rundir, sources
    from kilonet.predict import Predictor

    target = files.check_picture_target(show) if show else None
    if bool(images) == (data is not None):
        raise ConfigError("expected pictures or --data SOURCE, and not both", "kilonet predict RUN IMAGE...")
    if index is not None and data is None:
        raise ConfigError("--index without --data", "rows are those of a source: --data SOURCE --index 0-8")
    predictor = Predictor(rundir.single(rundir.find(run, project)).model(model))
    if data is None:
        found = predictor.files(images)
    else:
        whole = sources.load(data)
        rows = parse_rows(index, len(whole)) if index is not None else range(min(9, len(whole)))
        found = predictor.rows(whole.take(np.array(rows)), data)
    if target:
        captions = [p.label if p.truth in (None, p.label) else f"{p.label}, is {p.truth}" for p in found]
        wrong = [p.truth not in (None, p.label) for p in found]
        plots.save(plots.images(np.stack([p.image for p in found]), captions, wrong), target)
    document = [
        {"source": p.source, "class": p.label, "probability": p.probability, "probabilities": p.probabilities}
        | ({} if p.truth is None else {"true": p.truth})
        for p in found
    ]
    _out(document, json, lambda: display.predictions(found))


@app.command
def plot(*run: str, show: Path = Path("curves.png"), project: Project = RUNS, json: Json = False) -> None:
    """Draw the curves of a run again, or of several runs compared, and print their figures beside each other.

    Parameters
    ----------
    run
        Run directories, names in the project, or last.
    show
        Draw to this .png, .pdf or .svg.
    """
    from kilonet import display, files, plots, rundir

    target = files.check_picture_target(show)
    found = [member for name in run or ("last",) for member in rundir.members(rundir.find(name, project))]
    histories = [member.history() for member in found]
    listed = [_compared(member) for member in found]
    plots.save(plots.curves(histories if len(histories) > 1 else histories[0], ", ".join(run) or "last"), target)

    def tell() -> None:
        display.table(list(listed[0]), [list(row.values()) for row in listed])
        display.line(f"\nfigure    {target}")

    _out({"figure": str(target), "runs": listed}, json, tell)


@app.command
def bench(
    source: str | None = None, /, *, repeats: Whole = 5, threads: Whole | None = None, json: Json = False
) -> None:
    """Time the tutorial's loop and Kilonet's side by side: the same data, the same mathematics.

    Parameters
    ----------
    source
        28x28 grey images of ten classes; mnist if it is here, else mnist-5k.
    repeats
        Timed epochs of each.
    threads
        CPU threads.
    """
    from kilonet import display, world
    from kilonet import sources as known
    from kilonet.bench import compare
    from kilonet.errors import DataError

    if repeats < 1:
        raise ConfigError(f"repeats = {repeats} won't do: expected at least 1")
    world.set_threads(threads)
    if source is None:
        try:
            loaded = known.load("mnist")
        except KilonetError as error:
            display.say(f"note: mnist is not here ({error.message}): mnist-5k instead")
            loaded = known.load("mnist-5k")
    else:
        loaded = known.load(source)
    if loaded.shape != (1, 28, 28) or len(loaded.classes) != 10:
        raise DataError(f"{source}: the tutorial's models take 28x28 grey images of ten classes")
    found = compare(loaded, repeats, display.say)

    def tell() -> None:
        for key, value in found["conditions"].items():
            display.line(f"{key:10} {value}")
        display.line()
        rows = [
            (name, f"{r['tutorial_seconds']:.3f}", f"{r['kilonet_seconds']:.3f}", f"{r['ratio']:.2f}")
            for name, r in found["results"].items()
        ]
        display.table(["", "tutorial, s", "kilonet, s", "ratio"], rows, ["tutorial, s", "kilonet, s", "ratio"])

    _out(found, json, tell)


def _chosen(
    source: str | None, model: str | None, preset: str | None, split: str | None, seeds: int | None,
    training: Training | None, config: Path | None,
) -> Config:  # fmt: skip
    """The config that the flags ask for."""
    from kilonet.models import is_file

    if source and not _is_known(source) and Path(source).expanduser().exists():
        source = str(Path(source).expanduser().resolve())
    given = {"source": source, "model": model, "preset": preset, "split": split, "seeds": seeds}
    settings = {key: value for key, value in given.items() if value is not None}
    flags = {key: value for key, value in (vars(training) if training else {}).items() if value is not None}
    base = read_toml(config) if config else None
    if base is not None and is_file(base.model) and model is None:
        raise ConfigError(
            f"{config} names a model from a file, {base.model!r}, which is not imported because a config says so",
            "give it: --model path/to/file.py:ClassName",
        )
    return resolve(settings, flags, base)


def _is_known(source: str) -> bool:
    from kilonet import sources

    return source in sources.known()


def _dry_run(made: Plan, json: bool) -> None:
    from kilonet import display, run
    from kilonet.config import to_toml

    loss = run.first_step(made)
    parts = {name: len(part) for name, part in made.splits.parts().items()}
    parameters = made.model.parameter_count()

    def tell() -> None:
        display.line(to_toml(made.config).rstrip())
        counts = ", ".join(f"{name} {n:,}" for name, n in parts.items())
        display.line(f"\n{counts}; {parameters:,} parameters; loss of the first step {loss:.4f}")
        display.line("a dry run: nothing was written")

    shown = {"config": asdict(made.config), "parts": parts, "parameters": parameters, "first_loss": loss}
    _out(shown, json, tell)


def _train_seeds(chosen: Config, path: Path, json: bool) -> None:
    from kilonet import display, run

    shown: dict[int, display.TrainingDisplay] = {}

    def watch(seed: int, made: Plan, record: Epoch | None, done: int, loss: float) -> None:
        if seed not in shown:
            for former in shown.values():
                former.__exit__()
            shown[seed] = display.TrainingDisplay(chosen.training.epochs, len(made.splits.train), seed).__enter__()
        shown[seed].step(done, loss) if record is None else shown[seed].epoch(record)

    try:
        summary = run.train_seeds(chosen, path, watch)
    finally:
        for display_ in shown.values():
            display_.__exit__()

    def tell() -> None:
        display.seeds(summary)
        display.line(f"runs      {path}")

    _out({"run": str(path), **summary}, json, tell)


def _report_members(found: Run, measured: dict[str, Any], json: bool) -> None:
    """Several seeds: a line each, and their mean and spread."""
    from kilonet import display
    from kilonet.metrics import over_seeds

    summary = {key: over_seeds([getattr(r, key) for r in measured.values()]) for key in ("accuracy", "loss")}
    document = {"run": str(found.path), "runs": {n: r.figures() for n, r in measured.items()}, **summary}

    def tell() -> None:
        display.table(["run", "accuracy"], [(name, display.accuracy(r.figures())) for name, r in measured.items()])
        display.seeds({"test": {"accuracy": summary["accuracy"]}})

    _out(document, json, tell)


def _compared(member: Run) -> dict[str, Any]:
    """A run's figures for a comparison: validation only."""
    from kilonet import display

    history = member.history()
    return {
        "run": str(member.path),
        "model": member.config.model,
        "epochs": len(history.epochs),
        "best val accuracy": display.percent(history.best.val_accuracy),
        "at epoch": history.best.epoch,
        "last val accuracy": display.percent(history.last.val_accuracy),
        "train loss": f"{history.last.train_loss:.4f}",
        "seconds": f"{sum(r.seconds for r in history.epochs):.1f}",
    }


def _out(document: Any, json: bool, tell: Any) -> None:
    """The one JSON document, or the words for people."""
    if json:
        sys.stdout.write(json_module.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0; 2 for an unknown command or flag; 1 for anything else that won't do."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        app(given, exit_on_error=False, print_error=False, result_action="return_value")
    except (UnknownCommandError, UnknownOptionError) as error:
        _fail(str(error), None, 2)
    except CycloptsError as error:
        _fail(str(error), None, 1)
    except KilonetError as error:
        if debug:
            raise
        _fail(error.message, error.hint, 1)
    except OSError as error:
        if debug:
            raise
        what = f"{error.filename}: " if error.filename else ""
        _fail(f"{what}{error.strerror or error}", None, 1)
    except KeyboardInterrupt:
        _fail("interrupted", None, 130)
    sys.exit(0)


def _fail(message: str, hint: str | None, status: int) -> None:
    from kilonet.files import printable

    sys.stderr.write(f"error: {printable(' '.join(message.split()))}\n")
    if hint:
        sys.stderr.write(f"hint: {printable(hint)}\n")
    sys.exit(status)
