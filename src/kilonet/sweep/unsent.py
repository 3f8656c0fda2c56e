"""Results that the database could not be told, kept as files until it can."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from kilonet import files
from kilonet.sweep.ledger import identifier
from kilonet.sweep.sampling import drawn

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.sweep.ledger import Ledger
    from kilonet.sweep.spec import Spec


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        slot: that it was at.
        token: of the attempt.
        pruned: whether it was ended early.
        score: of it; None if it was ended before there was one.
        values: of its settings.
        result: all about it.
    """

    slot: int
    token: str
    pruned: bool
    score: float | None
    values: dict[str, Any]
    result: dict[str, Any]

    def send(self, ledger: Ledger, spec: Spec) -> bool:
        """Tell the database; False if the slot was done, or is being done, by another attempt meanwhile."""
        state = TrialState.PRUNED if self.pruned else TrialState.COMPLETE
        ours = next((trial for trial in ledger.trials() if trial.user_attrs.get("token") == self.token), None)
        if ours is not None and ledger.finish(identifier(ours), state, self.score, self.result):
            return True
        standing = ledger.standing()
        if self.slot in standing.done or self.slot in standing.running:
            return False
        if (again := ledger.begin(self.slot, self.values)) is None:
            return False
        drawn(ledger, again, self.slot, spec)
        return ledger.finish(identifier(again), state, self.score, self.result)

    def keep(self, folder: Path) -> None:
        """Write it to a file.

        Raises:
            OSError: if that can't be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / f"{self.token}.json", json.dumps(vars(self)) + "\n")


def send_all(folder: Path, ledger: Ledger, spec: Spec) -> tuple[int, int]:
    """Tell the database what was kept, and remove the files; how many results it took, and how many came too late."""
    sent = late = 0
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            found = Outcome(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        took = found.send(ledger, spec)
        sent, late = sent + took, late + (not took)
        path.unlink(missing_ok=True)
    return sent, late
