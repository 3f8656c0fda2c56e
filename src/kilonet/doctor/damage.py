"""A run's files: which of them are not as they were written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonet import checkpoint
from kilonet.doctor.finding import Finding
from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from kilonet.rundir import Run


def examine(run: Run) -> list[Finding]:
    """What is damaged of a run, found by checksums; weights and checkpoints carry their own."""
    mend = f"kilonet resume {run.path} makes it again"
    found = [_finding(f"{run.path / name} is damaged or gone", mend) for name in run.damaged()]
    for name in ("weights/best.safetensors", "weights/last.safetensors", "weights/committee.safetensors"):
        path = run.path / name
        if path.exists() and name not in run.damaged():
            try:
                checkpoint.read(path)
            except KilonetError as error:
                found.append(_finding(error.message, mend))
    identity, of_members = None, False
    try:
        identity, of_members = run.identity(), run.config.committee > 1
    except KilonetError as error:
        found.append(_finding(error.message, error.hint or "train anew"))
    return found if of_members else [*found, *_checkpoints(run, identity)]


def _checkpoints(run: Run, identity: str | None) -> list[Finding]:
    """What is wrong with the checkpoints; whose they are is looked at where the run's identity is known."""
    found = []
    without = "put it back; where resume needs a checkpoint and has none, it starts again from config.toml"
    for name in ("checkpoint", "previous"):
        path = run.path / "state" / f"{name}.safetensors"
        if not path.exists():
            if name == "checkpoint" and run.finished():
                found.append(_finding(f"{path} is gone", without))
            continue
        try:
            figures, _ = checkpoint.read(path)
            if identity is not None and figures.get("run", "") != identity:
                found.append(_finding(f"{path} is a checkpoint of another run than config.toml", without))
        except KilonetError as error:
            found.append(_finding(error.message, without))
    return found


def _finding(what: str, advice: str) -> Finding:
    return Finding("damaged-file", what, "what it says or would give can't be relied on", advice)
