"""Work on numbered parts side by side, each worker a process of its own that takes one part after another."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from contextlib import suppress
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


class _Worker:
    """A process, and the part that it works on."""

    def __init__(self, part: Part) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(part, theirs))
        self.process.start()
        theirs.close()
        self.number = -1

    def begin(self, number: int) -> None:
        self.number = number
        with suppress(BrokenPipeError):  # a dead one is noticed when it is listened to
            self.connection.send(number)


def side_by_side(
    part: Part, numbers: Sequence[int], workers: int, tell: Callable[[int, Any], None], hint: str
) -> list[Any]:
    """Do each numbered part of some work, so many at once.

    Args:
        part: given a number and what to tell of its progress, does it; it is pickled, and so is all that it tells.
        numbers: of the parts.
        workers: processes, at least 1.
        tell: told a number and what its part tells.
        hint: what to do where a process was killed.

    Returns:
        What each part gave, in the order of the numbers.

    Raises:
        RunError: if a process died, or a part raised a `KilonetError`, whose words it has; the others are put down
            first.
        KeyboardInterrupt: likewise, after Ctrl-C.
    """
    left, found = deque(numbers), dict[int, Any]()
    team: list[_Worker] = []
    try:
        for _ in range(min(workers, len(left))):
            team.append(_Worker(part))
            team[-1].begin(left.popleft())
        busy = list(team)
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                kind, value = _heard(worker, hint)
                if kind == "told":
                    tell(worker.number, value)
                elif kind == "refused":
                    raise RunError(*value)
                else:
                    found[worker.number] = value
                    if left:
                        worker.begin(left.popleft())
                    else:
                        busy.remove(worker)
    finally:
        _dismiss(team)
    return [found[number] for number in numbers]


def _heard(worker: _Worker, hint: str) -> tuple[str, Any]:
    try:
        heard: tuple[str, Any] = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        code = worker.process.exitcode
        raise RunError(f"the process that worked on number {worker.number} died, exit status {code}", hint) from None
    return heard


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
