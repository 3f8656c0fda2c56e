"""What each process of a sweep does: take an open slot, train its trial, write what came of it, until none is open."""

from __future__ import annotations

import math
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from optuna.exceptions import UpdateFinishedTrialError

from kilonet import sources
from kilonet.errors import ConfigError, DataError, RunError
from kilonet.images import split
from kilonet.stopping import on_request
from kilonet.sweep import database as databases
from kilonet.sweep.database import FAILURES, AwayError, Database
from kilonet.sweep.ledger import Ledger, slot_of
from kilonet.sweep.sampling import drawn
from kilonet.sweep.scoring import EndedEarlyError, Result, nothing, score
from kilonet.sweep.unsent import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import optuna
    from optuna.trial import FrozenTrial

    from kilonet.images import Splits
    from kilonet.sweep.ledger import Standing
    from kilonet.sweep.spec import Spec

Ending = Literal["done", "time", "away"]

MOST_LOST = 10
"""Processes that may end with a trial before it counts as one that went wrong."""
_POLL = 0.5
"""Seconds between two looks at trials that others still run."""
_JUDGE = 3.0
"""Seconds between two looks for trials whose process is gone."""


@dataclass(frozen=True)
class Counts:
    """How far a sweep is, on all machines.

    Attributes:
        done: trials that are.
        pruned: those of them that were ended early.
        running: trials.
        score: of the best trial, or None.
        best: its number.
    """

    done: int
    pruned: int
    running: int
    score: float | None
    best: int | None

    @classmethod
    def of(cls, standing: Standing) -> Counts:
        """Those of a sweep that stands so."""
        best = standing.best()
        pruned = sum(trial.state.name == "PRUNED" for trial in standing.done.values())
        score, slot = (None, None) if best is None else (best.value, slot_of(best))
        return cls(len(standing.done), pruned, len(standing.running), score, slot)


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; a process uses one for all its trials.

    Attributes:
        spec: the sweep.
        source: its data, as it is named here.
        files: of models of the user's own, by `file.py:ClassName`.
        url: of the database.
        name: of the study.
        folder: for results that the database can't be told.
        asked: how many trials there are to be.
        until: no trial is begun after this, in seconds since the epoch.
    """

    spec: Spec
    source: str
    files: dict[str, str]
    url: str
    name: str
    folder: Path
    asked: int
    until: float

    def __call__(self, _: int, tell: Callable[[Any], None]) -> Ending:
        """Do trials, and say why there are no more of them; `tell` is told counts, and lines."""
        try:
            return _Worker(self, tell).work()
        except AwayError as error:
            tell(error.message)
            return "away"

    @cached_property
    def splits(self) -> Splits:
        """The data.

        Raises:
            DataError: if it is not what the sweep began with.
        """
        return load(self.spec, self.source)

    @cached_property
    def grid(self) -> list[dict[str, Any]] | None:
        """The trials' values, if they are listed."""
        return self.spec.space.grid(self.spec.first.training.seed) if self.spec.sampler == "grid" else None


def load(spec: Spec, source: str) -> Splits:
    """The parts of a sweep's data.

    Raises:
        DataError: if they are not those that it began with.
    """
    config = spec.first
    splits = split(sources.load(source), config.split, config.split_seed or 0)
    if parts_of(splits) != spec.parts:
        raise DataError(f"{source} is not the data that the sweep began with", "give that, or another --name")
    return splits


def parts_of(splits: Splits) -> dict[str, Any]:
    """What tells whether data is the same: the number of images of each part, and their checksum."""
    return {name: {"n": len(part), "sha256": part.sha256()} for name, part in splits.parts().items()}


class _Worker:
    """A process at work."""

    def __init__(self, job: Job, tell: Callable[[Any], None]) -> None:
        self.job, self.tell = job, tell
        self.ledger = Ledger(Database(job.url, tell), job.name)
        self._judged = 0.0

    def work(self) -> Ending:
        """Do trials until there are no more to do."""
        while True:
            standing = self.ledger.standing()
            self.tell(Counts.of(standing))
            if time.monotonic() - self._judged > _JUDGE or self._judged == 0:
                self.ledger.recover(list(standing.running.values()))
                self._judged = time.monotonic()
                standing = self.ledger.standing()
            slot = standing.open(self.job.asked)
            if slot is None and not any(running < self.job.asked for running in standing.running):
                return "done"
            if time.time() >= self.job.until:
                return "time"
            if slot is None:
                time.sleep(_POLL)
            else:
                self.job.spec.check_files(self.job.files)
                if not self._fill(slot, standing):
                    return "away"

    def _fill(self, slot: int, standing: Standing) -> bool:
        """Do the trial of a slot, unless another process does; False if the database is away and the result kept."""
        attempt: FrozenTrial | None = None
        try:
            with on_request() as stop:
                with stop.later():
                    attempt = self.ledger.begin(slot, self._values(slot, standing))
                if attempt is None:
                    return True
                with self.ledger.beating(attempt):
                    outcome = self._outcome(attempt, slot, standing.lost[slot])
                with stop.later():
                    return self._tell_database(outcome)
        except KeyboardInterrupt:
            if attempt is not None:
                self._put_down(attempt)
            raise

    def _values(self, slot: int, standing: Standing) -> dict[str, Any] | None:
        """Those that a slot has to have: its point of a grid, or what an attempt before this one had."""
        if self.job.grid is not None:
            return self.job.grid[slot]
        former = standing.former.get(slot)
        whole = former is not None and set(former.params) == {axis.key for axis in self.job.spec.space.axes}
        return former.params if former is not None and whole else None

    def _outcome(self, attempt: FrozenTrial, slot: int, lost: int) -> Outcome:
        spec = self.job.spec
        trial, values = self.ledger.database.ask(lambda: drawn(self.ledger, attempt, slot, spec))
        reporter = _Reporter(trial)
        try:
            config = spec.config(values)
        except ConfigError as error:
            result = nothing(spec.first, error.message)
        else:
            model = self.job.files.get(config.model, config.model)
            if lost >= MOST_LOST:
                result = nothing(config, f"{lost} processes ended with it")
            else:
                result = score(config, model, self.job.splits, reporter)
        pruned = reporter.ended and result.wrong is None
        value = reporter.last if pruned else result.score
        return Outcome(slot, attempt.user_attrs["token"], pruned, value, values, self._document(result))

    def _document(self, result: Result) -> dict[str, Any]:
        return {**result.document(), "host": platform.node()}

    def _tell_database(self, outcome: Outcome) -> bool:
        try:
            outcome.send(self.ledger, self.job.spec)
        except RunError as error:
            kept = f"is kept in {self.job.folder}"
            try:
                outcome.keep(self.job.folder)
            except OSError as lost:
                kept = f"can't be kept either ({lost.strerror}): it will be made again"
            self.tell(f"{error.message}; the result of trial {outcome.slot} {kept}")
            if not isinstance(error, AwayError):
                raise
            return False
        return True

    def _put_down(self, attempt: FrozenTrial) -> None:
        self.ledger.database.patience = 1.0
        with suppress(AwayError):
            self.ledger.put_down(attempt, "interrupted")


class _Reporter:
    """Tells the study how a trial comes along, and ends it early where the study says so; a silent study is borne.

    Attributes:
        last: what was told last.
        ended: whether the trial was ended early.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self.last: float | None = None
        self.ended = False
        self._trial, self._silent_until = trial, 0.0

    def __call__(self, percent: int, accuracy: float) -> None:
        """Report an accuracy.

        Raises:
            EndedEarlyError: if the trial is not worth going on with.
        """
        if time.monotonic() < self._silent_until:
            return
        try:
            self._trial.report(accuracy, percent)
            self.last = accuracy
            self.ended = self._trial.should_prune()
        except FAILURES:
            self._silent_until = time.monotonic() + databases.BEAT
        except (UpdateFinishedTrialError, KeyError):  # given up meanwhile: its result may still count
            self._silent_until = math.inf
        if self.ended:
            raise EndedEarlyError
