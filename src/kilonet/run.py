"""A training from its config to its figures, in a run directory; and the measurement of one that is done."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import checkpoint, files, plots, sources, world
from kilonet.config import Config, to_toml
from kilonet.errors import DataError, RunError
from kilonet.evaluation import aligned, evaluate
from kilonet.images import split
from kilonet.metrics import over_seeds
from kilonet.models import Classifier, Linear, LinearFromScratch, build, is_file, rehearse
from kilonet.rundir import Run, measured_weights, npz, results_csv
from kilonet.train import Epoch, History, epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.images import ImageSet, Splits
    from kilonet.metrics import Report


@dataclass(frozen=True)
class Plan:
    """A training made ready, before anything is written."""

    config: Config
    data: ImageSet
    splits: Splits
    model: Classifier


def plan(config: Config) -> Plan:
    """Load, split and build what a config asks for; nothing is written.

    Raises:
        KilonetError: if any of it won't do.
    """
    world.device(config.training.device)
    threads = world.set_threads(config.training.threads)
    config = replace(config, training=replace(config.training, threads=threads))
    data = sources.load(config.source)
    seed = config.training.seed if config.split_seed is None else config.split_seed
    splits = split(data, config.split, seed)
    model = build(config.model, splits.train, config.training.seed)
    if is_file(config.model):
        rehearse(model, splits.train)
    return Plan(config, data, splits, model)


def first_step(made: Plan) -> float:
    """The loss of one step over the first batch, in nats; nothing is written."""
    training = replace(made.config.training, epochs=1)
    few = made.splits.train.take(slice(0, training.batch_size))
    return next(epochs(made.model, replace(made.splits, train=few, val=None, test=None), training)).train_loss


def train(made: Plan, path: Path, watch: Callable[[Epoch | None, int, float], None]) -> Run:
    """Train what was planned into an empty run directory, and measure it, the test part last and once.

    Args:
        made: from `plan`.
        path: from `folder`.
        watch: told after each step (None, images done, mean loss) and after each epoch (its record, 0, 0).
    """
    start = time.perf_counter()
    config, splits, model = made.config, made.splits, made.model
    _write_plan(made, path)
    records: list[Epoch] = []
    best: Epoch | None = None
    for record in epochs(model, splits, config.training, lambda done, loss: watch(None, done, loss)):
        records.append(record)
        checkpoint.save_model(model, path / "weights" / "last.safetensors")
        if splits.val is None or record.better_than(best):
            best = record
            checkpoint.save_model(model, path / "weights" / "best.safetensors")
        files.write(path / "results.csv", results_csv(records))
        watch(record, 0, 0.0)
    run = Run(path)
    _measure(run, made, len(records), start)
    plots.save(
        plots.curves(History(records, path.name), f"{config.model} on {_short(config.source)}"),
        path / "curves.png",
    )
    return run


def _write_plan(made: Plan, path: Path) -> None:
    config, splits = made.config, made.splits
    parts = {name: {"n": len(part), "sha256": part.sha256()} for name, part in splits.parts().items()}
    notes = {"notes": [*made.data.notes, *splits.notes]} if made.data.notes or splits.notes else {}
    used = {name: version(name) for name in ("kilonet", "torch", "numpy")}
    files.write(
        path / "config.toml",
        to_toml(config, parts={**parts, **notes}, versions={"python": platform.python_version(), **used}),
    )
    for name in ("weights", "state"):
        (path / name).mkdir()
    kept: dict[str, Any] = {}
    for name, part in splits.parts().items():
        kept |= {f"{name}_rows": part.rows, f"{name}_prints": part.fingerprints()}
    files.write(path / "state" / "split.npz", npz(kept))


def _measure(run: Run, made: Plan, count: int, start: float) -> None:
    """Measure the chosen weights, write the figures, and read the test part, for the only time."""
    config, splits = made.config, made.splits
    model = run.model(config.model if is_file(config.model) else None)
    reports = {
        name: evaluate(model, part, config.training.val_batch_size)
        for name, part in (("val", splits.val), ("test", splits.test))
        if part is not None
    }
    arrays: dict[str, Any] = {}
    for name, report in reports.items():
        arrays |= {f"{name}_probabilities": report.probabilities, f"{name}_labels": report.labels}
    files.write(run.path / "predictions.npz", npz({**arrays, "classes": np.array(model.classes)}))
    shown, part = ("val", splits.val) if splits.val is not None else ("test", splits.test)
    if part is not None:
        draw_report(reports[shown], part, run.path, f"{config.model}, {shown}")
    matrix = weight_matrix(model)
    if matrix is not None:
        plots.save(plots.weights(matrix, model.shape, model.classes, "weights"), run.path / "weights.png")
    metrics = {
        "parameters": model.parameter_count(),
        "epochs": count,
        "seconds": time.perf_counter() - start,
        "weights": measured_weights(config),
        **{name: report.figures() for name, report in reports.items()},
    }
    files.write(run.path / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def draw_report(report: Report, data: ImageSet, path: Path, title: str) -> None:
    """Draw predictions, confusion and mistakes of a measured part into a folder."""
    plots.save(plots.predictions(report, data.images, data.classes, title), path / "predictions.png")
    heading = f"{title}: {report.correct:,} of {report.n:,} right"
    plots.save(plots.confusion(report, data.classes, heading), path / "confusion_matrix.png")
    plots.save(plots.mistakes(report, data.images, data.classes, f"{title}: worst mistakes"), path / "mistakes.png")


def weight_matrix(model: Classifier) -> Any:
    """The weights of a linear model, (K, C*H*W), or None for any other."""
    if isinstance(model.net, Linear):
        return model.net.weight.detach().cpu().numpy()
    if isinstance(model.net, LinearFromScratch):
        return model.net.weights.detach().cpu().numpy().T
    return None


def train_seeds(
    config: Config, path: Path, watch: Callable[[int, Plan, Epoch | None, int, float], None]
) -> dict[str, Any]:
    """Independent runs with one seed after another, in `seed-S` inside a run directory, and their summary.

    The split is the first seed's for all of them, so that they are measured on the same images.
    """
    files.write(path / "config.toml", to_toml(config))
    first = config.training.seed
    figures: list[dict[str, Any]] = []
    names: list[str] = []
    for seed in range(first, first + config.seeds):
        training = replace(config.training, seed=seed)
        kept = first if config.split_seed is None else config.split_seed
        made = plan(replace(config, training=training, seeds=1, split_seed=kept))
        inside = path / f"seed-{seed}"
        inside.mkdir()
        run = train(made, inside, lambda *told, seed=seed, made=made: watch(seed, made, *told))
        figures.append(run.metrics())
        names.append(inside.name)
    summary: dict[str, Any] = {"runs": names, "seeds": list(range(first, first + config.seeds))}
    for part in ("val", "test"):
        if part in figures[0]:
            summary[part] = {key: over_seeds([f[part][key] for f in figures]) for key in ("accuracy", "loss")}
    files.write(path / "summary.json", json.dumps(summary, indent=2) + "\n")
    histories = [Run(path / name).history() for name in names]
    plots.save(plots.curves(histories, f"{config.model}, {config.seeds} seeds"), path / "curves.png")
    return summary


def measure(run: Run, source: str | None, model_file: str | None = None) -> tuple[Report, ImageSet, str]:
    """Measure a run on its own test part, or on another source's (its test part, else all of it).

    Returns:
        The report, with notes on images that the run was trained or chosen on; the images; and what they are.
    """
    model = run.model(model_file)
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
    return replace(evaluate(model, data), notes=tuple(notes)), data, what


def _own_part(run: Run, notes: list[str]) -> tuple[ImageSet, str]:
    if not (run.path / "state" / "split.npz").is_file():
        raise RunError("these weights lie in no run directory, so their test images are unknown", "give --data SOURCE")
    if (test := run.part("test")) is not None:
        return test, "its test part"
    val = run.part("val")
    if val is None:
        raise RunError(f"{run.path} has neither a test nor a validation part", "give --data SOURCE")
    notes.append("this run has no test part: these are its validation images")
    return val, "its validation part"


def _short(source: str) -> str:
    return source if len(source) <= 40 else f"…{source[-39:]}"
