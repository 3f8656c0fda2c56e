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
    for name in ("state/checkpoint", "state/previous", "weights/best", "weights/last"):
        path = run.path / f"{name}.safetensors"
        if path.exists() and f"{name}.safetensors" not in run.damaged():
            try:
                checkpoint.read(path)
            except KilonetError as error:
                found.append(_finding(error.message, mend))
    try:
        run.untouched_config()
    except KilonetError as error:
        found.append(_finding(error.message, error.hint or "train anew"))
    return found


def _finding(what: str, advice: str) -> Finding:
    return Finding("damaged-file", what, "what it says or would give can't be relied on", advice)
