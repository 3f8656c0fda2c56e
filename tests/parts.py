"""Parts of some work for the tests of `kilonet.beside`: a process that does them has little to import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from kilonet.errors import KilonetError


def refused(number: int, tell: Any) -> int:
    tell(number)
    if number == 2:
        raise KilonetError("number 2 won't do", "leave it out")
    time.sleep(0 if number == 0 else 30)
    return number


def doubled(plus: int, number: int, _: Any) -> int:
    return plus + 2 * number


def dying(folder: Path, number: int, tell: Any) -> tuple[int, int]:
    """Dies the first time for number 1, every time for number 2; else gives the number and its process."""
    tell("begun")
    first = not (folder / f"{number}").exists()
    (folder / f"{number}").touch()
    if number == 2 or (number == 1 and first):
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


class Unstartable:
    """A part that can't be unpacked: its processes die before they begin."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)

    def __call__(self, number: int, _: Any) -> int:
        return number


def sleeper(number: int, tell: Any) -> int:
    tell(os.getpid())
    time.sleep(60 if number else 0.1)
    return number


class Counting:
    """A part that counts what its process has done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, _: int, __: Any) -> int:
        self.done += 1
        return self.done
