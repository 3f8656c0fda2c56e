"""The run directory on the disk: its name, its files, and how they are found and read again."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from kilonet import checkpoint, files, sources
from kilonet.config import Config, read_toml
from kilonet.errors import ConfigError, RunError
from kilonet.models import Classifier
from kilonet.train import Epoch, History

if TYPE_CHECKING:
    from kilonet.images import ImageSet

_CSV = ("epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")


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
            if any(row[name] is None for row in rows for name in ("epoch", "train_loss", "lr", "seconds")):
                raise ValueError("a row is cut short")
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
        """The images of a part of the run's split, held against the hashes that the run wrote of them."""
        config, kept = self.config, self._split()
        if f"{name}_rows" not in kept:
            return None
        rows = kept[f"{name}_rows"]
        data = sources.load(config.source)
        part = data.take(rows) if rows.max() < len(data) else None
        if part is None or not np.array_equal(part.fingerprints(), kept[f"{name}_prints"]):
            raise RunError(f"{config.source} has changed since {self.path} was trained", "give --data SOURCE")
        return part

    def seen(self, data: ImageSet) -> dict[str, int]:
        """How many of some images the run was trained on (`train`) and chosen on (`val`)."""
        if not (self.path / "state" / "split.npz").is_file():
            return {}
        prints, kept = data.fingerprints(), self._split()
        named = {name: kept[f"{name}_prints"] for name in ("train", "val") if f"{name}_prints" in kept}
        return {name: int(np.isin(prints, known).sum()) for name, known in named.items()}

    def _split(self) -> dict[str, Any]:
        """The rows of each part, and the hashes of their images."""
        path = self.path / "state" / "split.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return dict(kept)
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
            raise RunError(f"{path} can't be read: {type(error).__name__}") from None


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def measured_weights(config: Config) -> str:
    """Which weights get measured: nothing can choose the best ones where nothing validates."""
    return "last" if config.split == "full" else config.training.measure


def folder(project: Path, name: str | None) -> Path:
    """A new, empty run directory; two that ask at once never get the same.

    Raises:
        ConfigError: if the name is taken or would leave the project.
        RunError: if the directory can't be made.
    """
    if name is not None:
        check_name(name)
    try:
        project.mkdir(parents=True, exist_ok=True)
        if name is not None:
            (project / name).mkdir()
            return project / name
        for i in range(1, 1_000_000):
            path = project / ("train" if i == 1 else f"train{i}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except FileExistsError:
        if name is None or not project.is_dir():
            raise ConfigError(f"{project} is no folder", "give another one with --project") from None
        raise ConfigError(f"{project / name} exists already", "give another --name, or none") from None
    except OSError as error:
        raise RunError(f"can't write into {project}: {error.strerror}", "give another folder with --project") from None
    raise RunError(f"{project} is full of runs")


def check_name(name: str) -> None:
    """Make sure that a run can have this name.

    Raises:
        ConfigError: if it would leave its folder, or is `last`.
    """
    files.check_name(name, "the run's name")
    if name == "last":
        raise ConfigError("a run can't be named 'last'", "that word means the newest run")


def find(name: str, project: Path) -> Run:
    """The run that is meant by a directory, one of its weight files, a name in the project, or `last`.

    Raises:
        RunError: if there is none, or it is no run.
    """
    if name == "last":
        found = [p for p in project.glob("*/config.toml") if p.is_file()] if project.is_dir() else []
        if not found:
            raise RunError(f"no runs in {project}", "train one: kilonet train")
        return Run(max(found, key=lambda p: (p.stat().st_mtime_ns, _last_number(p.parent.name))).parent)
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
    if run.weights is not None or not (run.path / "summary.json").is_file():
        return [run]
    found = sorted(run.path.glob("seed-*/config.toml"), key=lambda p: _last_number(p.parent.name))
    if not found:
        raise RunError(f"{run.path} holds none of the runs that its summary.json names")
    return [Run(p.parent) for p in found]


def single(run: Run) -> Run:
    """The run, if it is one.

    Raises:
        RunError: if it is a directory of several seeds.
    """
    inside = members(run)
    if inside != [run]:
        raise RunError(f"{run.path} holds {len(inside)} runs", f"name one, such as {inside[0].path}")
    return run


def _last_number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0


def results_csv(records: list[Epoch]) -> str:
    """The text of `results.csv`, a row an epoch."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV)
    for record in records:
        writer.writerow("" if (value := getattr(record, name)) is None else repr(value) for name in _CSV)
    return buffer.getvalue()


def npz(arrays: dict[str, Any]) -> bytes:
    """The bytes of an `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
