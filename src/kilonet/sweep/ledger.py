"""Which trials there are, how they stand, and who does them: an Optuna study whose trials fill numbered slots.

A slot is one trial that was asked for, and is done once. A trial of the study is an attempt at a slot, and says so from
the transaction that makes it; the study numbers them in that order. Of the attempts at a slot that live, the one of the
smallest number goes on, and any other ends itself as soon as it has looked; one that has ended as lost never comes
back. So a slot is done by one attempt, however many processes try, and whichever of them are killed.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text

from kilonet.errors import RunError
from kilonet.sweep import database as databases
from kilonet.sweep.database import FAILURES, Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_LIVE = (*DONE, TrialState.RUNNING)


@dataclass
class Standing:
    """How the slots of a sweep stand.

    Attributes:
        done: the attempt that did each slot that is done.
        running: the attempt that works on each of those that are being done.
        lost: how many attempts at each slot ended with their process, machines that fell silent aside.
        former: the last attempt at each of those that are open again.
    """

    done: dict[int, FrozenTrial] = field(default_factory=dict)
    running: dict[int, FrozenTrial] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    former: dict[int, FrozenTrial] = field(default_factory=dict)

    def open(self, asked: int) -> int | None:
        """The first slot that nobody works on."""
        return next((slot for slot in range(asked) if slot not in self.done and slot not in self.running), None)

    def best(self) -> FrozenTrial | None:
        """The attempt with the highest score, then the lower loss, then the smaller slot; none that went wrong."""
        ended = [
            t for t in self.done.values() if t.state is TrialState.COMPLETE and not t.user_attrs["result"]["wrong"]
        ]
        return max(ended, key=lambda t: (t.value, -t.user_attrs["result"]["loss"], -slot_of(t)), default=None)


def slot_of(trial: FrozenTrial) -> int:
    """The slot that a trial of the study is an attempt at."""
    return int(trial.user_attrs["slot"])


def identifier(trial: FrozenTrial) -> int:
    """What the database calls a trial."""
    return trial._trial_id


class Ledger:
    """The attempts of one study.

    Args:
        database: that it is in.
        name: of the study, which is made if it is not there.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.name = database, name
        self.study = database.ask(self._opened)
        self._id = database.ask(lambda: database.rdb.get_study_id_from_name(name))

    def _opened(self) -> optuna.Study:
        with suppress(DuplicatedStudyError):
            return optuna.create_study(study_name=self.name, storage=self.database.rdb, direction="maximize")
        return optuna.load_study(study_name=self.name, storage=self.database.rdb)

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, in the order of their numbers."""
        try:
            return self.database.ask(lambda: self.study.get_trials(deepcopy=False))
        except KeyError:
            raise RunError(f"the sweep {self.name} is no longer in {self.database.shown}") from None

    def standing(self) -> Standing:
        """How the slots stand now."""
        found = Standing()
        for trial in self.trials():
            if "slot" not in trial.user_attrs:
                continue
            slot = slot_of(trial)
            if trial.state in DONE:
                found.done[slot] = trial
            elif trial.state is TrialState.RUNNING:
                found.running.setdefault(slot, trial)
            else:
                found.lost[slot] += "died" in trial.user_attrs
                found.former[slot] = trial
        return found

    def note(self, what: dict[str, Any]) -> dict[str, Any]:
        """Leave something in the study that its first note decides; gives the first note."""
        first = self._first_note()
        if first is None:
            noted = create_trial(state=TrialState.FAIL, user_attrs={"note": what})
            self.database.ask(lambda: self.database.rdb.create_new_trial(self._id, noted))
            first = self._first_note()
        return first or what

    @classmethod
    def peek(cls, database: Database, name: str) -> dict[str, Any] | None:
        """The first note in a study; None if there is no such study, or no note."""
        try:
            database.ask(lambda: database.rdb.get_study_id_from_name(name))
        except KeyError:
            return None
        return cls(database, name)._first_note()

    def _first_note(self) -> dict[str, Any] | None:
        notes = [trial.user_attrs["note"] for trial in self.trials() if "note" in trial.user_attrs]
        return notes[0] if notes else None

    def begin(self, slot: int, values: dict[str, Any] | None = None) -> FrozenTrial | None:
        """An attempt at a slot, or None if another process has one.

        Args:
            slot: that is open.
            values: of the trial's settings, where they are not to be drawn.
        """
        token = uuid.uuid4().hex
        attrs = {
            "slot": slot,
            "token": token,
            "machine": MACHINE,
            "process": _process(os.getpid()),
            "host": platform.node(),
        }
        fixed = {} if values is None else {"fixed_params": values}
        wanted = create_trial(state=TrialState.RUNNING, user_attrs=attrs, system_attrs=fixed)
        self.database.ask(lambda: self.database.rdb.create_new_trial(self._id, wanted))
        live = [t for t in self.trials() if t.state in _LIVE and t.user_attrs.get("slot") == slot]
        ours = [t for t in live if t.user_attrs.get("token") == token]  # two where a first answer was lost
        chosen = ours[0] if ours and ours[0] is live[0] else None
        for trial in ours:
            if trial is not chosen:
                self.put_down(trial, "another process was first")
        if chosen is not None:
            self.database.ask(lambda: self.database.rdb.record_heartbeat(identifier(chosen)))
        return chosen

    def put_down(self, trial: FrozenTrial, why: str) -> None:
        """End an attempt that came to nothing; its slot is open again."""
        rdb, number = self.database.rdb, identifier(trial)
        with suppress(UpdateFinishedTrialError):
            self.database.ask(lambda: rdb.set_trial_user_attr(number, "why", why))
            self.database.ask(lambda: rdb.set_trial_state_values(number, TrialState.FAIL))

    def finish(self, number: int, state: TrialState, value: float | None, result: dict[str, Any]) -> bool:
        """Write what came of an attempt; False if it was given up as lost meanwhile.

        Args:
            number: its identifier.
            state: complete or pruned.
            value: its score.
            result: all about it, fit for JSON.
        """
        rdb, values = self.database.rdb, None if value is None else [value]
        try:
            self.database.ask(lambda: rdb.set_trial_user_attr(number, "result", result))
            self.database.ask(lambda: rdb.set_trial_state_values(number, state, values))
        except UpdateFinishedTrialError:  # this one's own doing, if the answer to it was lost
            return self.database.ask(lambda: rdb.get_trial(number)).state in DONE
        return True

    @contextmanager
    def beating(self, trial: FrozenTrial) -> Iterator[None]:
        """Give signs of life of an attempt while something runs."""
        ended, rdb = threading.Event(), self.database.rdb

        def beat() -> None:
            while not ended.wait(databases.BEAT):
                with suppress(*FAILURES):
                    rdb.record_heartbeat(identifier(trial))
            rdb.remove_session()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(1)

    def recover(self, running: Sequence[FrozenTrial]) -> None:
        """Give up the attempts whose process is gone: here at once, elsewhere when they gave no sign of life for long.

        Nobody is judged by a process that has not seen the database there for as long: all might have been silent.
        """
        for trial in running:
            process, number = str(trial.user_attrs["process"]), identifier(trial)
            if trial.user_attrs["machine"] == MACHINE and _process(int(process.partition("/")[0])) != process:
                with suppress(UpdateFinishedTrialError):
                    self.database.ask(partial(self.database.rdb.set_trial_user_attr, number, "died", True))
                    self.database.ask(partial(self.database.rdb.set_trial_state_values, number, TrialState.FAIL))
        if running and time.monotonic() - self.database.steady > databases.GRACE:
            self.database.ask(self._lose_silent)

    def _lose_silent(self) -> None:
        """An attempt that was killed before its first sign of life gets one from here, so that it has its time, too."""
        never = text(
            "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING' "
            "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
        )
        with self.database.rdb.engine.connect() as connection:
            silent = [row[0] for row in connection.execute(never, {"study": self._id})]
        for number in silent:
            self.database.rdb.record_heartbeat(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is called experimental
            optuna.storages.fail_stale_trials(self.study)


def _machine() -> str:
    """What tells this machine, and the room on it that process numbers hold in, from any other."""
    told = [platform.node(), f"{uuid.getnode():x}"]
    with suppress(OSError):
        told = [platform.node(), Path("/proc/sys/kernel/random/boot_id").read_text().strip()]
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(told)


MACHINE = _machine()


def _process(number: int) -> str | None:
    """What tells a process from any other here, those that had its number before included; None if it is gone."""
    try:
        state, *told = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return str(number) if _takes_signals(number) else None
    return None if state in "ZX" else f"{number}/{told[18]}"


def _takes_signals(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
