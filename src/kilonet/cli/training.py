"""`train` and `resume`: runs started, and gone on with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kilonet.cli.app import RUNS, answer, app
from kilonet.cli.ranked import as_one
from kilonet.config import Config, Training, read_toml, resolve
from kilonet.errors import ConfigError
from kilonet.flags import Json, ModelFile, Project, TrainingFlags, Whole

if TYPE_CHECKING:
    from kilonet.doctor.finding import Finding
    from kilonet.run import Plan
    from kilonet.rundir import Run


@app.command
def train(
    source: str | None = None,
    /,
    *,
    model: str | None = None,
    preset: str | None = None,
    split: str | None = None,
    seeds: Whole | None = None,
    committee: Whole | None = None,
    training: Annotated[TrainingFlags | None, Parameter(name="*")] = None,
    save_every: float | None = None,
    config: Path | None = None,
    project: Project = RUNS,
    name: str | None = None,
    dry_run: bool = False,
    json: Json = False,
) -> None:
    """Train a model, measure it, and leave weights, figures and pictures in a run directory.

    Parameters
    ----------
    source
        A known name, openml:NAME_OR_ID, or a path; mnist-5k if not given.
    model
        A name of the zoo, or path/to/file.py:ClassName; kilo-16k if not given.
    preset
        A whole experiment: tutorial-linear, tutorial-cnn or fast.
    split
        standard, full, tutorial, or fractions such as 70/15/15.
    seeds
        Independent runs, with one seed after another.
    committee
        Nets of one committee, with one seed after another: one model, whose answer is their mean probability.
    save_every
        Seconds between checkpoints inside an epoch, for kilonet resume. [default: 30]
    config
        Begin from this config.toml of a run.
    name
        Name of the run; train, train2, ... if not given.
    dry_run
        Load, split, build and take one step; write nothing.
    """
    with as_one():
        chosen = _chosen(source, model, preset, split, seeds, committee, save_every, training, config)
        _train(chosen, project, name, dry_run, json)


def _train(chosen: Config, project: Path, name: str | None, dry_run: bool, json: bool) -> None:
    """Train what was chosen, or go on with it where torchrun has restarted this."""
    from kilonet import display, ranks, shelf, together
    from kilonet.doctor.data import examine_briefly
    from kilonet.models import is_file
    from kilonet.seeds import start_committee, start_seeds

    before = together.only_first(lambda: together.begun(project))
    if ranks.tell(before is not None):
        _resume(before, json, model=chosen.model if is_file(chosen.model) else None)
        return
    if name is not None and not ranks.number():
        shelf.check_free(project, name)
    made = together.planned(chosen)
    if ranks.number() and not dry_run:
        together.help_out(made)
        return
    notes = list(made.notes)
    for note in notes:
        display.say(f"note: {note}")
    display.findings_in_short(findings := examine_briefly(made.splits))
    if dry_run:
        _dry_run(made, json)
    elif chosen.committee > 1:
        found, model_file = start_committee(made, project, name), made.model_file
        del made  # the data is loaded again where the seeds are trained
        _finish_committee(found, json, (notes, findings), model=model_file)
    elif chosen.seeds > 1:
        found = start_seeds(made.config, project, name)
        del made  # likewise
        _finish_seeds(found, json)
    else:
        _finish(together.start(made, project, name), made, json, findings)


@app.command
def resume(
    run: str = "last", /, *, epochs: Whole | None = None, model: ModelFile = None, project: Project = RUNS,
    json: Json = False,
) -> None:  # fmt: skip
    """Go on with an interrupted run, to the very bits that it would have had; a finished one is left alone.

    Parameters
    ----------
    run
        A run directory, a name in the project, or last.
    epochs
        Train for so many epochs in all, more than the run was to have; only under the constant schedule.
    """
    from kilonet import shelf, together

    with as_one():
        found = together.only_first(lambda: shelf.find_directory(run, project))
        _resume(found, json, epochs, model)


def _resume(found: Run | None, json: bool, epochs: int | None = None, model: str | None = None) -> None:
    """Go on with a run, of one training or of several; rank 0 alone has it."""
    from kilonet import display, ranks, together

    together.check_one_net(ranks.tell(1 if found is None else len(found.config.numbers)))
    if found is not None and found.config.committee > 1:
        _finish_committee(found, json, ([], []), epochs, model)
        return
    if found is not None and found.config.seeds > 1:
        _finish_seeds(found, json, epochs, model)
        return
    made = together.prepared(found, epochs, model, display.say)
    if found is None:
        if made is not None:
            together.help_out(made)
    elif made is None:
        display.say(f"{found.path} is finished: nothing to do")
        _tell(found, [], [], json)
    else:
        _finish(found, made, json, [])


def _finish(found: Run, made: Plan, json: bool, findings: list[Finding]) -> None:
    """Train a run to its end, in sight; the findings are those of its data."""
    from kilonet import display, run

    if made.engine.startswith("torch, since"):
        display.say(f"note: engine {made.engine}")
    with display.TrainingDisplay() as shown:
        own = run.finish(found, made, shown.watch(made), display.say)
    display.findings_in_short(own)
    _tell(found, list(made.notes), [*findings, *own], json)


def _finish_committee(
    found: Run, json: bool, told: tuple[list[str], list[Finding]], epochs: int | None = None, model: str | None = None
) -> None:
    """Train a committee to its end, in sight; told are the notes and the findings of its data."""
    from kilonet import display

    if epochs is None and found.finished() and not found.damaged():
        display.say(f"{found.path} is finished: its members are looked through")
    summary = _finished_seeds(found, epochs, model)
    _tell(found, *told, json, summary)


def _finished_seeds(found: Run, epochs: int | None, model: str | None) -> dict[str, Any]:
    """The summary of several seeds or of a committee, trained to their end in sight."""
    from kilonet import display
    from kilonet.seeds import finish_seeds

    with display.TrainingDisplay() as shown:
        return finish_seeds(found, shown.watch, display.say, epochs, model, shown.beside(found.config, epochs))


def _finish_seeds(found: Run, json: bool, epochs: int | None = None, model: str | None = None) -> None:
    from kilonet import display

    summary = _finished_seeds(found, epochs, model)

    def tell() -> None:
        display.seeds(summary)
        display.line(f"runs      {found.path}")
        display.line(f"picture   {found.path / 'distribution.png'}")

    answer({"run": str(found.path), **summary}, json, tell)


def _tell(
    found: Run, notes: list[str], findings: list[Finding], json: bool, members: dict[str, Any] | None = None
) -> None:
    """What came out of a run, and of the members of a committee."""
    from kilonet import display

    metrics, config = found.metrics(), found.config

    def tell() -> None:
        display.trained(config, metrics, members)
        display.line(f"run       {found.path}")

    told = [asdict(finding) for finding in findings]
    inside = {} if members is None else {"members": members}
    answer({"run": str(found.path), "notes": notes, "findings": told, **metrics, **inside}, json, tell)


def _chosen(
    source: str | None, model: str | None, preset: str | None, split: str | None, seeds: int | None,
    committee: int | None, save_every: float | None, training: Training | None, config: Path | None,
) -> Config:  # fmt: skip
    """The config that the flags ask for."""
    settings, flags, base = asked_for(source, model, preset, split, seeds, training, config)
    more = {"committee": committee, "save_every": save_every}
    return resolve(settings | {key: value for key, value in more.items() if value is not None}, flags, base)


def asked_for(
    source: str | None, model: str | None, preset: str | None, split: str | None, seeds: int | None,
    training: Training | None, config: Path | None,
) -> tuple[dict[str, Any], dict[str, Any], Config | None]:  # fmt: skip
    """What the flags say: fields of a config, fields of its training, and a config to begin from."""
    from kilonet.models import is_file

    if source and not _is_known(source) and Path(source).expanduser().exists():
        source = str(Path(source).expanduser().resolve())
    given: dict[str, Any] = {"source": source, "model": model, "preset": preset, "split": split, "seeds": seeds}
    settings = {key: value for key, value in given.items() if value is not None}
    flags = {key: value for key, value in (vars(training) if training else {}).items() if value is not None}
    base = read_toml(config) if config else None
    if base is not None and is_file(base.model) and model is None:
        raise ConfigError(
            f"{config} names a model from a file, {base.model!r}, which is not imported because a config says so",
            "give it: --model path/to/file.py:ClassName",
        )
    return settings, flags, base


def _is_known(source: str) -> bool:
    from kilonet import sources

    return source in sources.known()


def _dry_run(made: Plan, json: bool) -> None:
    from kilonet import display, run
    from kilonet.config import to_toml

    loss = run.first_step(made)
    parts = {name: len(part) for name, part in made.splits.parts().items()}
    nets = made.config.committee
    parameters = nets * made.model.parameter_count()

    def tell() -> None:
        display.line(to_toml(made.config).rstrip())
        counts = ", ".join(f"{name} {n:,}" for name, n in parts.items())
        of = f" in a committee of {nets}" if nets > 1 else ""
        display.line(f"\n{counts}; {parameters:,} parameters{of}; loss of the first step {loss:.4f}")
        display.line("a dry run: nothing was written")

    shown = {"config": asdict(made.config), "parts": parts, "parameters": parameters, "first_loss": loss}
    answer(shown, json, tell)
