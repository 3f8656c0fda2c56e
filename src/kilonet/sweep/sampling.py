"""Settings drawn for a trial, and trials ended early, by Optuna's samplers and pruners."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from kilonet.sweep.ledger import Ledger
    from kilonet.sweep.space import Axis
    from kilonet.sweep.spec import Pruner, Spec

STARTUP = 10
"""Trials drawn at random before TPE (Bergstra et al. 2011) goes by scores; and completed before any is ended early."""
WARMUP = 30
"""Percent of a trial's training before which it is never ended early."""


def drawn(ledger: Ledger, attempt: FrozenTrial, slot: int, spec: Spec) -> tuple[optuna.Trial, dict[str, Any]]:
    """A trial to report to, and values of its settings; what it was told to take stands.

    Of a slot the same values are drawn again while the trials before it are the same.
    """
    digest = hashlib.sha256(f"{spec.identity} {slot}".encode()).digest()
    seed = int.from_bytes(digest[:4], "little")
    study = ledger.study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of it is called experimental
        study.sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
            if spec.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        study.pruner = pruner(spec.pruner)
        trial = optuna.trial.Trial(study, attempt._trial_id)
        values = {axis.key: trial._suggest(axis.key, distribution(axis)) for axis in spec.space.axes}
    return trial, values


def pruner(name: Pruner) -> optuna.pruners.BasePruner:
    """Ends a trial whose best score so far is below the median of the others' scores there, or none."""
    if name == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP, n_min_trials=5)


def distribution(axis: Axis) -> BaseDistribution:
    """What Optuna draws an axis from."""
    low, high = axis.low, axis.high
    if low is None or high is None:
        return CategoricalDistribution(axis.values)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=axis.log)
    return FloatDistribution(low, high, log=axis.log)
