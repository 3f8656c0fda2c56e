"""`evaluate`, `predict` and `plot`: what a run gives."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kilonet.cli.app import RUNS, answer, app
from kilonet.errors import ConfigError
from kilonet.flags import Json, ModelFile, Project, Show, parse_rows

if TYPE_CHECKING:
    from kilonet.rundir import Run


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
    from kilonet import display, files, plots, shelf
    from kilonet.measuring import measure

    target = files.check_picture_target(show) if show else None
    found = shelf.find(run, project)
    members = shelf.members(found)
    if members != [found]:
        if target:
            raise ConfigError("--show draws one run, not several seeds", f"name one, such as {members[0].path}")
        members = _done(found, members) or members
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
    answer(document, json, lambda: display.report(report, title))


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
        Pictures: PNG, JPEG, GIF, BMP, TIFF, WebP, PNM; or .npy arrays.
    data
        Take the pictures from this source.
    index
        Which rows of it, such as 7 or 50000-50008; the first nine if not given.
    show
        Draw the pictures with their classes to this .png, .pdf or .svg.
    """
    import numpy as np

    from kilonet import display, files, plots, shelf, sources
    from kilonet.predict import Predictor

    target = files.check_picture_target(show) if show else None
    if bool(images) == (data is not None):
        raise ConfigError("expected pictures or --data SOURCE, and not both", "kilonet predict RUN IMAGE...")
    if index is not None and data is None:
        raise ConfigError("--index without --data", "rows are those of a source: --data SOURCE --index 0-8")
    predictor = Predictor(shelf.single(shelf.find(run, project)).model(model))
    if data is None:
        found = predictor.files(images, originals=show is not None)
    else:
        whole = sources.load(data)
        rows = parse_rows(index, len(whole)) if index is not None else range(min(9, len(whole)))
        found = predictor.rows(whole.take(np.array(rows)), data)
    if target:
        plots.save(plots.answers(found), target)
    answer([one.document() for one in found], json, lambda: display.predictions(found))


@app.command
def plot(
    *run: str, show: Path = Path("curves.png"), on: Literal["val", "test"] = "val", project: Project = RUNS,
    json: Json = False,
) -> None:  # fmt: skip
    """Draw the curves of a run again; or compare runs, and say whether their differences are more than noise.

    Parameters
    ----------
    run
        Run directories, names in the project, or last; one of several seeds counts as one.
    show
        Draw to this .png, .pdf or .svg.
    on
        What differences are measured on: validation images, or those of the test set.
    """
    from kilonet import comparing, display, files, plots, shelf

    target = files.check_picture_target(show)
    if on == "test" and len(run) < 2:
        raise ConfigError("--on test with nothing to compare: expected two runs", "kilonet plot RUN RUN --on test")
    found = [shelf.find(name, project) for name in run or ("last",)]
    named = list(zip(comparing.names(found), found, strict=True))
    drawn = [_drawable(one) for one in found]
    histories = [[member.history() for member in members] for members in drawn]
    listed = [_compared(member) for members in drawn for member in members]
    title = ", ".join(run) or "last"
    document: dict[str, Any] = {"figure": str(target), "runs": listed}
    compared = comparing.compare_runs(named, on) if len(found) > 1 else None
    if compared is None:
        figure = plots.curves(histories[0] if len(histories[0]) > 1 else histories[0][0], title)
    else:
        unit = f"difference of {compared.what} accuracy, points, with 95 % intervals"
        groups = [(name, group) for (name, _), group in zip(named, histories, strict=True)]
        figure = plots.comparison(groups, comparing.differences(compared), unit, title)
        document["comparisons"] = compared.document()
    plots.save(figure, target)
    spread = [str(path) for one in found if (path := one.path / "distribution.png").exists()]
    document |= {"distributions": spread} if spread else {}

    def tell() -> None:
        display.table(list(listed[0]), [list(row.values()) for row in listed])
        if compared is not None:
            display.comparisons(compared)
        display.line(f"\nfigure    {target}")
        for path in spread:
            display.line(f"spread    {path}")

    answer(document, json, tell)


def _done(found: Run, members: list[Run]) -> list[Run]:
    """Those seeds of a run that are done, with a note if these are not all."""
    from kilonet import display

    done = [member for member in members if member.finished()]
    if len(done) < (n := len(found.config.numbers)):
        again = f"kilonet resume {found.path}"
        display.say(f"note: {found.path}: {len(done)} of {n} seeds are done: {again}")
    return done


def _drawable(found: Run) -> list[Run]:
    """A run, or those of its seeds, or a committee's members, that have come to an epoch."""
    from kilonet import shelf

    members = shelf.trainings(found)
    if members == [found]:
        return members
    _done(found, members)
    return [member for member in members if member.finished() or (member.path / "results.csv").exists()] or members


def _report_members(found: Run, measured: dict[str, Any], json: bool) -> None:
    """Several seeds: a line each, and their mean and spread."""
    from kilonet import display
    from kilonet.metrics import over_seeds

    summary = {key: over_seeds([getattr(r, key) for r in measured.values()]) for key in ("accuracy", "loss")}
    document = {"run": str(found.path), "runs": {n: r.figures() for n, r in measured.items()}, **summary}

    def tell() -> None:
        display.table(["run", "accuracy"], [(name, display.accuracy(r.figures())) for name, r in measured.items()])
        display.seeds({"test": {"accuracy": summary["accuracy"]}})

    answer(document, json, tell)


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
