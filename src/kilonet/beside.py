"""Work on numbered parts side by side, each worker a process of its own that takes one part after another."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from kilonet.errors import Interrupted, KilonetError, RunError
from kilonet.stopping import on_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess

    Tell = Callable[[Any], None]
    Part = Callable[[int, Tell], Any]

PATIENCE = 60.0
"""Seconds that a worker has to put its work down in, before it is killed."""


@dataclass(frozen=True)
class Died:
    """What came of a part whose process died, and died again when it was begun anew.

    Attributes:
        exitcode: the exit status of the last one; below 0 the signal that killed it.
    """

    exitcode: int

    def __str__(self) -> str:
        if self.exitcode >= 0:
            return f"its process ended with exit status {self.exitcode}"
        why = ", as happens where memory runs out" if self.exitcode == -signal.SIGKILL else ""
        names = {number.value: number.name for number in signal.Signals}
        return f"its process was killed by {names.get(-self.exitcode, f'signal {-self.exitcode}')}{why}"


class _Worker:
    """A process, and the number of the part that it works on; None where it has none."""

    number: int | None

    def __init__(self, part: Part, number: int) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(part, theirs))
        try:
            self.process.start()
        except OSError as error:
            self.connection.close()
            raise RunError(f"can't start a process: {error.strerror}", "free some memory, then go on") from None
        finally:
            theirs.close()
        self.begin(number)

    def begin(self, number: int) -> None:
        self.number = number
        with suppress(BrokenPipeError):  # a dead one is noticed when it is listened to
            self.connection.send(number)

    def heard(self) -> tuple[str, Any]:
        """The kind of a message, and what it says: `told`, `refused` or `done`; or `died`, once the process has."""
        try:
            heard: tuple[str, Any] = self.connection.recv()
        except (EOFError, OSError):  # an OSError where it died in the middle of a message
            self.connection.close()
            self.process.join(PATIENCE)
            self.process.kill()
            self.process.join()
            return "died", Died(self.process.exitcode or 0)
        return heard


def side_by_side(
    part: Part,
    numbers: Sequence[int],
    workers: int,
    tell: Callable[[int, Any], None],
    retries: int = 1,
    died: Callable[[int, Died], None] = lambda _, __: None,
) -> list[Any]:
    """Do each numbered part of some work, so many at once.

    Args:
        part: given a number and what to tell of its progress, does it; it is pickled, and so is all that it tells.
            A worker uses its one copy for all the parts that it does, so what that keeps is there for the next.
        numbers: of the parts.
        workers: processes, at least 1.
        tell: told a number and what its part tells.
        retries: how often a part whose process died is begun again, in a new one.
        died: told a number and how its process died, each time.

    Returns:
        What each part gave, in the order of the numbers; `Died` for one whose process died each time. The others go
        on.

    Raises:
        RunError: if a part raised a `KilonetError`, whose words it has, or no process can be started; the others are
            put down first.
        KeyboardInterrupt: likewise, after Ctrl-C.
    """
    left, found, deaths = deque(numbers), dict[int, Any](), Counter[int]()
    team: list[_Worker] = []
    try:
        while left or _busy(team):
            while left and len(team) < workers:
                team.append(_Worker(part, left.popleft()))
            for worker, number, kind, value in _heard(_busy(team)):
                if kind == "told":
                    tell(number, value)
                elif kind == "refused":
                    raise RunError(*value)
                elif kind == "done":
                    found[number] = value
                    worker.number = None
                    if left:
                        worker.begin(left.popleft())
                else:
                    team.remove(worker)
                    deaths[number] += 1
                    died(number, value)
                    if deaths[number] <= retries:
                        team.append(_Worker(part, number))
                    else:
                        found[number] = value
    finally:
        _dismiss(team)
    return [found[number] for number in numbers]


def _busy(team: list[_Worker]) -> list[_Worker]:
    return [worker for worker in team if worker.number is not None]


def _heard(busy: list[_Worker]) -> list[tuple[_Worker, int, str, Any]]:
    """A message of each worker that has one: who sent it, the number it is about, its kind and what it says."""
    ready = wait([worker.connection for worker in busy])
    heard = [worker for worker in busy if worker.connection in ready]
    return [(worker, worker.number, *worker.heard()) for worker in heard if worker.number is not None]


def _dismiss(team: list[_Worker]) -> None:
    """Have all put their work down, and wait until they have."""
    try:
        for worker in team:
            worker.process.terminate()
        for worker in team:
            worker.process.join(PATIENCE)
    finally:
        for worker in team:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _serve(part: Part, connection: Connection) -> None:
    """What a worker does: parts as they are given, until it is dismissed or whoever gives them is gone."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the parent, which passes it on
    threading.Thread(target=_follow, daemon=True).start()
    try:
        with on_request():
            while True:
                number = connection.recv()
                try:
                    connection.send(("done", part(number, partial(_tell, connection))))
                except KilonetError as error:
                    connection.send(("refused", (error.message, error.hint)))
    except (Interrupted, EOFError, BrokenPipeError, ConnectionResetError):
        pass


def _tell(connection: Connection, value: Any) -> None:
    """Where the parent is gone nobody listens; `_follow` ends the work then, once it has been saved."""
    with suppress(BrokenPipeError):
        connection.send(("told", value))


def _follow() -> None:
    """End as Ctrl-C would end it when the parent is gone."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
