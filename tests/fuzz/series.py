"""Many readings in a process of their own, which may die of them, and what they came to."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import pickle
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
from hypothesis import HealthCheck, Phase

from fuzz.guard import Guard, Verdict
from fuzz.readers import READERS, Files, place
from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

    from hypothesis.strategies import SearchStrategy

PATIENCE = 20.0
"""Seconds without a word from the process after which it counts as hung, and is killed."""
START = 120.0
"""Seconds that the process may take to its first word."""
BATCH = 200
"""Inputs that Hypothesis draws at a time."""
KEPT = 200
"""Failing inputs that are kept of each reader."""


@dataclass
class Tally:
    """What the readings of one reader came to.

    Attributes:
        kinds: how many readings came to each kind of verdict.
        slowest: seconds of the slowest reading.
        peak: the greatest memory that a reading took, in bytes.
        failures: what went wrong, and which folder its input is kept in.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0
    failures: list[tuple[str, Path]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return self.kinds.total()


def run(counts: dict[str, int], seed: int, keep: Path) -> dict[str, Tally]:
    """Read so many damaged inputs with each reader, no two alike, and none without damage.

    Args:
        counts: the number of inputs of each reader.
        seed: decides what is drawn.
        keep: a folder for failing inputs: a folder each, with the `input` and what went wrong in `failure.txt`.
    """
    tallies = {name: Tally() for name in counts}
    lives = 0
    while left := {name: n - tallies[name].inputs for name, n in counts.items() if tallies[name].inputs < n}:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
            _one_life(left, f"{seed}/{lives}", Path(home), tallies, keep)
        lives += 1
    return tallies


def _one_life(left: dict[str, int], seed: str, home: Path, tallies: dict[str, Tally], keep: Path) -> None:
    """A process that reads all that is left to be read, or dies of an input, which is a failure as well."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, left, seed, home), daemon=True)
    process.start()
    theirs.close()
    name, reason = "", f"nothing heard for {PATIENCE:g} s"
    try:
        while ours.poll(PATIENCE if name else START):
            said = ours.recv()
            if said is None:
                return
            if isinstance(said, str):
                raise RuntimeError(f"the harness itself failed:\n{said}")
            name, verdict, files = said
            _record(tallies[name], verdict, files, keep / name)
    except EOFError:
        process.join()
        reason = f"the process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    if not name:
        raise RuntimeError(f"the process that reads came to no input: {reason}")
    files = pickle.loads((home / "last").read_bytes())
    _record(tallies[name], Verdict("dead", PATIENCE, 0, reason), files, keep / name)


def _record(tally: Tally, verdict: Verdict, files: Files, keep: Path) -> None:
    tally.kinds[verdict.kind] += 1
    tally.slowest, tally.peak = max(tally.slowest, verdict.seconds), max(tally.peak, verdict.peak)
    if verdict.failed:
        target = keep / f"{len(tally.failures):04}"
        tally.failures.append((f"{verdict.kind}\n{verdict.detail}", target))
        if len(tally.failures) <= KEPT:
            shutil.rmtree(target, ignore_errors=True)
            place(files, target / "input")
            (target / "failure.txt").write_text(f"{verdict.kind}\n{verdict.detail}", errors="backslashreplace")


def _work(parent: Connection, left: dict[str, int], seed: str, home: Path) -> None:
    """What the process does: warm up, take on the limits, then read and say what each reading came to."""
    try:
        bench = Bench(home)
        bench.warm_up(left)
        for name, count in left.items():
            for files in distinct(name, count, seed):
                (home / "last").write_bytes(pickle.dumps(files))
                verdict = bench.judge(name, files)
                parent.send((name, verdict, files if verdict.failed else None))
        parent.send(None)
    except Exception:
        parent.send(traceback.format_exc())


class Bench:
    """A process that reads inputs under guard, in folders of its own.

    Args:
        home: the folder around them all.
    """

    def __init__(self, home: Path) -> None:
        from fuzz import openml

        self.input, self.caches = home / "input", home / "caches"
        for folder in (self.input, self.caches, home / "temporary"):
            folder.mkdir(parents=True)
        os.environ |= {"XDG_CACHE_HOME": str(self.caches), "SCIKIT_LEARN_DATA": str(home / "none"), "HOME": str(home)}
        tempfile.tempdir = str(home / "temporary")
        os.chdir(self.input)
        self.guard = Guard([self.input, self.caches, home / "temporary"], openml.port())

    def warm_up(self, names: Iterable[str]) -> None:
        """Read each valid input once, which has to go well, and take on the limit of memory.

        Raises:
            RuntimeError: if a valid input is not read.
        """
        for name in names:
            for files in READERS[name].valid():
                try:
                    right = READERS[name].check(self._read(name, files)())
                except Exception as error:
                    raise RuntimeError(f"{name} does not read a valid input, {list(files)}") from error
                if not right:
                    raise RuntimeError(f"{name} reads a valid input, {list(files)}, wrongly")
            with contextlib.suppress(KilonetError):
                self._read(name, dict.fromkeys(READERS[name].valid()[0], b"junk"))()
        self.guard.limit_memory()

    def judge(self, name: str, files: Files) -> Verdict:
        """The verdict on one reading; a slow one is repeated, since the machine may have been busy."""
        verdict = self.guard.judge(self._read(name, files), READERS[name].check)
        if verdict.kind != "slow":
            return verdict
        again = self.guard.judge(self._read(name, files), READERS[name].check)
        return replace(again, seconds=max(verdict.seconds, again.seconds))

    def _read(self, name: str, files: Files) -> Callable[[], object]:
        """How to read an input that is laid out afresh, with nothing in the caches: what was decoded before is gone."""
        os.chdir(self.input.parent)
        for folder in (self.input, self.caches):
            shutil.rmtree(folder)
            folder.mkdir()
        os.chdir(self.input)
        place(files, self.input)
        return functools.partial(READERS[name].read, self.input)


def distinct(name: str, count: int, seed: str) -> Iterator[Files]:
    """So many damaged inputs for a reader, no two alike, none of them valid."""
    seen = {_digest(files) for files in READERS[name].valid()}
    batch = 0
    while count:
        for files in draw(READERS[name].inputs, BATCH, f"{seed}/{name}/{batch}"):
            if count and (digest := _digest(files)) not in seen:
                seen.add(digest)
                count -= 1
                yield files
        batch += 1


def draw(inputs: SearchStrategy[Files], count: int, seed: str) -> list[Files]:
    """So many inputs, as Hypothesis draws them with a seed."""
    drawn: list[Files] = []

    @hypothesis.seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]))
    @hypothesis.settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None, derandomize=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(inputs)
    def collect(files: Files) -> None:
        drawn.append(files)

    collect()
    return drawn


def _digest(files: Files) -> bytes:
    return hashlib.sha256(repr(sorted(files.items())).encode()).digest()
