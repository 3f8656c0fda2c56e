"""torchrun, started for a test, and all that it started ended after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
KILONET = ("-m", "kilonet")


class Launch:
    """A torchrun that runs.

    Attributes:
        process: its own process.
        folder: where it runs.
    """

    def __init__(self, words: Sequence[str], folder: Path, before: Sequence[str] = ()) -> None:
        self.folder, (out, err) = folder, _logs(folder)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with out.open("w") as to, err.open("w") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "torch.distributed.run", *words],
                cwd=folder, env=environment, stdout=to, stderr=errors,
            )  # fmt: skip
        self.out, self.err = out, err

    def ranks(self) -> dict[int, int]:
        """The processes of the ranks that run here, by their number."""
        found: dict[int, int] = {}
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                number = next((int(word[5:]) for word in told if word.startswith(b"RANK=")), None)
                if number is not None:
                    found.setdefault(number, pid)
        return found

    def until(self, there: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is so, while it runs."""
        end = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"not so after {seconds} s\n{self.said()}"
            time.sleep(0.02)

    def wait(self, seconds: float = 120) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """What it and its ranks wrote to standard error, torchrun's own lines aside."""
        return "\n".join(line for line in self.err.read_text().splitlines() if not _own(line))

    def errors(self) -> list[str]:
        """The lines of errors that its ranks wrote."""
        return [line for line in self.said().splitlines() if line.startswith("error: ")]


def _logs(folder: Path) -> tuple[Path, Path]:
    number = len(list(folder.glob("*.out")))
    return folder / f"{number}.out", folder / f"{number}.err"


def _own(line: str) -> bool:
    return "torch/distributed" in line or line.startswith(("W1", "E1", "W0", "E0"))


def descendants(pid: int) -> list[int]:
    """The processes that one has started, and those have."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(further for child in children for further in descendants(child))]


@contextmanager
def launched(*words: str, folder: Path, before: Sequence[str] = ()) -> Iterator[Launch]:
    """torchrun with some words; whatever it started is gone afterwards."""
    launch = Launch(words, folder, before)
    try:
        yield launch
    finally:
        for pid in [*descendants(launch.process.pid), launch.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        launch.process.wait(10)


def on_this_host(ranks: int, *words: str, restarts: int = 0) -> tuple[str, ...]:
    """Words for so many ranks here, on a free port."""
    return ("--standalone", "--nproc-per-node", str(ranks), "--max-restarts", str(restarts), *words)


def finished(ranks: int, *words: str, folder: Path, seconds: float = 120) -> Launch:
    """torchrun with some words, run to its end."""
    with launched(*on_this_host(ranks, *words), folder=folder) as launch:
        launch.wait(seconds)
    return launch
