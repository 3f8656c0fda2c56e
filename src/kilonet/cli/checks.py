"""`doctor` and `bench`: what is wrong, and what is fast."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kilonet.cli.app import RUNS, answer, app
from kilonet.errors import ConfigError, KilonetError
from kilonet.flags import Json, ModelFile, Project, Show, Whole

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.doctor.finding import Finding
    from kilonet.rundir import Run


@app.command
def doctor(
    target: str | None = None, /, *, labels: bool = False, show: Show = None, model: ModelFile = None,
    project: Project = RUNS, json: Json = False,
) -> None:  # fmt: skip
    """Say what is wrong with a data source, a run or, without either, this machine, and what to do about it.

    Parameters
    ----------
    target
        A source, as kilonet data takes it; or a run directory, a name in the project, or last.
    labels
        Look for wrong labels in a source, too: trains a few models, which takes minutes on 70,000 images.
    show
        Draw examples of a source's findings to this .png, .pdf or .svg.
    """
    from kilonet import files

    drawn = files.check_picture_target(show) if show else None
    found = _run_of(target, project) if target is not None else None
    if (labels or drawn) and (target is None or found is not None):
        raise ConfigError("--labels and --show are for a data source", "kilonet doctor SOURCE --labels")
    if target is None:
        _examine_machine(json)
    elif found is not None:
        _examine_run(found, model, json)
    else:
        _examine_source(target, labels, drawn, json)


def _run_of(target: str, project: Path) -> Run | None:
    """The run that a word means, unless it means a source."""
    from pathlib import Path

    from kilonet import shelf, sources

    if target in sources.known() or target.startswith("openml:"):
        return None
    path = Path(target).expanduser()
    if not path.exists() and (project / target).exists():
        path = project / target
    is_run = target == "last" or path.suffix == ".safetensors" or shelf.looks_like_run(path)
    return shelf.find(target, project) if is_run else None


def _examine_machine(json: bool) -> None:
    from kilonet import display
    from kilonet.doctor import machine

    described = machine.describe()
    findings, tried = machine.examine()

    def tell() -> None:
        display.description(described)
        if tried:
            display.line(f"smoke test      {display.percent(tried['accuracy'])} right, {tried['seconds']:.1f} s")
        display.findings(findings, "this machine")

    answer({**described, "smoke": tried, **_document(findings)}, json, tell)


def _examine_run(found: Run, model: str | None, json: bool) -> None:
    from kilonet import display, shelf
    from kilonet.doctor import damage, training

    inside = shelf.trainings(found)
    runs = inside if inside == [found] or found.config.seeds > 1 else [found, *inside]
    findings = {str(run.path): [*damage.examine(run), *training.examine(run, model)] for run in runs}

    def tell() -> None:
        for path, some in findings.items():
            display.findings(some, path)

    answer({"runs": [{"run": path, **_document(some)} for path, some in findings.items()]}, json, tell)


def _examine_source(source: str, labels: bool, drawn: Path | None, json: bool) -> None:
    from kilonet import display, plots, sources
    from kilonet.doctor import data

    loaded = sources.load(source)
    findings = data.examine(loaded)
    if labels:
        from kilonet.doctor.labels import label_errors

        with display.share("looking for wrong labels") as told:
            findings += [found] if (found := label_errors(loaded, watch=told)) else []
    if drawn is not None:
        plots.save(data.picture(loaded, findings), drawn)

    def tell() -> None:
        for note in loaded.notes:
            display.line(f"note: {note}")
        display.findings(findings, source)

    answer({"source": source, "notes": list(loaded.notes), **_document(findings)}, json, tell)


def _document(findings: list[Finding]) -> dict[str, Any]:
    return {"findings": [asdict(finding) for finding in findings]}


@app.command
def bench(
    source: str | None = None, /, *, repeats: Whole = 5, epochs: Whole = 15, threads: Whole | None = None,
    peers: bool = False, json: Json = False,
) -> None:  # fmt: skip
    """Time the tutorial's loop, PyTorch and the native engine side by side: the same data, the same work.

    Parameters
    ----------
    source
        28x28 grey images of ten classes; mnist if it is here, else mnist-5k.
    repeats
        Timed rounds of each comparison.
    epochs
        Epochs of the tutorial's trainings.
    threads
        CPU threads.
    peers
        Race the tutorial's trainings against JAX and torch.compile, too.
    """
    from kilonet import display, world
    from kilonet import sources as known
    from kilonet.bench import compare
    from kilonet.errors import DataError
    from kilonet.peers import missing

    for flag, value in (("repeats", repeats), ("epochs", epochs)):
        if value < 1:
            raise ConfigError(f"{flag} = {value} won't do: expected at least 1")
    world.set_threads(threads)
    if source is None:
        try:
            loaded = known.load(source := "mnist")
        except KilonetError as error:
            display.say(f"note: mnist is not here ({error.message}): mnist-5k instead")
            loaded = known.load(source := "mnist-5k")
    else:
        loaded = known.load(source)
    if loaded.shape != (1, 28, 28) or len(loaded.classes) != 10:
        raise DataError(f"{source}: the tutorial's models take 28x28 grey images of ten classes")
    for peer, takes in missing().items() if peers else ():
        display.say(f"note: {peer} is left out: it takes {takes}")
    found = compare(source, repeats, epochs, display.say, peers)
    answer(found, json, lambda: display.races(found))
