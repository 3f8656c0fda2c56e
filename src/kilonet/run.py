"""A run from its config to its figures: started, finished, and gone on with after whatever stopped it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonet import engines, files, measuring, ranks, rundir, seals, shelf, stock, world
from kilonet.config import Config
from kilonet.doctor.training import diagnose
from kilonet.errors import ConfigError, DivergedError, Interrupted, ModelError, RunError
from kilonet.models import Classifier, build, is_file, rehearse
from kilonet.progress import Progress
from kilonet.rundir import Run
from kilonet.state import State, begin
from kilonet.stopping import Stop, on_request
from kilonet.train import advance, epochs, ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kilonet.doctor.finding import Finding
    from kilonet.history import Epoch
    from kilonet.images import ImageSet, Splits
    from kilonet.stock import Stock

    Watch = Callable[[State | Epoch], None]
    Say = Callable[[str], None]
    Load = Callable[[str, str, int], Stock]


_IN_BLOCKS = (
    "the training images stay in their file: batches come from runs of it that are mixed (--batch-order blocks)"
)


@dataclass(frozen=True)
class Plan:
    """A training made ready, before anything is written.

    Attributes:
        config: with every setting resolved.
        stock: what the config's source gives, split.
        model: with its initial weights.
        model_file: where a model of the user's own comes from, else None.
        engine: what computes it, for people.
    """

    config: Config
    stock: Stock
    model: Classifier
    model_file: str | None
    engine: str = ""

    @property
    def data(self) -> ImageSet:
        """What the config's source gives."""
        return self.stock.data

    @property
    def splits(self) -> Splits:
        """Its parts."""
        return self.stock.splits

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, and how it is gone through, where that should be known."""
        in_blocks = self.splits.train.is_large and self.config.training.batch_order == "blocks"
        return (*self.data.notes, *self.splits.notes, *((_IN_BLOCKS,) if in_blocks else ()))


def plan(config: Config, model_file: str | None = None, load: Load = stock.load) -> Plan:
    """Load, split and build what a config asks for; nothing is written.

    Args:
        config: what is asked for.
        model_file: the file of the user's own model, where it is not the one that the config names.
        load: gives a source, split; one that keeps what it gave spares many trainings of the same the loading.

    Raises:
        KilonetError: if any of it won't do.
    """
    world.device(config.training.device)
    threads = world.set_threads(config.training.threads)
    config = replace(config, training=replace(config.training, threads=threads))
    seed = config.training.seed if config.split_seed is None else config.split_seed
    found = load(config.source, config.split, seed)
    train = found.splits.train
    name = model_file or config.model
    model = build(name, train, config.training.seed)
    if is_file(name):
        rehearse(model, train)
    model.to(world.device(config.training.device))
    engine = engines.choose(config.training.engine, model)
    training = ordered(config.training.over(len(train)), train)
    config = replace(config, training=replace(training, engine=engine.name))
    return Plan(config, found, model, name if is_file(name) else None, engine.about)


def first_step(made: Plan) -> float:
    """The loss of one step over the first batch, in nats; nothing is written."""
    training = replace(made.config.training, epochs=1)
    few = made.splits.train.take(slice(0, training.batch_size))
    return next(epochs(made.model, replace(made.splits, train=few, val=None, test=None), training)).train_loss


def start(made: Plan, project: Path, name: str | None = None, **more: str) -> Run:
    """A new run directory for what was planned; nothing is trained yet.

    Args:
        made: from `plan`.
        project: the folder of the runs.
        name: of the run, or None for the first that is free.
        **more: what else the run's `state/` shall hold from its first moment, by name.

    Raises:
        ConfigError: if the name is taken or would leave the project.
        RunError: if the directory can't be made.
    """
    notes = {"notes": list(made.notes)} if made.notes else {}
    text = seals.config_text(made.config, {**made.stock.parts, **notes})
    kept = {f"state/{file}": content for file, content in more.items()}
    return create(project, name, {"config.toml": text, "state/split.npz": made.stock.split_npz, **kept})


def create(project: Path, name: str | None, contents: dict[str, bytes | str]) -> Run:
    """A new run directory, as `shelf.create` makes it; a signal that comes meanwhile is told how to go on with it."""
    with on_request() as stop, stop.later():
        run = shelf.create(project, name, contents)
        stop.hint = stop.hint or f"go on: {ranks.command(f'kilonet resume {run.path}')}"
    return run


def finish(
    run: Run, made: Plan, watch: Watch = lambda _: None, say: Say = lambda _: None, whole: Run | None = None
) -> list[Finding]:
    """Train a run to its end, from its newest good checkpoint if it has one, and measure it.

    Ctrl-C and SIGTERM let the step or the piece of the measurement that runs end, and save.

    Args:
        run: from `start`.
        made: what it was started with, or `plan` of its config.
        watch: told the state after each step, and the record after each epoch.
        say: told, in lines, where the run goes on from.
        whole: the run that this one is a part of, if it is one of several seeds.

    Returns:
        What the training doctor finds.

    Raises:
        DivergedError: if the loss is no finite number any more; what was good is kept.
        RunError: if the run is being trained already, or its folder can't be written to.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    again = ranks.command(f"kilonet resume {(whole or run).path}")
    with on_request() as stop:
        with writing(run, again), rundir.held(run), stop.later():
            state = begin(made.model, len(made.splits.train), made.config.training)
            progress = Progress(run.path, made.config.save_every, run.identity())
            for line in progress.restore(state):
                say(line)
            _make_ready(run, made)
            stop.hint = f"go on: {again}"
            train(state, made, progress, watch, stop)
            model = run.model(made.model_file)

            def pause() -> None:
                if stop.asked:
                    raise Interrupted("interrupted after the last epoch, before its figures were done", stop.hint)

            reports = measuring.complete(run, model, made.splits, progress.spent, pause)
            if whole is None:
                stop.hint = f"the run is done: {again} shows it"
        return diagnose(made.config, run.history(), model, made.splits.train, made.splits.val, reports)


def _make_ready(run: Run, made: Plan) -> None:
    """Bring the files of a run that is held into line with what was planned."""
    config, parts = run.untouched_config()
    if config.training.epochs > made.config.training.epochs:
        raise RunError(f"{run.path} was given more epochs meanwhile", f"go on: kilonet resume {run.path}")
    run.unseal()
    make_folders(run, made)
    if made.config != config:
        run.rewrite_config(made.config, parts)


def make_folders(run: Run, made: Plan) -> None:
    """Make a run's folders again where they were deleted, and write its split."""
    for folder in (run.path / "state", run.path / "weights"):
        if not folder.exists():
            folder.mkdir()
    files.write(run.path / "state" / "split.npz", made.stock.split_npz)


def train(state: State, made: Plan, progress: Progress | None, watch: Watch, stop: Stop) -> None:
    """Train to the end, with checkpoints on the way, and one there.

    Where several ranks train together, each does so from rank 0's state; only rank 0 has a `progress`.
    """

    def after_step(now: State) -> None:
        watch(now)
        if progress and (stop.due or progress.due(now)):
            progress.save(now)
        if stop.due:
            ranks.wait()
            where = f"epoch {now.epoch + 1}, step {now.step}"
            raise Interrupted(f"interrupted in {where}, and saved", stop.hint)

    saved = -1
    stop.hint = ranks.tell(stop.hint)
    state.share()
    try:
        for record in advance(state, made.splits, made.config.training, after_step):
            watch(record)
            if progress and progress.due(state):
                progress.save(state)
                saved = state.epoch
    except DivergedError as error:
        if progress:
            progress.note_failure(state, error)
        ranks.wait()
        raise
    finally:
        stop.agreed = None
    if progress and saved < state.epoch:
        progress.save(state)


@contextmanager
def writing(run: Run, again: str) -> Iterator[None]:
    """Say what happened to a run where a file of it can't be written.

    Raises:
        RunError: for an `OSError` that a file of the run gave.
    """
    try:
        yield
    except OSError as error:
        if not run.path.is_dir():
            raise RunError(f"{run.path} has vanished while it was trained") from None
        if error.filename is None or not Path(error.filename).is_relative_to(run.path):
            raise
        raise RunError(
            f"can't write {error.filename}: {error.strerror}",
            f"what was saved before is whole: make room or mend the folder, then {again}",
        ) from None


def prepare(
    run: Run,
    epochs: int | None = None,
    model_file: str | None = None,
    say: Say = lambda _: None,
    load: Load = stock.load,
) -> Plan | None:
    """Plan how an interrupted run goes on, or a finished one for more epochs; None if it is done and whole.

    Nothing is written: another process may be training the run.

    Args:
        run: from `kilonet.shelf.find`.
        epochs: train for so many epochs in all, as many as the run was to have or more; the constant schedule permits
            more.
        model_file: `path/to/file.py:ClassName`, for a run of a model of the user's own.
        say: told, in lines, what of the run is damaged.
        load: as `plan` has it.

    Raises:
        ConfigError: if the epochs won't do.
        ModelError: if the model's file is needed.
        RunError: if the run can't go on: its training went wrong, or its config or its data is not as it was.
    """
    with on_request() as stop:
        more = "" if epochs is None else f" --epochs {epochs}"
        stop.hint = stop.hint or f"go on: {ranks.command(f'kilonet resume {run.path}{more}')}"
        return _prepared(run, epochs, model_file, say, load)


def _prepared(run: Run, epochs: int | None, model_file: str | None, say: Say, load: Load) -> Plan | None:
    config, parts = run.untouched_config()
    if (failed := run.failure()) is not None:
        raise RunError(
            f"{run.path} went wrong in epoch {failed['epoch']} (its loss was {failed['loss']}): it would do so again",
            f"train anew with a lower --lr: kilonet train --config {run.path / 'config.toml'} --lr ...",
        )
    longer = extended(config, epochs)
    if longer is config and run.finished() and not run.damaged():
        return None
    for name in run.damaged():
        say(f"{run.path / name} is damaged or gone: it is made again")
    return plan_again(run, longer, parts, model_file, load)


def plan_again(
    run: Run, config: Config, parts: dict[str, Any], model_file: str | None, load: Load = stock.load
) -> Plan:
    """Plan what a run was planned as.

    Args:
        run: the run.
        config: its config, perhaps with more epochs.
        parts: of its data, as its `config.toml` names them.
        model_file: `path/to/file.py:ClassName`, for a run of a model of the user's own.
        load: as `plan` has it.

    Raises:
        ModelError: if the model's file is needed.
        RunError: if the data is not as it was.
    """
    check_model_file(run, config, model_file)
    made = plan(config, model_file, load)
    if made.stock.parts != {name: kept for name, kept in parts.items() if name != "notes"}:
        raise RunError(
            f"{config.source} has changed since {run.path} began: its parts are not those of config.toml",
            "put the data back, or train anew",
        )
    return made


def check_model_file(run: Run, config: Config, model_file: str | None) -> None:
    """Make sure that a model of the user's own was given.

    Raises:
        ModelError: if the config names one, and it was not.
    """
    if is_file(config.model) and model_file is None:
        raise ModelError(
            f"{run.path} trains {config.model!r}, which is not imported because a config says so",
            "give it: --model path/to/file.py:ClassName",
        )


def extended(config: Config, epochs: int | None) -> Config:
    """The config with more epochs; itself where none are asked for, or as many as it has.

    Raises:
        ConfigError: if the schedule depends on their number, or these are fewer.
    """
    if epochs is None or epochs == config.training.epochs:
        return config
    if config.training.schedule != "constant":
        raise ConfigError(
            f"--epochs can't be changed under {config.training.schedule}: every learning rate depends on their number",
            "train anew, or with --schedule constant",
        )
    if epochs < config.training.epochs:
        raise ConfigError(f"epochs = {epochs} won't do: expected more than the run's {config.training.epochs}")
    return replace(config, training=replace(config.training, epochs=epochs))
