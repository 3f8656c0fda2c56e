"""The run directory on the disk: its files, how they are read again, and who may write them."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from kilonet import checkpoint, files, records, seals, sources
from kilonet.config import Config, read_table, weight_file
from kilonet.errors import RunError
from kilonet.history import Epoch, History
from kilonet.models import Classifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kilonet.images import ImageSet


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
        """The config that the run was made from.

        Raises:
            RunError: if the run is of another format version.
            ConfigError: if the file can't be read.
        """
        return seals.read_config(self.path / "config.toml")

    def untouched_config(self) -> tuple[Config, dict[str, Any]]:
        """The config, held against its checksum, and the number and checksum of the images of each part.

        Raises:
            RunError: if the file has been edited or damaged since it was written.
        """
        return seals.read_sealed(self.path / "config.toml")

    def identity(self) -> str:
        """What tells the run's training from any other's: its checkpoints hold it.

        Raises:
            RunError: if its config has been edited or damaged.
        """
        return seals.identity(*self.untouched_config())

    def is_directory(self) -> bool:
        """Whether it is a run directory, not a weight file that lies elsewhere."""
        return (self.path / "config.toml").is_file()

    def parts(self) -> dict[str, Any]:
        """The number and checksum of each part's images, as its config names them."""
        found = read_table(self.path / "config.toml").get("parts", {})
        return {name: part for name, part in found.items() if isinstance(part, dict)} if isinstance(found, dict) else {}

    def rewrite_config(self, config: Config, parts: dict[str, Any]) -> None:
        """Write another config over the run's."""
        files.write(self.path / "config.toml", seals.config_text(config, parts))

    def failure(self) -> dict[str, Any] | None:
        """Where the training went wrong, if it did: `epoch`, `step` (None in validation) and `loss`, as text."""
        path = self.path / "state" / "failed.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text())
            step, loss = found["step"], files.printable(str(found["loss"]))[:40]
            return {"epoch": int(found["epoch"]), "step": None if step is None else int(step), "loss": loss}
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise RunError(
                f"{path} can't be read: {type(error).__name__}", "delete it: kilonet resume makes it again"
            ) from None

    def seal(self) -> None:
        """Mark the run as finished, with a checksum of each of its files of figures and weights."""
        seals.seal(self.path)

    def unseal(self) -> None:
        """Mark the run as unfinished."""
        (self.path / "state" / "finished.json").unlink(missing_ok=True)

    def finished(self) -> bool:
        """Whether the run was finished; it may have been damaged since."""
        return (self.path / "state" / "finished.json").is_file()

    def damaged(self) -> list[str]:
        """Names of the files of a finished run that are not as they were written, or gone."""
        sums = seals.sums_of(self.path)
        return [name for name, known in sums.items() if seals.sha256_of(self.path / name) != known]

    def _intact(self, name: str) -> Path:
        """One of the run's files, held against its checksum if the run is finished."""
        path = self.path / name
        known = seals.sums_of(self.path).get(name)
        if known is not None and path.exists() and seals.sha256_of(path) != known:
            raise RunError(
                f"{path} is damaged, or not this run's: its checksum is not that of state/finished.json",
                f"mend it: kilonet resume {self.path}",
            )
        return path

    def model(self, model_file: str | None = None) -> Classifier:
        """The trained model; `model_file` is needed for one of a user's own file."""
        weights = self.weights or self.path / weight_file(self.config)
        if not weights.is_file():
            raise self.lacks(weights, "has no weights yet")
        if weights.is_relative_to(self.path):
            self._intact(weights.relative_to(self.path).as_posix())
        return checkpoint.load_model(weights, model_file)

    def lacks(self, path: Path, otherwise: str) -> RunError:
        """What to say of a file that is not there: it is gone, or the run has not come to it.

        Raises:
            RunError: if the config that asks for it has been edited or damaged.
        """
        self.untouched_config()
        if self.finished():
            return RunError(f"{path} is gone", f"mend it: kilonet resume {self.path}")
        return RunError(f"{self.path} {otherwise}", f"train it: kilonet resume {self.path}")

    def history(self) -> History:
        """The epochs in `results.csv`; those of an unfinished run are held against its newest good checkpoint."""
        path, saved = self._intact("results.csv"), [] if self.finished() else self._saved_records()
        if not path.exists() and self.finished():
            raise self.lacks(path, "")
        found = records.read_results(path) if path.exists() else []
        both = min(len(found), len(saved))
        if found[:both] != saved[:both]:
            raise RunError(
                f"{path} is damaged, or not this run's: its epochs are not those of the checkpoint",
                f"mend it: kilonet resume {self.path}",
            )
        if not (longer := max(found, saved, key=len)):
            raise self.lacks(path, "has no epochs yet")
        return History(longer, self.path.name)

    def _saved_records(self) -> list[Epoch]:
        """The epochs in the newest good checkpoint; none without such a one."""
        for name in ("checkpoint", "previous"):
            with suppress(RunError, KeyError, TypeError):
                figures, _ = checkpoint.read(self.path / "state" / f"{name}.safetensors")
                return [Epoch(**record) for record in figures["records"]]
        return []

    def metrics(self) -> dict[str, Any]:
        """The figures in `metrics.json`."""
        try:
            found: dict[str, Any] = json.loads(self._intact("metrics.json").read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / 'metrics.json'} can't be read: {error}") from None
        if not isinstance(found, dict):
            raise RunError(f"{self.path / 'metrics.json'} holds no figures")
        return found

    def predictions(self, part: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Class probabilities, (N, K), and labels, (N,), of a measured part; those of no other part are unpacked.

        Raises:
            RunError: if they are gone or damaged.
        """
        path = self._intact("predictions.npz")
        if not path.exists():
            raise self.lacks(path, "is not measured yet")
        names = f"{part}_probabilities", f"{part}_labels"
        probabilities, labels = itemgetter(*names)(records.read_npz(path, names))
        kinds = probabilities.dtype.kind, labels.dtype.kind
        shapes = probabilities.ndim == 2 and probabilities.size > 0 and labels.shape == probabilities.shape[:1]
        if not shapes or kinds != ("f", "i"):
            raise RunError(f"{path} is damaged: these are no probabilities and labels")
        return probabilities, labels

    def summary(self) -> dict[str, Any]:
        """The summary of several seeds; empty if there is none that can be read."""
        try:
            found = json.loads((self.path / "summary.json").read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def part(self, name: str) -> ImageSet | None:
        """The images of a part of the run's split, held against the hashes that the run wrote of them."""
        config, kept = self.config, self._split()
        if not {f"{name}_rows", f"{name}_prints"} <= set(kept):
            return None
        rows = kept[f"{name}_rows"]
        data = sources.load(config.source)
        part = data.take(rows) if rows.min() >= 0 and rows.max() < len(data) else None
        if part is None or not np.array_equal(part.fingerprints(), kept[f"{name}_prints"]):
            raise RunError(f"{config.source} has changed since {self.path} was trained", "give --data SOURCE")
        return part

    def seen(self, data: ImageSet) -> dict[str, int]:
        """How many of some images the run was trained on (`train`) and chosen on (`val`)."""
        if not self.is_directory():
            return {}
        prints, kept = data.fingerprints(), self._split()
        named = {name: kept[f"{name}_prints"] for name in ("train", "val") if f"{name}_prints" in kept}
        return {name: int(np.isin(prints, known).sum()) for name, known in named.items()}

    def _split(self) -> dict[str, Any]:
        """The rows of each part, and the hashes of their images."""
        path = self._intact("state/split.npz")
        if not path.is_file():
            raise RunError(f"{path} is gone", f"mend it: kilonet resume {self.path}")
        kept = records.read_npz(path)
        for name, array in kept.items():
            if array.ndim != 1 or not len(array) or array.dtype.kind != ("i" if name.endswith("_rows") else "u"):
                raise RunError(f"{path} is damaged: {files.printable(name)[:40]} holds no rows or hashes")
        parts = self.parts()
        for name in ("train", "val", "test"):
            if f"{name}_sha256" in kept and bytes(kept[f"{name}_sha256"]).hex() != parts.get(name, {}).get("sha256"):
                raise RunError(
                    f"{path} is not the split that config.toml names", f"mend it: kilonet resume {self.path}"
                )
        return kept


def discard_unfinished(path: Path) -> None:
    """Remove what was left in a run's folders when its process was killed."""
    for folder in (path, path / "weights", path / "state"):
        files.discard_unfinished(folder)


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Hold a run, so that no other process trains it.

    Raises:
        RunError: if one does.
    """
    state = run.path / "state"
    if not state.exists():
        state.mkdir()
    lock = FileLock(state / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{run.path} is being trained by another process", "wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()
