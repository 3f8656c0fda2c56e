"""`sweep`: many trainings, on any number of machines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kilonet.cli.app import RUNS, answer, app
from kilonet.cli.ranked import as_one
from kilonet.cli.training import asked_for
from kilonet.errors import ConfigError
from kilonet.flags import Json, Project, TrainingFlags, Whole

if TYPE_CHECKING:
    from kilonet.sweep.sweeping import Sweep


@app.command
def sweep(
    source: str | None = None,
    /,
    *,
    space: Annotated[list[str] | None, Parameter(name="--set")] = None,
    trials: Whole | None = None,
    time: str | None = None,
    workers: Whole | None = None,
    sampler: Literal["tpe", "random", "grid"] | None = None,
    pruner: Literal["median", "none"] | None = None,
    storage: str | None = None,
    model: str | None = None,
    preset: str | None = None,
    split: str | None = None,
    seeds: Whole | None = None,
    training: Annotated[TrainingFlags | None, Parameter(name="*")] = None,
    config: Path | None = None,
    project: Project = RUNS,
    name: str | None = None,
    json: Json = False,
) -> None:
    """Train many configurations, scored on validation images; the winner is measured on the test part.

    The same command goes on with a sweep, and joins it from another machine; so does --name without --set.

    Parameters
    ----------
    source
        A known name, openml:NAME_OR_ID, or a path; mnist-5k if not given.
    space
        KEY=VALUES, once for each setting: lr=1e-4..1e-1:log, epochs=5..20, model=kilo-4k,kilo-16k.
    trials
        Trials in all, on all machines; a grid's combinations, or 50 if neither this nor --time is given.
    time
        Begin no further trial here after, such as 90s, 10m or 1h.
    workers
        Processes, each with one thread; as many as cores if not given.
    sampler
        What draws settings: tpe, random, or grid, each combination once; grid where all are lists, else tpe.
    pruner
        Ends trials early: median, those worse than the others' median by then; none with a grid, else median.
    storage
        postgresql://USER@HOST/DATABASE for many machines; a SQLite file in the sweep's folder if not given.
    model
        A name of the zoo, or path/to/file.py:ClassName; kilo-16k if not given.
    preset
        A whole experiment to begin from: tutorial-linear, tutorial-cnn or fast.
    split
        standard, tutorial, or fractions such as 70/15/15.
    seeds
        Trainings of each trial, with one seed after another; their mean accuracy is its score.
    config
        Begin from this config.toml of a run.
    name
        Name of the sweep; made of what it is if not given.
    """
    from kilonet import display, ranks, world
    from kilonet.models import is_file

    with as_one():
        if ranks.size() > 1:
            raise ConfigError(
                f"kilonet sweep is not for torchrun, which started {ranks.size()} of it",
                "start it by itself, on each machine: they meet in the database",
            )
    try:
        from kilonet.sweep import pictures, results, showing, sweeping, winner
        from kilonet.sweep.spec import named_files
    except ModuleNotFoundError as error:
        raise ConfigError(f"kilonet sweep needs {error.name}", "pip install 'kilonet[sweep]'") from None

    seconds = _seconds(time)
    _check(trials=trials, workers=workers)
    settings, flags, base = asked_for(source, model, preset, split, seeds, training, config)
    if space:
        planned = sweeping.plan(settings, flags, base, tuple(space), sampler, pruner)
        begun = sweeping.begin(planned, project, name, storage, display.say)
    else:
        given = {**{k: v for k, v in settings.items() if k != "source"}, **flags}
        if model is not None and is_file(model):
            del given["model"]
        more = {"config": config, "sampler": sampler, "pruner": pruner}
        _check_joining(name, [*given, *(key for key, value in more.items() if value)])
        own = named_files([model] if model else [])
        begun = sweeping.join(project, str(name), storage, settings.get("source"), own, display.say)
    asked = begun.asked(trials, seconds is not None)
    on_cpu = begun.spec.first.training.device == "cpu"
    with showing.SweepDisplay(asked) as shown:
        at_once = min(workers or (world.cores() if on_cpu else 1), asked)
        sweeping.work(begun, asked, seconds, at_once, shown.told, display.say)
    standing = sweeping.finished(begun)
    found = results.trials(standing)
    results.write(begun.path, found, begun.spec)
    pictures.draw(begun.path, found, begun.spec, begun.name)
    measured = winner.measure(begun, standing, display.say)
    best = results.ranked(found)
    document = _document(begun, found, best, measured)
    answer(document, json, lambda: showing.told(begun, found, best, measured))


def _document(begun: Sweep, found: list[Any], best: list[Any], measured: dict[str, Any]) -> dict[str, Any]:
    states = {
        state: sum(trial.state == state for trial in found) for state in ("complete", "ended early", "went wrong")
    }
    return {
        "sweep": str(begun.path),
        "name": begun.name,
        "identity": begun.spec.identity,
        "storage": begun.database,
        "trials": {"done": len(found), **{state.replace(" ", "_"): n for state, n in states.items()}},
        "best": [asdict(trial) for trial in best[:10]],
        "winner": {"trial": best[0].number, "config": str(begun.path / "winner.toml"), **measured},
    }


def _seconds(text: str | None) -> float | None:
    """Seconds from a text such as 90s, 10m or 1h."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 < seconds < 10**9:
        raise ConfigError(f"time = {text} won't do: expected such as 90s, 10m, 1.5h or 2d")
    return seconds


def _check(**numbers: int | None) -> None:
    for name, number in numbers.items():
        most = 1_000_000 if name == "trials" else 1024
        if number is not None and not 1 <= number <= most:
            raise ConfigError(f"{name} = {number} won't do: expected from 1 to {most:,}")


def _check_joining(name: str | None, given: list[str]) -> None:
    """Make sure that a sweep without a space is one that there is, and is taken as it is."""
    if name is None:
        raise ConfigError(
            "a sweep needs what to look through", "such as --set lr=1e-4..1e-1:log --set model=kilo-4k,kilo-16k"
        )
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise ConfigError(
            f"{flag} won't do without --set: --name alone goes on with a sweep as it was begun", f"leave out {flag}"
        )
