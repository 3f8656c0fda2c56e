"""One trial: a config trained with each of its seeds, and scored on validation images; the test part is not touched."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from kilonet import engines
from kilonet.config import measured_weights
from kilonet.errors import KilonetError
from kilonet.history import History
from kilonet.models import build
from kilonet.train import epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.config import Config
    from kilonet.images import Splits

_STEP = 10
"""Percent of a trial's training between two reports."""


class EndedEarlyError(Exception):
    """A trial that is not worth going on with."""


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        accuracies: on the validation images, a share a seed; those so far, if it was ended early or went wrong.
        loss: mean over the seeds of the cross-entropy on them, in nats; 0 without any.
        parameters: of the net.
        epochs: of each training.
        seeds: that were asked for.
        seconds: that all trainings took.
        engine: what computed.
        wrong: what went wrong, if something did.
    """

    accuracies: list[float]
    loss: float
    parameters: int
    epochs: int
    seeds: list[int]
    seconds: float
    engine: str
    wrong: str | None = None

    @property
    def score(self) -> float:
        """Mean accuracy over the seeds; 0 if something went wrong."""
        return 0.0 if self.wrong is not None or not self.accuracies else fmean(self.accuracies)

    def document(self) -> dict[str, Any]:
        """It as JSON, with the spread of the accuracies."""
        spread = stdev(self.accuracies) if len(self.accuracies) > 1 else None
        return {**asdict(self), "std": spread}


def nothing(config: Config, why: str) -> Result:
    """What came of a trial that can't be trained."""
    return Result([], 0.0, 0, config.training.epochs, list(config.numbers), 0.0, "", why)


def score(config: Config, model: str, splits: Splits, report: Callable[[int, float], None]) -> Result:
    """Train with each seed, and measure on the validation images.

    Args:
        config: of the trial.
        model: a name of the zoo, or the file of a model of the user's own.
        splits: of which the training and validation parts are used.
        report: told how much of the whole is done, in tens of percent, and the mean over the seeds begun of the best
            accuracy so far; it may raise `EndedEarlyError`, which comes out as the result so far.

    A training whose loss is no finite number any more, or a model that fails, is a result, too.
    """
    progress = _Progress(config, report)
    begun = time.perf_counter()
    known: dict[str, Any] = {"parameters": 0, "engine": ""}
    wrong = None
    training = replace(config.training.over(len(splits.train)), threads=1)
    try:
        for seed in config.numbers:
            classifier = build(model, splits.train, seed)
            known = {"parameters": classifier.parameter_count(),
                     "engine": engines.choose(training.engine, classifier).name}  # fmt: skip
            progress.begin()
            for record in epochs(classifier, replace(splits, test=None), replace(training, seed=seed)):
                progress.add(record.epoch, training.epochs, record)
    except EndedEarlyError:
        pass
    except KilonetError as error:
        wrong = error.message
    except Exception as error:  # a user's own model may raise anything
        wrong = f"{type(error).__name__}: {error}"[:200]
    best = [progress.chosen(history) for history in progress.histories if history.epochs]
    loss = fmean(record.val_loss or 0.0 for record in best) if best else 0.0
    accuracies = [record.val_accuracy or 0.0 for record in best]
    seeds, seconds = list(config.numbers), time.perf_counter() - begun
    return Result(accuracies, loss, **known, epochs=training.epochs, seeds=seeds, seconds=seconds, wrong=wrong)


class _Progress:
    """The trainings of a trial so far."""

    def __init__(self, config: Config, report: Callable[[int, float], None]) -> None:
        self.report, self.seeds = report, len(config.numbers)
        self.last = measured_weights(config) == "last"
        self.histories: list[History] = []
        self._reported = 0

    def begin(self) -> None:
        self.histories.append(History([]))

    def chosen(self, history: History) -> Any:
        """The epoch that counts."""
        return history.last if self.last else history.best

    def add(self, epoch: int, of: int, record: Any) -> None:
        """Take an epoch's record, and report where a step is complete; not the end, which is the result."""
        self.histories[-1].epochs.append(record)
        done = (len(self.histories) - 1) * of + epoch
        percent = 100 * done // (of * self.seeds) // _STEP * _STEP
        if self._reported < percent < 100:
            self._reported = percent
            self.report(percent, fmean(history.best.val_accuracy or 0.0 for history in self.histories))
