"""`kilonet sweep` as processes that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.sweep.database import Database
from kilonet.sweep.ledger import DONE, Ledger, slot_of

WORDS = (
    "sweep", "digits", "--model", "linear", "--epochs", "60", "--set", "lr=1e-4..1e-1:log", "--set",
    "batch-size=16,32,64", "--name", "s",
)  # fmt: skip

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Command:
    """A command at work, what it says kept in files."""

    def __init__(self, folder: Path, *words: str, before: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            command = [*before, sys.executable, "-m", "kilonet", *words]
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()

    def workers(self) -> list[int]:
        """The processes that it started, for its work."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"spawn_main" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def ended(self, seconds: float = 240) -> int:
        return self.process.wait(seconds)


@contextmanager
def running(folder: Path, *words: str, before: tuple[str, ...] = ()) -> Iterator[Command]:
    """A command that is over afterwards, with all that it started."""
    command = Command(folder, *words, before=before)
    try:
        yield command
    finally:
        workers = command.workers()
        command.process.kill()
        command.process.wait()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def until(holds: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def trials(url: str) -> list[FrozenTrial]:
    return Ledger(Database(url), "s").trials()


def finished(url: str) -> Counter[int]:
    """How often each slot was done."""
    return Counter(slot_of(trial) for trial in trials(url) if trial.state in DONE)


def repeated(url: str) -> list[int]:
    """The slots that were begun again, other than where two began at once and one went on."""
    lost = [trial for trial in trials(url) if "slot" in trial.user_attrs and trial.state not in DONE]
    return [slot_of(trial) for trial in lost if trial.user_attrs.get("why") != "another process was first"]
