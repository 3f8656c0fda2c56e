"""A sweep begun, joined or gone on with, and its trials done by the processes of this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from kilonet import engines, files, sources, world
from kilonet.beside import Died, side_by_side
from kilonet.config import Config, read_table, resolve
from kilonet.errors import ConfigError, KilonetError, ModelError, RunError
from kilonet.images import split
from kilonet.models import build, file_checksum, is_file, rehearse
from kilonet.stopping import on_request
from kilonet.sweep import space
from kilonet.sweep.database import AwayError, Database, sqlite_url
from kilonet.sweep.ledger import Ledger, Standing
from kilonet.sweep.spec import Pruner, Sampler, Spec, from_document, named_files, short_name
from kilonet.sweep.unsent import send_all
from kilonet.sweep.worker import Counts, Job, load, parts_of

DEFAULT_TRIALS = 50
"""Trials where there is a range, and neither their number nor a time is given."""
NO_END = 1_000_000
"""Trials where only the time ends them."""
_RETRIES = 1000
"""Processes that may die in a worker's place."""


@dataclass(frozen=True)
class Planned:
    """A sweep made ready, before anything is written.

    Attributes:
        spec: what it is.
        source: its data, as it is named here.
        files: of models of the user's own, by `file.py:ClassName`.
    """

    spec: Spec
    source: str
    files: dict[str, str]


@dataclass(frozen=True)
class Sweep:
    """A sweep on this machine.

    Attributes:
        planned: what it is.
        name: of its study.
        path: its folder.
        url: of its database.
        database: the URL for people.
        again: the command that goes on with it.
    """

    planned: Planned
    name: str
    path: Path
    url: str
    database: str
    again: str

    @property
    def spec(self) -> Spec:
        """What makes it the one that it is."""
        return self.planned.spec

    def asked(self, trials: int | None, timed: bool) -> int:
        """How many trials there are to be: those that are asked for, or what the space and the time suggest."""
        points = self.spec.space.combinations if self.spec.sampler == "grid" else None
        if points is not None:
            return min(trials or points, points)
        return trials or (NO_END if timed else DEFAULT_TRIALS)


def plan(
    settings: dict[str, Any],
    training: dict[str, Any],
    base: Config | None,
    texts: tuple[str, ...],
    sampler: Sampler | None,
    pruner: Pruner | None,
) -> Planned:
    """Make a sweep ready; nothing is written.

    Args:
        settings: fields of `Config` that were given.
        training: fields of `Training` that were given.
        base: a config to begin from.
        texts: the axes, each as `KEY=VALUES`.
        sampler: what draws settings; where all are lists a grid if not given, else TPE.
        pruner: what ends trials early; none with a grid if not given, else by the median.

    Raises:
        KilonetError: if any of it won't do.
    """
    found = space.parse(texts)
    axes = found.axes
    for axis in axes:
        if axis.key in {**settings, **training}:
            raise ConfigError(f"{axis.key} is both set and swept", f"leave out --{axis.key.replace('_', '-')}")
    whole = resolve(settings, {**training, **{k: v for k, v in found.corner.items() if k != "model"}}, base)
    if whole.committee > 1:
        raise ConfigError("a sweep trains single nets", "leave out --committee, and train one with the winner's config")
    own = named_files([whole.model, *(str(v) for axis in axes if axis.key == "model" for v in axis.values)])
    axes = tuple(replace(a, values=tuple(map(short_name, a.values))) if a.key == "model" else a for a in axes)
    drawn = sampler or ("tpe" if any(not axis.values for axis in axes) else "grid")
    spec = Spec(
        settings={**settings, "model": short_name(settings["model"])} if "model" in settings else settings,
        training=training,
        base=None if base is None else {**asdict(base), "model": short_name(base.model)},
        texts=tuple(map(str, axes)),
        sampler=drawn,
        pruner=pruner or ("none" if drawn == "grid" else "median"),
        parts={},
        own={name: file_checksum(path) for name, path in own.items()},
    )
    if drawn == "grid":
        spec.space.grid(0)
    spec.space.check(spec.config)
    source = spec.first.source
    splits = split(sources.load(source), spec.first.split, spec.first.split_seed or 0)
    if splits.val is None:
        raise ConfigError(
            f"under the split {splits.how!r} nothing validates, and a sweep is scored on validation images"
        )
    planned = Planned(replace(spec, parts=parts_of(splits)), source, own)
    _check_models(planned, splits.train)
    return planned


def _check_models(planned: Planned, train: Any) -> None:
    """Make sure that each model fits the data and its engine."""
    world.device(planned.spec.first.training.device)
    for name in planned.spec.models:
        model = build(planned.files.get(name, name), train)
        if is_file(name):
            rehearse(model, train)
        engines.choose(planned.spec.first.training.engine, model)


def begin(planned: Planned, project: Path, name: str | None, storage: str | None, say: Callable[[str], None]) -> Sweep:
    """Begin a sweep, go on with it, or join it: what the database holds under its name decides.

    Args:
        planned: what it is.
        project: the folder of the runs.
        name: of the sweep; its identity if not given.
        storage: URL of a database; a SQLite file in its folder if not given.
        say: told, in lines, what it waits for.

    Raises:
        ConfigError: if the name means something else already.
        RunError: if it is of another version of Kilonet, or the database won't do.
    """
    name = files.check_name(name or f"sweep-{planned.spec.identity[:8]}", "the sweep's name")
    path = project / name
    _check_folder(path, planned.spec)
    new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        sweep = _opened(planned, name, path, storage, say)
    except KilonetError:
        if new:
            with suppress(OSError):
                path.rmdir()
        raise
    if not (path / "sweep.toml").exists():
        files.write(path / "sweep.toml", _toml({"storage": sweep.database, **planned.spec.document()}))
    return sweep


def _opened(planned: Planned, name: str, path: Path, storage: str | None, say: Callable[[str], None]) -> Sweep:
    url = storage or sqlite_url(path / "study.db")
    database = Database(url, say)
    found = from_document(Ledger(database, name).note(planned.spec.document()))
    if found.identity != planned.spec.identity:
        raise ConfigError(
            f"{name} is another sweep in {database.shown}: {_difference(found, planned.spec)}",
            "give another --name, or none; to go on with that sweep leave out --set and its settings",
        )
    return Sweep(planned, name, path, url, database.shown, _again(name, path, storage))


def _again(name: str, path: Path, storage: str | None) -> str:
    words = ["kilonet sweep --name", name]
    words += [] if path.parent == Path("runs") else ["--project", str(path.parent)]
    return " ".join([*words, *(["--storage URL"] if storage else [])])


def join(
    project: Path, name: str, storage: str | None, source: str | None, own: dict[str, str], say: Callable[[str], None]
) -> Sweep:
    """Go on with a sweep, or join it, by its name.

    Args:
        project: the folder of the runs.
        name: of the sweep.
        storage: URL of its database; the SQLite file in its folder if not given.
        source: its data, where that has another name here.
        own: files of models of the user's own, by `file.py:ClassName`.
        say: told, in lines, what it waits for.

    Raises:
        RunError: if there is no such sweep, or it is of another version of Kilonet.
        ModelError: if it trains a model of a user's own file that was not given.
    """
    files.check_name(name, "the sweep's name")
    file = project / name / "study.db"
    if storage is None and not file.is_file():
        raise RunError(f"no sweep {name} in {project}", "begin one: kilonet sweep SOURCE --set KEY=VALUES")
    database = Database(storage or sqlite_url(file), say)
    if (noted := Ledger.peek(database, name)) is None:
        raise RunError(f"no sweep {name} in {database.shown}", "begin one: kilonet sweep SOURCE --set KEY=VALUES")
    spec = from_document(noted)
    spec.check_files(own)
    used = {key: path for key, path in own.items() if key in spec.own}
    if set(own) - set(used):
        raise ModelError(f"the sweep trains no {next(iter(set(own) - set(used)))}", "leave out --model")
    planned = Planned(spec, source or spec.first.source, used)
    load(spec, planned.source)
    return begin(planned, project, name, storage, say)


def _check_folder(path: Path, spec: Spec) -> None:
    """Make sure that a folder is this sweep's, or free."""
    if not path.exists():
        return
    if not (path / "sweep.toml").is_file():
        if path.is_dir() and {entry.name for entry in path.iterdir()} <= {"study.db", "study.db-journal"}:
            return
        raise ConfigError(f"{path} exists already, and is no sweep", "give another --name, or none")
    if read_table(path / "sweep.toml").get("identity") != spec.identity:
        raise ConfigError(
            f"{path} is another sweep: its settings, its space or its data are not these",
            "give another --name, or none; to go on with that sweep leave out --set and its settings",
        )


def _difference(found: Spec, ours: Spec) -> str:
    """What of two sweeps is not the same."""
    if found.parts != ours.parts:
        return "its data is not this"
    if found.texts != ours.texts:
        return f"its space is {'; '.join(found.texts)}"
    names = ("sampler", "pruner", "own")
    return next((f"its {name} is another" for name in names if getattr(found, name) != getattr(ours, name)),
                "its settings are not these")  # fmt: skip


def _toml(document: dict[str, Any]) -> str:
    return tomli_w.dumps({key: value for key, value in json.loads(json.dumps(document)).items() if value is not None})


def work(
    sweep: Sweep, trials: int, seconds: float | None, workers: int, watch: Callable[[Counts], None],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Do a sweep's trials, side by side, until there are as many as asked for or the time is over.

    Args:
        sweep: from `begin`.
        trials: how many there are to be, on all machines.
        seconds: after which no further one is begun here.
        workers: processes, at least 1.
        watch: told how far it is, on all machines.
        say: told, in lines, what goes wrong meanwhile.

    Raises:
        AwayError: if the database was away for too long; results are kept then.
        RunError: if every process died, or there is no room.
        Interrupted: after Ctrl-C or SIGTERM; the trials that ran are open again.
    """
    with on_request() as stop:
        stop.hint = f"go on: {sweep.again}"
        unsent = sweep.path / "unsent"
        sent, late = send_all(unsent, Ledger(Database(sweep.url, say), sweep.name), sweep.spec)
        if sent or late:
            say(f"kept results: {sent} sent, {late} made again meanwhile")
        until = float("inf") if seconds is None else time.time() + seconds
        own = sweep.planned
        job = Job(own.spec, own.source, own.files, sweep.url, sweep.name, unsent, trials, until)
        endings = side_by_side(
            job,
            range(workers),
            workers,
            lambda _, told: watch(told) if isinstance(told, Counts) else say(str(told)),
            _RETRIES,
            lambda number, how: say(f"worker {number}: {how}; another takes its place"),
        )
    if all(isinstance(ending, Died) for ending in endings):
        raise RunError(f"every worker died: {endings[0]}", f"kilonet doctor examines this machine; then {sweep.again}")
    if "away" in endings:
        kept = len(list(unsent.glob("[!.]*.json")))
        told = f" but {kept}, kept in {unsent}" if kept else ""
        raise AwayError(
            f"{sweep.database} was away for too long; all trials that ended are in it{told}",
            f"when it is back, go on: {sweep.again}",
        )


def finished(sweep: Sweep) -> Standing:
    """How the sweep stands.

    Raises:
        RunError: if no trial is complete.
    """
    standing = Ledger(Database(sweep.url), sweep.name).standing()
    if standing.best() is None:
        wrong = next(
            (t.user_attrs["result"]["wrong"] for t in standing.done.values() if t.user_attrs["result"]["wrong"]), None
        )
        if wrong is None:
            raise RunError(f"no trial of {sweep.name} is complete yet", f"go on: {sweep.again}")
        raise RunError(
            f"every trial of {sweep.name} went wrong, such as: {wrong}", "begin another one, over another space"
        )
    return standing
