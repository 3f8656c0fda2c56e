"""Sweeps for the tests, small enough to be done in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from kilonet import cli
from kilonet.sweep import sweeping
from kilonet.sweep.database import Database
from kilonet.sweep.ledger import Ledger, Standing, identifier
from kilonet.sweep.sweeping import Sweep

OWN = "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__({})\n"


def begun(
    project: Path, *texts: str, name: str | None = "s", model: str = "linear", storage: str | None = None, **more: Any
) -> Sweep:
    """A sweep over `digits`, begun."""
    training = {"epochs": 2} if "epochs" not in more else {}
    more = {"training": training, "sampler": None, "pruner": None, "seeds": 1, **more}
    settings = {"source": "digits", "seeds": more["seeds"], **({} if "model" in "".join(texts) else {"model": model})}
    planned = sweeping.plan(settings, more["training"], None, texts, more["sampler"], more["pruner"])
    return sweeping.begin(planned, project, name, storage, lambda _: None)


def in_this_process(part: Any, numbers: Any, workers: int, tell: Callable[[int, Any], None], *_: Any) -> list[Any]:
    """What `side_by_side` does, one part after another."""
    return [part(number, partial(tell, number)) for number in numbers]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are no processes of their own."""
    monkeypatch.setattr(sweeping, "side_by_side", in_this_process)


def work(sweep: Sweep, trials: int, seconds: float | None = None) -> Standing:
    """Do trials in this process, and say how the sweep stands."""
    told: list[str] = []
    sweeping.work(sweep, trials, seconds, 1, lambda _: None, told.append)
    return standing(sweep)


def standing(sweep: Sweep) -> Standing:
    return Ledger(Database(sweep.url), sweep.name).standing()


def ends_and_losses(opened: Callable[[], Ledger]) -> list[bool]:
    """Of 40 attempts, each ended by one process at the moment that another gives it up: whether one of both held."""
    ours, barrier = opened(), threading.Barrier(2)
    attempts = [attempt for slot in range(40) if (attempt := ours.begin(slot)) is not None]
    ended: list[bool] = []
    lost: list[bool] = []

    def finish() -> None:
        own = opened()
        for attempt in attempts:
            barrier.wait()
            ended.append(own.finish(identifier(attempt), TrialState.COMPLETE, 0.5, {"wrong": None, "loss": 1.0}))

    def lose() -> None:
        own = opened()
        for attempt in attempts:
            own.database.rdb.get_trial(identifier(attempt))
            barrier.wait()
            time.sleep(0.003)
            try:
                own.database.rdb.set_trial_state_values(identifier(attempt), TrialState.FAIL)
            except UpdateFinishedTrialError:
                lost.append(False)
            else:
                lost.append(True)

    threads = [threading.Thread(target=finish), threading.Thread(target=lose)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one ^ other for one, other in zip(ended, lost, strict=True)]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    return int(left.value.code or 0)
