"""How far a run has come, on the disk: when a checkpoint is due, what it holds, and which one to go on from."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from kilonet import checkpoint, files, ranks, rundir
from kilonet.errors import RunError
from kilonet.records import results_csv

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.errors import DivergedError
    from kilonet.state import State, Weights

_SHARE = 100
"""A checkpoint after an epoch is due once this many times its own cost has passed since the last one."""


class Progress:
    """The checkpoints of one run: `state/checkpoint.safetensors`, and `state/previous.safetensors`, the one before it.

    Each holds all of a `State`, so that any one of them is enough; `weights/` and `results.csv` are written from it.

    Args:
        path: of the run.
        every: seconds between two checkpoints inside an epoch.
        identity: of the run's training; a checkpoint of another one is refused.
    """

    def __init__(self, path: Path, every: float, identity: str = "") -> None:
        self.path, self.every, self.identity = path, every, identity
        self.newest, self.previous = (path / "state" / f"{name}.safetensors" for name in ("checkpoint", "previous"))
        self.cost, self.seconds = 0.0, 0.0
        self._started = self._saved = time.perf_counter()
        self._best: Weights | None = None
        self._good = True

    def due(self, state: State) -> bool:
        """Whether it is time for a checkpoint: every so many seconds, and after an epoch wherever it is cheap."""
        waited = time.perf_counter() - self._saved
        return waited >= (self.every if state.step else min(self.every, _SHARE * self.cost))

    def save(self, state: State) -> None:
        """Write a checkpoint, then the weights and the records that follow from it.

        Raises:
            OSError: if one can't be written; the former checkpoint is whole then.
        """
        start = time.perf_counter()
        more = {"spent": self.spent(), "run": self.identity, "ranks": ranks.size()}
        keep = self.previous if self._good else None
        checkpoint.write(self.newest, state.tensors(), {**state.figures(), **more}, keep)
        self._good = True
        self.write_products(state)
        self._saved = time.perf_counter()
        self.cost = self._saved - start

    def write_products(self, state: State) -> None:
        """Write the weights and the records of the epochs done."""
        if not state.epoch:
            return
        weights = self.path / "weights"
        checkpoint.save_model(state.model, weights / "last.safetensors", state.last)
        if state.best is not self._best:
            checkpoint.save_model(state.model, weights / "best.safetensors", state.best)
            self._best = state.best
        files.write(self.path / "results.csv", results_csv(state.records))

    def restore(self, state: State) -> list[str]:
        """Bring a fresh state to where the newest good checkpoint was written.

        Returns:
            What has to be said about it, in lines.

        Raises:
            RunError: if the checkpoint is not of this run.
        """
        rundir.discard_unfinished(self.path)
        notes: list[str] = []
        for path in (self.newest, self.previous):
            if not path.exists():
                continue
            try:
                figures, tensors = checkpoint.read(path)
            except RunError as error:
                notes.append(error.message)
                self._good = self._good and path != self.newest
                continue
            if figures.get("run", "") != self.identity:
                raise RunError(
                    f"{path} is a checkpoint of another run than config.toml",
                    "put the right file back; without checkpoints the run starts again from its config.toml",
                )
            try:
                state.restore(tensors, figures)
                self.seconds = float(figures["spent"])
            except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
                raise RunError(f"{path} is no checkpoint of this run", "train anew with its config.toml") from None
            if (before := figures.get("ranks", 1)) != ranks.size():
                notes.append(f"{before} trained it together, now {ranks.size()}: the same but for rounding")
            return [*notes, f"going on after epoch {state.epoch}" + (f", step {state.step}" if state.step else "")]
        return [*notes, "no good checkpoint: starting again from config.toml"] if notes else []

    def spent(self) -> float:
        """Seconds that the run has taken, in this process and in those before it."""
        return self.seconds + time.perf_counter() - self._started

    def note_failure(self, state: State, error: DivergedError) -> None:
        """Write where a training went wrong, and the weights and records of the epochs before."""
        self.write_products(state)
        failed = {"epoch": error.epoch, "step": error.step, "loss": str(error.loss)}
        files.write(self.path / "state" / "failed.json", json.dumps(failed) + "\n")
