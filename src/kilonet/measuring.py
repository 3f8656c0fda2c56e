"""The measurement of a run: its figures and pictures when it is done, and again whenever they are asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import files, plots, sources
from kilonet.config import measured_weights
from kilonet.errors import DataError, RunError
from kilonet.evaluation import aligned, evaluate
from kilonet.models import Classifier
from kilonet.records import npz
from kilonet.rundir import Run
from kilonet.zoo import Linear, LinearFromScratch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kilonet.images import ImageSet, Splits
    from kilonet.metrics import Report


def complete(
    run: Run, model: Classifier, splits: Splits, seconds: Callable[[], float], pause: Callable[[], None]
) -> dict[str, Report]:
    """Measure a trained run, draw its figures, read the test part, for the only time, and mark the run as finished.

    Args:
        run: with its weights and its records.
        model: with the weights that are to be measured.
        splits: of the run.
        seconds: tells how long the run has taken.
        pause: called between two pieces of work.

    Returns:
        The report of each part that was measured.
    """
    config, history = run.config, run.history()
    reports = measure_parts(run, model, splits, config.model, pause)
    matrix = weight_matrix(model)
    if matrix is not None:
        plots.save(plots.weights(matrix, model.shape, model.classes, "weights"), run.path / "weights.png")
    pause()
    plots.save(plots.curves(history, f"{config.model} on {short(config.source)}"), run.path / "curves.png")
    write_metrics(run, model, len(history.epochs), seconds(), reports)
    run.seal()
    return reports


def measure_parts(
    run: Run, model: Classifier, splits: Splits, title: str, pause: Callable[[], None] = lambda: None
) -> dict[str, Report]:
    """Measure a model on the validation and the test part, and write its predictions and their pictures into a run.

    Args:
        run: with the config that says how to measure.
        model: with the weights that are to be measured.
        splits: of the run.
        title: what the pictures call the model.
        pause: called between two pieces of work.
    """
    config = run.config
    reports: dict[str, Report] = {}
    for part_name, part in (("val", splits.val), ("test", splits.test)):
        pause()
        if part is not None:
            reports[part_name] = evaluate(model, part, config.training.val_batch_size, config.training.engine)
    arrays: dict[str, Any] = {}
    for part_name, report in reports.items():
        arrays |= {f"{part_name}_probabilities": report.probabilities, f"{part_name}_labels": report.labels}
    files.write(run.path / "predictions.npz", npz({**arrays, "classes": np.array(model.classes)}))
    shown, images = ("val", splits.val) if splits.val is not None else ("test", splits.test)
    if images is not None:
        draw_report(reports[shown], images, run.path, f"{title}, {shown}", pause)
    return reports


def write_metrics(
    run: Run, model: Classifier, epochs: int, seconds: float, reports: dict[str, Report], **more: object
) -> None:
    """Write a run's `metrics.json`: its cost, what else is given, and the figures of each measured part."""
    metrics = {
        "parameters": model.parameter_count(),
        "epochs": epochs,
        "seconds": seconds,
        "weights": measured_weights(run.config),
        "engine": run.config.training.engine,
        **more,
        **{part_name: report.figures() for part_name, report in reports.items()},
    }
    files.write(run.path / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def draw_report(
    report: Report, data: ImageSet, path: Path, title: str, pause: Callable[[], None] = lambda: None
) -> None:
    """Draw predictions, confusion and mistakes of a measured part into a folder."""
    heading = f"{title}: {report.correct:,} of {report.n:,} right"
    plots.save(plots.predictions(report, data.images, data.classes, title), path / "predictions.png")
    pause()
    plots.save(plots.confusion(report, data.classes, heading), path / "confusion_matrix.png")
    pause()
    plots.save(plots.mistakes(report, data.images, data.classes, f"{title}: worst mistakes"), path / "mistakes.png")


def weight_matrix(model: Classifier) -> Any:
    """The weights of a linear model, (K, C*H*W), or None for any other."""
    if isinstance(model.net, Linear):
        return model.net.weight.detach().cpu().numpy()
    if isinstance(model.net, LinearFromScratch):
        return model.net.weights.detach().cpu().numpy().T
    return None


def measure(run: Run, source: str | None, model_file: str | None = None) -> tuple[Report, ImageSet, str]:
    """Measure a run on its own test part, or on another source's (its test part, else all of it).

    Returns:
        The report, with notes on images that the run was trained or chosen on; the images; and what they are.
    """
    model = run.model(model_file)
    engine = run.config.training.engine if (run.path / "config.toml").is_file() else "auto"
    data, what, notes = measured_images(run, model, source)
    return replace(evaluate(model, data, engine=engine), notes=notes), data, what


def measured_images(run: Run, model: Classifier, source: str | None) -> tuple[ImageSet, str, tuple[str, ...]]:
    """What a run is measured on: its own test part, else its validation part; or a source's test part, else all of it.

    Returns:
        The images, their labels numbered as the model's classes; what they are; and what should be known of them.

    Raises:
        RunError: if they are to be the run's own, and it has none or lies in no run directory.
        DataError: if they are not to be had any more, or don't fit the model.
    """
    notes: list[str] = []
    if source is None:
        data, what = _own_part(run, notes)
    else:
        data, what = sources.load(source), f"all of {source}"
        if data.test_from is not None:
            data, what = data.take(slice(data.test_from, None)), f"the test part of {source}"
        data = aligned(data, model.classes)
        for part, n in run.seen(data).items():
            if n:
                use = "was trained on" if part == "train" else "validated on"
                notes.append(f"{n:,} of these {len(data):,} images are among those that this run {use}")
    if data.shape != model.shape:
        raise DataError(f"the model takes images of shape {model.shape}: {what} has {data.shape}")
    return data, what, tuple(notes)


def _own_part(run: Run, notes: list[str]) -> tuple[ImageSet, str]:
    if not run.is_directory():
        raise RunError("these weights lie in no run directory, so their test images are unknown", "give --data SOURCE")
    if (test := run.part("test")) is not None:
        return test, "its test part"
    val = run.part("val")
    if val is None:
        raise RunError(f"{run.path} has neither a test nor a validation part", "give --data SOURCE")
    notes.append("this run has no test part: these are its validation images")
    return val, "its validation part"


def short(source: str) -> str:
    """The name of a source, or the end of a long path, for a title."""
    return source if len(source) <= 40 else f"…{source[-39:]}"
