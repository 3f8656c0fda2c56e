"""Several seeds of a run or a committee, one after another or side by side, summed up; and any run gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonet import files, plots, rundir, seals, world
from kilonet.assembly import put_together
from kilonet.beside import Died, side_by_side
from kilonet.errors import DivergedError, RunError
from kilonet.history import Epoch
from kilonet.metrics import over_seeds
from kilonet.run import check_model_file, create, extended, finish, plan, prepare, start, writing
from kilonet.rundir import Run
from kilonet.stopping import on_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.config import Config
    from kilonet.run import Plan, Say, Watch
    from kilonet.state import State


def resume(path: str | Path, epochs: int | None = None, model_file: str | None = None) -> Run:
    """Go on with an interrupted run, to the bits that it would have had without the interruption.

    Args:
        path: a run directory.
        epochs: train for so many in all, more than the run was to have, where the schedule is constant.
        model_file: `path/to/file.py:ClassName`, for a run of a model of your own.

    Returns:
        The run; one that was finished is left alone.

    Raises:
        KilonetError: as `prepare` and `finish` do.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    run = rundir.find_directory(str(path), Path())
    with on_request():
        if len(run.config.numbers) > 1:
            finish_seeds(run, epochs=epochs, model_file=model_file)
        elif (made := prepare(run, epochs, model_file)) is not None:
            finish(run, made)
    return run


def start_seeds(config: Config, project: Path, name: str | None = None) -> Run:
    """A new run directory for several seeds; nothing is trained yet.

    The split is the first seed's for all of them, so that they are measured on the same images.
    """
    return create(project, name, {"config.toml": seals.config_text(_with_split(config), {})})


def start_committee(made: Plan, project: Path, name: str | None = None) -> Run:
    """A new run directory for a committee, from the plan of its config; nothing is trained yet.

    The split is the first member's for all of them.
    """
    return start(replace(made, config=_with_split(made.config)), project, name)


def _with_split(config: Config) -> Config:
    return replace(config, split_seed=config.training.seed if config.split_seed is None else config.split_seed)


def finish_seeds(
    run: Run,
    watch: Callable[[Plan, int], Watch] = lambda _, __: lambda ___: None,
    say: Say = lambda _: None,
    epochs: int | None = None,
    model_file: str | None = None,
    beside: Callable[[int, Epoch], None] | None = None,
) -> dict[str, Any]:
    """Train each seed of a run to its end, those that are done left alone, in `seed-S` inside it; then sum them up.

    A committee's seeds are its members: they are put together then, and measured as one.

    Side by side the native engine trains as many seeds at once as the run may use threads, each with one, in processes
    of their own: its bits don't depend on the threads. The torch engine's do, so it takes them one after another.

    Args:
        run: from `start_seeds` or `start_committee`.
        watch: given a plan and its seed, gives what `finish` is to tell.
        say: told, in lines, where a run goes on from.
        epochs: as `prepare` has it.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.
        beside: told a seed and a record after each of its epochs, instead of `watch`, where seeds go side by side; with
            None they don't.

    Ctrl-C and SIGTERM are obeyed as `finish` does, and on the spot between two seeds and while they are summed up.

    Returns:
        The summary, as in `summary.json`: over the seeds that were trained to their end; `failed` names the others.

    Raises:
        RunError: if a directory inside is not its seed's, every training went wrong, or as `prepare` and `finish` do.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    again = f"kilonet resume {run.path}"
    with on_request() as stop, writing(run, again), rundir.held(run):
        stop.hint = f"go on: {again}" + ("" if epochs is None else f" --epochs {epochs}")
        rundir.discard_unfinished(run.path)
        config, parts = run.untouched_config()
        for damaged in run.damaged():
            say(f"{run.path / damaged} is damaged or gone: it is made again")
        if epochs is not None:
            config = extended(config, epochs)
            run.unseal()
            run.rewrite_config(config, parts)
            stop.hint = f"go on: {again}"
        numbers = config.numbers
        if beside is not None and (workers := at_once(config)) > 1:
            ended = _finish_beside(run, config, numbers, workers, beside, say, model_file)
        else:
            ended = [_finish_one(run, config, seed, watch, say, model_file) for seed in numbers]
        members = [member for member in ended if member is not None]
        summary = _sum_up(run, config, members)
        if config.committee > 1:
            put_together(run, config, parts, members, model_file)
        stop.hint = f"the run is done: {again} shows it"
    return summary


def at_once(config: Config) -> int:
    """How many seeds of a run can go side by side."""
    training = config.training
    if training.engine != "native":
        return 1
    return min(len(config.numbers), world.cores(), training.threads or world.cores())


def _finish_beside(
    run: Run,
    config: Config,
    numbers: range,
    workers: int,
    beside: Callable[[int, Epoch], None],
    say: Say,
    model_file: str | None,
) -> list[Run | None]:
    config = replace(config, training=replace(config.training, threads=1))

    def tell(seed: int, told: Epoch | str) -> None:
        beside(seed, told) if isinstance(told, Epoch) else say(told)

    def died(seed: int, how: Died) -> None:
        say(f"seed-{seed}: {how}")

    part = partial(_part, run.path, config, model_file)
    ended = side_by_side(part, numbers, workers, tell, died=died)
    return [Run(run.path / f"seed-{seed}") if done is True else None for seed, done in zip(numbers, ended, strict=True)]


def _part(path: Path, config: Config, model_file: str | None, seed: int, tell: Callable[[Epoch | str], None]) -> bool:
    """Train a seed to its end, in a process of its own; whether it has one."""

    def watch(now: State | Epoch) -> None:
        if isinstance(now, Epoch):
            tell(now)

    return _finish_one(Run(path), config, seed, lambda _, __: watch, tell, model_file) is not None


def _finish_one(
    run: Run,
    config: Config,
    seed: int,
    watch: Callable[[Plan, int], Watch],
    say: Say,
    model_file: str | None,
) -> Run | None:
    """Train a seed to its end, unless it is done; None if its training goes or went wrong."""
    inside = Run(run.path / f"seed-{seed}")
    name, own = inside.path.name, replace(config, training=replace(config.training, seed=seed), seeds=1, committee=1)
    if inside.path.exists():
        _check_member(run, inside, own)
        if (failed := inside.failure()) is not None:
            say(f"{name} went wrong in epoch {failed['epoch']} (its loss was {failed['loss']}): it is left out")
            return None
        more = own.training.epochs if inside.config.training.epochs < own.training.epochs else None
        made = prepare(inside, more, model_file, say)
    else:
        if config.committee > 1:
            check_model_file(run, config, model_file)
        made = plan(own, model_file)
        inside = start(made, run.path, name)
    if made is None:
        return inside
    (run.path / "summary.json").unlink(missing_ok=True)
    run.unseal()
    try:
        for finding in finish(inside, made, watch(made, seed), say, whole=run):
            say(f"{name}: {finding.name}: {finding.what}; {finding.advice}")
    except DivergedError as error:
        say(f"{name}: {error.message}: it is left out")
        return None
    return inside


def _check_member(run: Run, inside: Run, own: Config) -> None:
    """Make sure that a directory is the one of a seed.

    Args:
        run: the run of several seeds.
        inside: the directory.
        own: the config that the seed has.

    Raises:
        RunError: if it is not, or its config is gone or damaged.
    """
    anew = f"put it back, or delete {inside.path}: kilonet resume {run.path} trains it anew"
    if not (inside.path / "config.toml").exists():
        raise RunError(f"{inside.path} has no config.toml", anew)
    found, _ = inside.untouched_config()
    if found.training.epochs > own.training.epochs:
        more = f"kilonet resume {run.path} --epochs {found.training.epochs}"
        raise RunError(f"{inside.path} has more epochs than the run's {own.training.epochs}", more)
    ours = own.training
    training = replace(found.training, epochs=ours.epochs, threads=ours.threads, engine=ours.engine)
    if replace(found, save_every=own.save_every, training=training) != own:
        raise RunError(f"{inside.path} is not seed {own.training.seed} of {run.path}: its config is another one", anew)


def _sum_up(run: Run, config: Config, ended: list[Run]) -> dict[str, Any]:
    """The summary of the seeds that have ended; it and its figure are written where they are not there or not so."""
    if not ended:
        lower = f"train anew with a lower --lr: kilonet train --config {run.path / 'config.toml'} --lr ..."
        raise RunError(f"every seed of {run.path} went wrong", lower)
    names = [f"seed-{number}" for number in config.numbers]
    figures = {member.path.name: member.metrics() for member in ended}
    failed = [name for name in names if name not in figures]
    summary: dict[str, Any] = {"runs": list(figures), "seeds": [member.config.training.seed for member in ended]}
    summary |= {"failed": failed} if failed else {}
    for part in ("val", "test"):
        if all(part in found for found in figures.values()):
            values = {key: [found[part][key] for found in figures.values()] for key in ("accuracy", "loss")}
            summary[part] = {key: over_seeds(of_key) for key, of_key in values.items()}
    text, path, figure = json.dumps(summary, indent=2) + "\n", run.path / "summary.json", run.path / "curves.png"
    if not figure.exists() or not path.exists() or path.read_bytes() != text.encode():
        n = len(ended)
        title = f"committee of {n} {config.model}" if config.committee > 1 else f"{config.model}, {n} seeds"
        plots.save(plots.curves([member.history() for member in ended], title), figure)
        files.write(path, text)
    return summary
