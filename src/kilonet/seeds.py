"""Several seeds of a run or a committee, one after another or side by side, summed up; and any run gone on with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonet import files, plots, rundir, seals, shelf, stock, world
from kilonet.assembly import put_together
from kilonet.beside import Died, side_by_side
from kilonet.distribution import distribution
from kilonet.errors import DivergedError, RunError
from kilonet.history import Epoch
from kilonet.measuring import short
from kilonet.metrics import over_seeds
from kilonet.run import check_model_file, create, extended, finish, plan, prepare, start, writing
from kilonet.rundir import Run
from kilonet.stopping import on_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from kilonet.config import Config
    from kilonet.doctor.finding import Finding
    from kilonet.run import Load, Plan, Say, Watch
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
    run = shelf.find_directory(str(path), Path())
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
    beside: Callable[[int, Epoch | Ended], None] | None = None,
) -> dict[str, Any]:
    """Train each seed of a run to its end, those that are done left alone, in `seed-S` inside it; then sum them up.

    A committee's seeds are its members: they are put together then, and measured as one.

    Side by side the native engine trains as many seeds at once as the run may use threads, each with one, in processes
    of their own: its bits don't depend on the threads. The torch engine's do, so it takes them one after another,
    unless the run is to use one thread: then it trains as many at once as there are cores. A seed whose process is
    killed is begun again, once, from its newest checkpoint; then it is left out, and the others go on.

    Args:
        run: from `start_seeds` or `start_committee`.
        watch: given a plan and its seed, gives what `finish` is to tell.
        say: told, in lines, where a run goes on from.
        epochs: as `prepare` has it.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.
        beside: told a seed and a record after each of its epochs, and how it ended, instead of `watch`, where seeds go
            side by side; with None they don't.

    Ctrl-C and SIGTERM are obeyed as `finish` does, and on the spot between two seeds and while they are summed up.

    Returns:
        The summary, as in `summary.json`: over the seeds that were trained to their end; `failed` names the others, and
        `why` says what became of each.

    Raises:
        RunError: if a directory inside is not its seed's, the data is not the other seeds', no training came to its
            end, or as `prepare` and `finish` do.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    again = f"kilonet resume {run.path}"
    with on_request() as stop, writing(run, again), rundir.held(run):
        stop.hint = f"go on: {again}" + ("" if epochs is None else f" --epochs {epochs}")
        rundir.discard_unfinished(run.path)
        config, parts = run.untouched_config()
        for damaged in run.damaged():
            say(f"{run.path / damaged} is damaged or gone: it is made again")
        longer = extended(config, epochs)
        if longer is not config:
            config = longer
            run.unseal()
            run.rewrite_config(config, parts)
            stop.hint = f"go on: {again}"
        numbers = config.numbers
        if beside is not None and (workers := at_once(config)) > 1:
            ended = _side_by_side(run, config, workers, beside, say, model_file)
        else:
            work = _Work(run.path, config, model_file)
            ended = [work.finish(seed, watch, say) for seed in numbers]
        left_out = {f"seed-{seed}": how.why for seed, how in zip(numbers, ended, strict=True) if how.why is not None}
        members = [Run(run.path / name) for name in names_of(config) if name not in left_out]
        summary = _sum_up(run, config, members, left_out)
        if config.committee > 1:
            put_together(run, config, parts, members, model_file)
        stop.hint = f"the run is done: {again} shows it"
    return summary


def names_of(config: Config) -> list[str]:
    """The directories of a run's seeds."""
    return [f"seed-{seed}" for seed in config.numbers]


def at_once(config: Config) -> int:
    """How many seeds of a run can go side by side."""
    training, cores = config.training, world.cores()
    if training.engine == "native":
        most = training.threads or cores
    else:
        most = cores if training.threads == 1 and training.device == "cpu" else 1
    return min(len(config.numbers), cores, most)


def _side_by_side(
    run: Run,
    config: Config,
    workers: int,
    beside: Callable[[int, Epoch | Ended], None],
    say: Say,
    model_file: str | None,
) -> list[Ended]:
    config, dead = replace(config, training=replace(config.training, threads=1)), set[int]()

    def tell(seed: int, told: Epoch | Ended | str) -> None:
        say(told) if isinstance(told, str) else beside(seed, told)

    def died(seed: int, how: Died) -> None:
        then = f"it is left out: kilonet resume {run.path} tries it again" if seed in dead else "it is begun again"
        say(f"seed-{seed}: {how}: {then}")
        if seed in dead:
            beside(seed, Ended(str(how)))
        dead.add(seed)

    found = side_by_side(_Work(run.path, config, model_file), config.numbers, workers, tell, died=died)
    rundir.discard_unfinished(run.path)
    return [Ended(str(how)) if isinstance(how, Died) else how for how in found]


@dataclass(frozen=True)
class Ended:
    """What became of a seed.

    Attributes:
        why: it is left out; None if it was trained to its end.
    """

    why: str | None = None


@dataclass(frozen=True, eq=False)
class _Work:
    """The training of a run's seeds, in this process; what they share is loaded once.

    Attributes:
        path: of the run.
        config: of the run.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.
        advised: names of findings whose advice has been told.
    """

    path: Path
    config: Config
    model_file: str | None
    advised: set[str] = field(default_factory=set)

    @cached_property
    def load(self) -> Load:
        """The data, as `plan` has it."""
        return lru_cache(maxsize=1)(stock.load)

    def __call__(self, seed: int, tell: Callable[[Epoch | Ended | str], None]) -> Ended:
        """Train a seed to its end as a part of `side_by_side`."""

        def watch(now: State | Epoch) -> None:
            if isinstance(now, Epoch):
                tell(now)

        ended = self.finish(seed, lambda _, __: watch, tell)
        tell(ended)
        return ended

    def finish(self, seed: int, watch: Callable[[Plan, int], Watch], say: Say) -> Ended:
        """Train a seed to its end, unless it is done, or it goes or went wrong."""
        run, config = Run(self.path), self.config
        inside = Run(run.path / f"seed-{seed}")
        name = inside.path.name
        own = replace(config, training=replace(config.training, seed=seed), seeds=1, committee=1)
        if inside.path.exists():
            _check_member(run, inside, own)
            if (failed := inside.failure()) is not None:
                say(f"{name} went wrong in epoch {failed['epoch']} (its loss was {failed['loss']}): it is left out")
                return _went_wrong(inside)
            more = own.training.epochs if inside.config.training.epochs < own.training.epochs else None
            made = prepare(inside, more, self.model_file, say, self.load)
        else:
            if config.committee > 1:
                check_model_file(run, config, self.model_file)
            made = plan(own, self.model_file, self.load)
            _check_data(run, config, made)
            inside = start(made, run.path, name)
        if made is None:
            return Ended()
        (run.path / "summary.json").unlink(missing_ok=True)
        run.unseal()
        try:
            for finding in finish(inside, made, watch(made, seed), lambda line: say(f"{name}: {line}"), whole=run):
                say(f"{name}: {finding.name}: {finding.what}{self._advice(finding)}")
        except DivergedError as error:
            say(f"{name}: {error.message}: it is left out")
            return _went_wrong(inside)
        return Ended()

    def _advice(self, finding: Finding) -> str:
        """What to do about a finding, told the first time: many seeds of one model ail of the same."""
        if finding.name in self.advised:
            return ""
        self.advised.add(finding.name)
        return f"; {finding.advice}"


def _went_wrong(inside: Run) -> Ended:
    failed = inside.failure() or {}
    return Ended(f"it went wrong in epoch {failed.get('epoch')}: its loss was {failed.get('loss')}")


def _check_data(run: Run, config: Config, made: Plan) -> None:
    """Make sure that a seed is to train on what the run's others do.

    Raises:
        RunError: if it is not, or the config of the first one that there is has been damaged.
    """
    others = (Run(run.path / name) for name in names_of(config))
    if (other := next((one for one in others if one.is_directory()), None)) is None:
        return
    _, parts = other.untouched_config()
    if made.stock.parts != {name: kept for name, kept in parts.items() if name != "notes"}:
        raise RunError(
            f"{config.source} has changed since {run.path} began: its parts are not those of {other.path.name}",
            "put the data back, or train anew",
        )


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


def _sum_up(run: Run, config: Config, ended: list[Run], left_out: dict[str, str]) -> dict[str, Any]:
    """The summary of the seeds that have ended; it and its figures are written where they are not there or not so."""
    if not ended:
        raise _none_ended(run, left_out)
    figures = {member.path.name: member.metrics() for member in ended}
    summary: dict[str, Any] = {"runs": list(figures), "seeds": [member.config.training.seed for member in ended]}
    summary |= {"failed": list(left_out), "why": left_out} if left_out else {}
    for part in ("val", "test"):
        if all(part in found for found in figures.values()):
            values = {key: [found[part][key] for found in figures.values()] for key in ("accuracy", "loss")}
            summary[part] = {key: over_seeds(of_key) for key, of_key in values.items()}
    text, path = json.dumps(summary, indent=2) + "\n", run.path / "summary.json"
    pictures = [run.path / name for name in ("curves.png", *(["distribution.png"] if config.committee == 1 else []))]
    if not all(file.exists() for file in (*pictures, path)) or path.read_bytes() != text.encode():
        n = len(ended)
        title = f"committee of {n} {config.model}" if config.committee > 1 else f"{config.model}, {n} seeds"
        plots.save(plots.curves([member.history() for member in ended], title), run.path / "curves.png")
        if config.committee == 1:
            plots.save(_spread(config, figures, left_out), run.path / "distribution.png")
        files.write(path, text)
    return summary


def _spread(config: Config, figures: dict[str, dict[str, Any]], left_out: dict[str, str]) -> Figure:
    """The picture of the accuracies of the seeds that have ended."""
    parts = {
        part: {name: found[part]["accuracy"] for name, found in figures.items()}
        for part in ("val", "test")
        if all(part in found for found in figures.values())
    }
    lost = f", {len(left_out):,} of them left out" if left_out else ""
    what = f"{short(config.model)} on {short(config.source)}"
    return distribution(parts, left_out, f"{what}, {len(config.numbers):,} seeds{lost}")


def _none_ended(run: Run, left_out: dict[str, str]) -> RunError:
    diverged = all(why.startswith("it went wrong") for why in left_out.values())
    if diverged:
        lower = f"train anew with a lower --lr: kilonet train --config {run.path / 'config.toml'} --lr ..."
        return RunError(f"every seed of {run.path} went wrong", lower)
    why = "; ".join(sorted(set(left_out.values())))
    return RunError(f"no seed of {run.path} was trained to its end: {why}", f"try again: kilonet resume {run.path}")
