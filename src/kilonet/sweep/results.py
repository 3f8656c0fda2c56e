"""What came of a sweep's trials: rows, a CSV file, and what the pictures are drawn from."""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import optuna

from kilonet import files
from kilonet.sweep.sampling import distribution

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial

    from kilonet.sweep.ledger import Standing
    from kilonet.sweep.spec import Spec

State = Literal["complete", "ended early", "went wrong"]


@dataclass(frozen=True)
class Trial:
    """A trial that is done.

    Attributes:
        number: from 0, without a gap where all are done.
        state: `complete`; `ended early`, its accuracy being the mean of the best so far; or `went wrong`.
        values: of the axes.
        accuracy: mean over the seeds on the validation images, 0 to 1.
        std: standard deviation over the seeds; None with one.
        loss: mean over the seeds, in nats.
        parameters: of the net.
        epochs: of each training.
        seconds: that all its trainings took.
        host: where.
        wrong: what went wrong, if something did.
    """

    number: int
    state: State
    values: dict[str, Any]
    accuracy: float
    std: float | None
    loss: float
    parameters: int
    epochs: int
    seconds: float
    host: str
    wrong: str | None


def trials(standing: Standing) -> list[Trial]:
    """The trials that are done, by number."""
    return [_trial(slot, standing.done[slot]) for slot in sorted(standing.done)]


def _trial(number: int, trial: FrozenTrial) -> Trial:
    told = trial.user_attrs["result"]
    state: State = "complete" if trial.state is optuna.trial.TrialState.COMPLETE else "ended early"
    kept = {key: told[key] for key in ("std", "loss", "parameters", "epochs", "seconds", "host", "wrong")}
    state = "went wrong" if told["wrong"] is not None else state
    return Trial(number, state, dict(trial.params), trial.value or 0.0, **kept)


def ranked(found: list[Trial]) -> list[Trial]:
    """The complete ones, the winner first: the highest accuracy, then the lower loss, then the smaller number."""
    complete = [trial for trial in found if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-trial.accuracy, trial.loss, trial.number))


def to_csv(found: list[Trial], spec: Spec) -> str:
    """A row a trial."""
    keys = [axis.key for axis in spec.space.axes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    told = ("accuracy", "std", "loss", "parameters", "epochs", "seconds", "host", "wrong")
    figures = [
        "val_accuracy",
        "val_accuracy_std",
        "val_loss",
        "parameters",
        "epochs_trained",
        "seconds",
        "host",
        "wrong",
    ]
    writer.writerow(["trial", "state", *keys, *figures])
    for trial in found:
        values = [trial.values.get(key) for key in keys]
        row = [trial.number, trial.state, *values, *(getattr(trial, name) for name in told)]
        writer.writerow([_plain(cell) for cell in row])
    return text.getvalue()


def _plain(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: texts come from other machines."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell


def importances(found: list[Trial], spec: Spec) -> dict[str, float]:
    """The share of each axis in how far apart the scores are: PED-ANOVA (Watanabe et al. 2023) on the complete trials.

    Empty where there is nothing to tell apart: fewer than two axes that vary, or fewer than ten trials.
    """
    axes = [axis for axis in spec.space.axes if len(axis.ends) > 1]
    complete = ranked(found)
    if len(axes) < 2 or len(complete) < 10 or len({trial.accuracy for trial in complete}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of it is called experimental
        study = optuna.create_study(direction="maximize")
        for trial in complete:
            study.add_trial(
                optuna.create_trial(
                    params={axis.key: trial.values[axis.key] for axis in axes},
                    distributions={axis.key: distribution(axis) for axis in axes},
                    value=trial.accuracy,
                )
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def write(path: Path, found: list[Trial], spec: Spec) -> None:
    """Write `trials.csv` into a sweep's folder.

    Raises:
        OSError: if that can't be.
    """
    files.write(path / "trials.csv", to_csv(found, spec))
