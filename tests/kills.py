"""Kill a small run just before each of its file operations, resume it, and compare: `python kills.py FOLDER EVERY`.

Prints, as JSON, how many operations there are, how many kills were made, and which of these led to another result.
Everything is imported once; each run is a fork that has computed nothing before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kilonet as kn
from kilonet import checkpoint, run
from kilonet.config import Config, Training
from kilonet.engines import native
from kilonet.rundir import Run

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}
CONFIG = Config(
    source="digits",
    model="linear",
    save_every=0,
    training=Training(epochs=2, batch_size=512, threads=1, optimizer="sgd", momentum=0.9),
)


def forked(work: Callable[[], None]) -> int:
    """Do some work in a child; its wait status."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def train(project: Path, kill_at: int) -> None:
    """A run, killed just before one of its operations in the project; it leaves their number if it gets through."""
    project.mkdir()
    count = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in EVENTS and str(arguments[0]).startswith(str(project)) and _writes(event, arguments):
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    made = run.plan(CONFIG)
    sys.addaudithook(audit)
    run.finish(run.start(made, project), made)
    (project.parent / "operations").write_text(str(count))


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def go_on(project: Path) -> None:
    """Resume the killed run, or train it if it had not come into being."""
    if (project / "train").exists():
        kn.resume(project / "train")
    else:
        made = run.plan(CONFIG)
        run.finish(run.start(made, project), made)


def results(found: Run) -> dict[str, Any]:
    """All files of a run, times aside."""
    files = {str(p.relative_to(found.path)): p.read_bytes() for p in found.path.rglob("*") if p.is_file()}
    for name in ("state/checkpoint.safetensors", "state/previous.safetensors", "state/finished.json"):
        files.pop(name, None)
    figures, tensors = checkpoint.read(found.path / "state" / "checkpoint.safetensors")
    state = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    epochs = [replace(record, seconds=0) for record in found.history().epochs]
    return {**files, **state, "results.csv": epochs, "metrics.json": {**found.metrics(), "seconds": 0},
            "position": [figures[name] for name in ("epoch", "step", "loss_sum")]}  # fmt: skip


def main(folder: Path, every: int) -> None:
    native.SECONDS_A_CALL = 0
    assert forked(lambda: train(folder / "whole", -1)) == 0
    expected = results(Run(folder / "whole" / "train"))
    operations = int((folder / "operations").read_text())
    different, killed = [], 0
    for at in range(0, operations, every):
        project = folder / f"killed{at}"
        killed += forked(lambda: train(project, at)) == signal.SIGKILL  # noqa: B023
        if forked(lambda: go_on(project)) or results(Run(project / "train")) != expected:  # noqa: B023
            different.append(at)
    print(json.dumps({"operations": operations, "killed": killed, "different": different}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
