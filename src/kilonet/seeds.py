"""Several seeds of a run, one after another, summed up; and any run gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonet import files, plots, rundir, seals
from kilonet.metrics import over_seeds
from kilonet.run import extended, finish, plan, prepare, start
from kilonet.rundir import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.config import Config
    from kilonet.run import Plan, Say, Watch


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
    if run.config.seeds > 1:
        finish_seeds(run, epochs=epochs, model_file=model_file)
    elif (made := prepare(run, epochs, model_file)) is not None:
        finish(run, made)
    return run


def start_seeds(config: Config, project: Path, name: str | None = None) -> Run:
    """A new run directory for several seeds; nothing is trained yet.

    The split is the first seed's for all of them, so that they are measured on the same images.
    """
    first = config.training.seed
    config = replace(config, split_seed=first if config.split_seed is None else config.split_seed)
    return rundir.create(project, name, {"config.toml": seals.config_text(config, {})})


def finish_seeds(
    run: Run,
    watch: Callable[[Plan, int], Watch] = lambda _, __: lambda ___: None,
    say: Say = lambda _: None,
    epochs: int | None = None,
    model_file: str | None = None,
) -> dict[str, Any]:
    """Train each seed of a run to its end, those that are done left alone, in `seed-S` inside it; then sum them up.

    Args:
        run: from `start_seeds`.
        watch: given a plan and its seed, gives what `finish` is to tell.
        say: told, in lines, where a run goes on from.
        epochs: as `prepare` has it.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.

    Returns:
        The summary, as in `summary.json`.
    """
    config, _ = run.untouched_config()
    if epochs is not None:
        config = extended(config, epochs)
    first = config.training.seed
    seeds = range(first, first + config.seeds)
    done = 0
    for seed in seeds:
        inside = Run(run.path / f"seed-{seed}")
        if inside.path.exists():
            more = epochs if epochs is not None and inside.config.training.epochs < epochs else None
            made = prepare(inside, more, model_file, say)
        else:
            own = replace(config, training=replace(config.training, seed=seed), seeds=1)
            made = plan(own, model_file)
            inside = start(made, run.path, inside.path.name)
        if made is not None:
            for finding in finish(inside, made, watch(made, seed), say, whole=run):
                say(f"{inside.path.name}: {finding.name}: {finding.what}; {finding.advice}")
            done += 1
    if epochs is not None:
        run.rewrite_config(config, {})
    return run.summary() if not done and run.summary() else _sum_up(run, config, list(seeds))


def _sum_up(run: Run, config: Config, seeds: list[int]) -> dict[str, Any]:
    inside = [Run(run.path / f"seed-{seed}") for seed in seeds]
    figures = [member.metrics() for member in inside]
    summary: dict[str, Any] = {"runs": [member.path.name for member in inside], "seeds": seeds}
    for part in ("val", "test"):
        if part in figures[0]:
            summary[part] = {key: over_seeds([f[part][key] for f in figures]) for key in ("accuracy", "loss")}
    files.write(run.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    histories = [member.history() for member in inside]
    plots.save(plots.curves(histories, f"{config.model}, {config.seeds} seeds"), run.path / "curves.png")
    return summary
