"""The winner of a sweep trained as an ordinary run, and measured on the test part, by one machine of all."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from kilonet import files
from kilonet.config import to_toml
from kilonet.display import TrainingDisplay
from kilonet.errors import RunError
from kilonet.run import Plan, finish, plan, prepare, start
from kilonet.rundir import Run
from kilonet.seeds import finish_seeds, start_seeds
from kilonet.sweep import database as databases
from kilonet.sweep.database import AwayError, Database
from kilonet.sweep.ledger import MACHINE, Ledger, identifier, slot_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial

    from kilonet.config import Config
    from kilonet.sweep.ledger import Standing
    from kilonet.sweep.sweeping import Sweep


def measure(sweep: Sweep, standing: Standing, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the winner's `winner.toml`, to train with; train it and measure it, unless that is done or another does it.

    Args:
        sweep: of which at least one trial is complete.
        standing: how it stands.
        say: told, in lines, what happens meanwhile.

    Returns:
        `state`: `measured`, `elsewhere` while another process is at it, or `waiting` while trials run, one of which may
        win; `host`: where; `readings`: how many winners of this sweep have been measured on the test part; `run`: its
        directory there, and `metrics`: as in its `metrics.json` or, of several seeds, `summary.json`, once measured.

    Raises:
        ModelError: if the file of a user's own model is not the one that the sweep began with.
        Interrupted: after Ctrl-C or SIGTERM; the same command goes on.
    """
    best = standing.best()
    if best is None:
        raise RunError(f"no trial of {sweep.name} is complete yet")
    sweep.spec.check_files(sweep.planned.files)
    config = _config(sweep, best)
    files.write(sweep.path / "winner.toml", to_toml(config))
    slot = slot_of(best)
    ledger = Ledger(Database(sweep.url, say), f"{sweep.name}:winner")
    if standing.running and slot not in ledger.standing().done:
        hosts = {str(trial.user_attrs["host"]) for trial in standing.running.values()}
        return {"state": "waiting", "host": ", ".join(sorted(hosts)), "readings": len(ledger.standing().done)}
    until = time.monotonic() + databases.GRACE + 2 * databases.BEAT
    while True:
        measured = ledger.standing()
        if slot in measured.done:
            return _measured(ledger, slot)
        ledger.recover(list(measured.running.values()))
        if slot not in measured.running and (attempt := ledger.begin(slot)) is not None:
            _train(ledger, attempt, sweep, slot, config, say)
            return _measured(ledger, slot)
        if time.monotonic() >= until:
            running = ledger.standing().running.get(slot)
            host = "another machine" if running is None else running.user_attrs["host"]
            return {"state": "elsewhere", "host": host, "readings": len(measured.done)}
        time.sleep(0.5)


def _config(sweep: Sweep, best: FrozenTrial) -> Config:
    """The winner's config, its model and its data as they are named here."""
    found, own = sweep.spec.config(best.params), sweep.planned
    return replace(found, model=own.files.get(found.model, found.model), source=own.source)


def _measured(ledger: Ledger, slot: int) -> dict[str, Any]:
    done = ledger.standing().done
    attempt = done[slot]
    here = attempt.user_attrs["machine"] == MACHINE
    told = {"host": attempt.user_attrs["host"], "here": here, "readings": len(done)}
    return {"state": "measured", **told, **attempt.user_attrs["result"]}


def _train(
    ledger: Ledger, attempt: FrozenTrial, sweep: Sweep, slot: int, config: Config, say: Callable[[str], None]
) -> None:
    try:
        with ledger.beating(attempt):
            run, metrics = _trained(sweep, slot, config, say)
    except BaseException:
        ledger.database.patience = 1.0
        with suppress(AwayError):
            ledger.put_down(attempt, "interrupted")
        raise
    ledger.finish(identifier(attempt), TrialState.COMPLETE, 0.0, {"run": str(run.path.resolve()), "metrics": metrics})


def _trained(sweep: Sweep, slot: int, config: Config, say: Callable[[str], None]) -> tuple[Run, dict[str, Any]]:
    """The winner's run, trained to its end and measured, and its figures."""
    made = plan(config)
    run = _run(sweep, slot, made)
    with TrainingDisplay() as shown:
        if config.seeds > 1:
            summary = finish_seeds(run, shown.watch, say, None, made.model_file, shown.beside(run.config))
            return run, summary
        again = prepare(run, None, made.model_file, say)
        if again is not None:
            finish(run, again, shown.watch(again), say)
    return run, run.metrics()


def _run(sweep: Sweep, slot: int, made: Plan) -> Run:
    """The winner's run: the one that there is, or a new one."""
    names = ("winner", f"winner-{slot}")
    for run in (Run(sweep.path / name) for name in names):
        if run.is_directory() and _alike(run.config) == _alike(made.config):
            return run
    name = next((name for name in names if not (sweep.path / name).exists()), None)
    if name is None:
        raise RunError(f"{sweep.path} holds other runs under the names {' and '.join(names)}", "move them elsewhere")
    return start_seeds(made.config, sweep.path, name) if made.config.seeds > 1 else start(made, sweep.path, name)


def _alike(config: Config) -> Config:
    """A config but for what makes no difference."""
    return replace(config, source="", training=replace(config.training, threads=1, engine="auto"))
