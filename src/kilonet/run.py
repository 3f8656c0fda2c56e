"""The run directory: a training from its config to its figures, and its reading afterwards."""

from __future__ import annotations

import csv
import io
import json
import platform
import re
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import checkpoint, files, plots, sources, world
from kilonet.config import Config, read_toml, to_toml
from kilonet.errors import ConfigError, DataError, RunError
from kilonet.evaluation import aligned, evaluate
from kilonet.images import split
from kilonet.metrics import over_seeds
from kilonet.models import Classifier, Linear, LinearFromScratch, build, is_file
from kilonet.train import Epoch, History, epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.images import ImageSet, Splits
    from kilonet.metrics import Report

_CSV = ("epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")


@dataclass(frozen=True)
class Plan:
    """A training made ready, before anything is written."""

    config: Config
    data: ImageSet
    splits: Splits
    model: Classifier


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: the directory.
        weights: the weight file that is meant, or None for the one that the run measured.
    """

    path: Path
    weights: Path | None = None

    @property
    def config(self) -> Config:
        """The config that the run was made from."""
        return read_toml(self.path / "config.toml")

    def model(self, model_file: str | None = None) -> Classifier:
        """The trained model; `model_file` is needed for one of a user's own file."""
        weights = self.weights or self.path / "weights" / f"{measured_weights(self.config)}.safetensors"
        if not weights.is_file():
            raise RunError(
                f"{self.path} has no weights yet", f"train it: kilonet train --config {self.path}/config.toml"
            )
        return checkpoint.load_model(weights, model_file)

    def history(self) -> History:
        """The epochs in `results.csv`."""
        try:
            with (self.path / "results.csv").open(newline="") as file:
                rows = [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]
            records = [Epoch(**{**row, "epoch": int(row["epoch"])}) for row in rows]  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self.path / 'results.csv'} can't be read: {error}") from None
        if not records:
            raise RunError(f"{self.path} has no epochs yet")
        return History(records, self.path.name)

    def metrics(self) -> dict[str, Any]:
        """The figures in `metrics.json`."""
        try:
            found: dict[str, Any] = json.loads((self.path / "metrics.json").read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / 'metrics.json'} can't be read: {error}") from None
        return found

    def part(self, name: str) -> ImageSet | None:
        """The images of a part of the run's split, held against the checksum that the run wrote of it."""
        config = self.config
        data = sources.load(config.source)
        with np.load(self.path / "state" / "split.npz", allow_pickle=False) as kept:
            if f"{name}_rows" not in kept:
                return None
            rows, prints = kept[f"{name}_rows"], kept[f"{name}_prints"]
        if rows.max() >= len(data):
            raise RunError(f"{config.source} has changed since {self.path} was trained: {len(data)} images")
        part = data.take(rows)
        if not np.array_equal(part.fingerprints(), prints):
            raise RunError(f"{config.source} has changed since {self.path} was trained: other images")
        return part

    def seen(self, data: ImageSet) -> dict[str, int]:
        """How many of some images the run was trained on (`train`) and chosen on (`val`)."""
        path = self.path / "state" / "split.npz"
        if not path.is_file():
            return {}
        prints = data.fingerprints()
        with np.load(path, allow_pickle=False) as kept:
            return {name: int(np.isin(prints, kept[f"{name}_prints"]).sum())
                    for name in ("train", "val") if f"{name}_prints" in kept}  # fmt: skip


def _number(text: str | None) -> float | None:
    return float(text) if text else None


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
    return Plan(config, data, splits, model)


def measured_weights(config: Config) -> str:
    """Which weights get measured: nothing can choose the best ones where nothing validates."""
    return "last" if config.split == "full" else config.training.measure


def folder(project: Path, name: str | None) -> Path:
    """A new, empty run directory; two that ask at once never get the same.

    Raises:
        ConfigError: if the name is taken or would leave the project.
        RunError: if the directory can't be made.
    """
    try:
        project.mkdir(parents=True, exist_ok=True)
        if name is not None:
            path = project / files.check_name(name, "the run's name")
            if name == "last":
                raise ConfigError("a run can't be named 'last'", "that word means the newest run")
            path.mkdir()
            return path
        for i in range(1, 1_000_000):
            path = project / ("train" if i == 1 else f"train{i}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except FileExistsError:
        taken = project if name is None or not project.is_dir() else project / name
        raise ConfigError(f"{taken} exists already", "give another --name, or none") from None
    except OSError as error:
        raise RunError(f"can't write into {project}: {error.strerror}", "give another folder with --project") from None
    raise RunError(f"{project} is full of runs")


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
        files.write(path / "results.csv", _results(records))
        watch(record, 0, 0.0)
    run = Run(path)
    _measure(run, splits, run.model(config.model if is_file(config.model) else None), len(records), start)
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
    files.write(path / "state" / "split.npz", _npz(kept))


def _measure(run: Run, splits: Splits, model: Classifier, count: int, start: float) -> None:
    """Measure the chosen weights, write the figures, and read the test part, for the only time."""
    config = run.config
    reports = {
        name: evaluate(model, part, config.training.val_batch_size)
        for name, part in (("val", splits.val), ("test", splits.test))
        if part is not None
    }
    arrays: dict[str, Any] = {}
    for name, report in reports.items():
        arrays |= {f"{name}_probabilities": report.probabilities, f"{name}_labels": report.labels}
    files.write(run.path / "predictions.npz", _npz({**arrays, "classes": np.array(model.classes)}))
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


def find(name: str, project: Path) -> Run:
    """The run that is meant by a directory, one of its weight files, a name in the project, or `last`.

    Raises:
        RunError: if there is none, or it is no run.
    """
    if name == "last":
        found = [p for p in project.glob("*/config.toml") if p.is_file()] if project.is_dir() else []
        if not found:
            raise RunError(f"no runs in {project}", "train one: kilonet train")
        return Run(max(found, key=lambda p: (p.stat().st_mtime_ns, _natural_count(p.parent.name))).parent)
    path = Path(name).expanduser()
    if not path.exists() and (project / name).exists():
        path = project / name
    shown = files.printable(str(path))
    if path.is_file():
        if path.suffix != ".safetensors":
            raise RunError(f"{shown} is no run: expected a run directory or a .safetensors file")
        return Run(path.resolve().parent.parent, path.resolve())
    if not path.exists():
        raise RunError(f"no run {shown}", f"runs lie in {project}; 'last' is the newest")
    if not (path / "config.toml").is_file():
        raise RunError(f"{shown} is no run directory: it has no config.toml")
    return Run(path)


def members(run: Run) -> list[Run]:
    """The runs inside a directory of several seeds, else the run itself."""
    if (run.path / "summary.json").is_file():
        return [
            Run(p.parent)
            for p in sorted(run.path.glob("seed-*/config.toml"), key=lambda p: _natural_count(p.parent.name))
        ]
    return [run]


def single(run: Run) -> Run:
    """The run, if it is one.

    Raises:
        RunError: if it is a directory of several seeds.
    """
    if run.weights is None and (run.path / "summary.json").is_file():
        names = [member.path.name for member in members(run)]
        raise RunError(f"{run.path} holds {len(names)} runs", f"name one, such as {run.path / names[0]}")
    return run


def _natural_count(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0


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


def _results(records: list[Epoch]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV)
    for record in records:
        writer.writerow("" if (value := getattr(record, name)) is None else repr(value) for name in _CSV)
    return buffer.getvalue()


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _short(source: str) -> str:
    return source if len(source) <= 40 else f"…{source[-39:]}"


__all__ = ["Plan", "Run", "find", "folder", "measure", "members", "plan", "single", "train", "train_seeds"]
