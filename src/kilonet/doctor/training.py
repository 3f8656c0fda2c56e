"""The training doctor: what is wrong with a run, why, and what to try."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kilonet import metrics
from kilonet.config import weight_file
from kilonet.doctor import curves, scores, units
from kilonet.doctor.finding import Finding
from kilonet.doctor.view import View, look, undisturbed
from kilonet.errors import KilonetError, ModelError, RunError
from kilonet.evaluation import evaluate
from kilonet.files import printable
from kilonet.history import History
from kilonet.records import read_npz

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from kilonet.config import Config
    from kilonet.history import Epoch
    from kilonet.images import ImageSet
    from kilonet.metrics import Report
    from kilonet.models import Classifier
    from kilonet.rundir import Run

T = TypeVar("T")


def diagnose(
    config: Config,
    history: History,
    model: Classifier,
    train: ImageSet,
    val: ImageSet | None,
    reports: Mapping[str, Report],
) -> list[Finding]:
    """What is wrong with a training; nothing for a healthy one.

    The model, its mode and PyTorch's global generator stay as they are.

    Args:
        config: what the run was made from.
        history: its epochs.
        model: the measured weights.
        train: the images it was trained on; 1,000 of them at most are looked at.
        val: the images that chose; measured here if `reports` lacks them.
        reports: of `val` and `test`, where there are such.
    """
    view = look(model, train)
    if broken := units.broken(model, view):
        return [broken]
    if "val" not in reports and val is not None:
        try:
            with undisturbed(model) as copy:
                reports = {**reports, "val": evaluate(copy, val, config.training.val_batch_size)}
        except ModelError as error:
            return [
                Finding("broken-weights", error.message, "no answer can be read from such logits", error.hint or "")
            ]
    moved = units.moved(model, config.training.seed)
    return _weigh(config, history, model.classes, train.counts(), view, reports, moved)


def examine(run: Run, model_file: str | None = None) -> list[Finding]:
    """What is wrong with a run directory, finished or not; what can't be read is said, and the rest examined.

    A committee has no curves of its own: it is examined by its weights and its scores, its members one by one.

    Args:
        run: the run; its test images are not read, only what was written about them.
        model_file: `path/to/file.py:ClassName` for a model of the user's own.

    Raises:
        KilonetError: if its config or the note of its failure is damaged, or it has nothing to examine yet.
    """
    config, failure = run.config, run.failure()
    found = [] if failure is None else [_diverged(failure, config.training.lr)]
    reading = _Reading()
    history = reading.have(run.history, run.path / "results.csv") or History()
    measured, committee = run.path / weight_file(config), config.committee > 1
    weights = run.weights or measured
    model = reading.have(lambda: run.model(model_file), weights)
    if not committee and model is None and not history.epochs and not found and not reading.failed:
        raise RunError(f"{run.path} has nothing to examine yet", "train it first: no epoch is done")
    parts = reading.have(lambda: (run.part("train"), run.part("val")), run.path / "state" / "split.npz")
    train, val = parts or (None, None)
    classes = next((known.classes for known in (model, train) if known is not None), None)
    reports: dict[str, Report] = {}
    if weights.name == measured.name and (run.path / "metrics.json").is_file():
        reports = reading.have(lambda: _reports(run, classes), run.path / "predictions.npz") or {}
    if model is not None and train is not None and not committee:
        found += diagnose(config, history, model, train, val, reports)
    elif model is not None and (broken := units.broken(model, None)):
        found.append(broken)
    elif known := classes or next((_names(report) for report in reports.values()), None):
        found += _weigh(config, history, known, None if train is None else train.counts(), None, reports)
    return [*found, *reading.failed]


def _weigh(
    config: Config,
    history: History,
    classes: tuple[str, ...],
    counts: NDArray[np.int64] | None,
    view: View | None,
    reports: Mapping[str, Report],
    moved: float | None = None,
) -> list[Finding]:
    """The findings, causes first, without those that another one explains."""
    if wrong := next((record for record in history.epochs if not _finite(record)), None):
        failure = {"epoch": wrong.epoch, "step": None, "loss": str(wrong.val_loss)}
        return [_diverged(failure, config.training.lr)]
    course = curves.Curves.of(config.training, history, counts, len(classes))
    part = next((name for name in ("val", "test") if name in reports), "")
    report = reports.get(part)
    learned = None if view is None else view.right
    dead = scores.dead_classes(reports, view, counts, classes)
    cut = dead if dead is not None and dead.evidence["cause"] is not None else None
    inside = _made(cut)
    if view is not None:
        inside += _made(units.squashed(view), units.dead_units(view, config.training.lr))
    if not _blocked(inside, view) and (still := curves.standing_still(course, moved)):
        return [*inside, still]
    if not inside and (low := curves.too_low(course, moved)):
        return [low]
    high = curves.too_high(course)
    flat = None if report is not None and scores.knows(report) else curves.not_falling(course)
    found = [*inside, *_made(high, flat)]
    if report is not None and cut is None and not course.early:
        lost = scores.collapse(reports, counts, classes)
        explained = inside or (lost is not None and lost.evidence["cause"] is not None)
        answers = _made(None if explained else scores.guessing(report, part, learned), lost or dead)
        found += answers
        if not inside and not answers:
            found += _settled(course, report, part, view, high)
    return [*found, *_made(scores.contradiction(reports))]


def _blocked(inside: list[Finding], view: View | None) -> bool:
    """Whether a net can't move for want of a gradient: units are dead, or every logit is the same for every image."""
    dead = any(finding.name == "dead-units" for finding in inside)
    return dead or (view is not None and len(view.constant) == view.logits.shape[1])


def _settled(
    course: curves.Curves, report: Report, part: str, view: View | None, high: Finding | None
) -> list[Finding]:
    """What may be wrong with a net that has learned something; `high` says that its steps overshoot."""
    more = scores.overshooting(view, course.training.lr) if high is None and view is not None else None
    learned = None if view is None else view.right
    over = None if high or more else curves.overfitting(course, report, learned)
    return _made(more, over, scores.miscalibration(report, part, course.flat))


def _finite(record: Epoch) -> bool:
    return math.isfinite(record.train_loss) and (record.val_loss is None or math.isfinite(record.val_loss))


def _made(*findings: Finding | None) -> list[Finding]:
    return [finding for finding in findings if finding is not None]


class _Reading:
    """What could be had of a run, and a finding for each thing that is there but can't be used."""

    def __init__(self) -> None:
        self.failed: list[Finding] = []

    def have(self, get: Callable[[], T], needs: Any) -> T | None:
        """What `get` gives, or None where its file is not there or can't be used."""
        if not needs.is_file():
            return None
        try:
            return get()
        except KilonetError as error:
            why = "the rest of the run was examined without it"
            hint = error.hint or "put it back, and look again"
            self.failed.append(Finding("not-examined", error.message, why, hint, evidence={"file": needs.name}))
            return None


def _names(report: Report) -> tuple[str, ...]:
    return tuple(score.name for score in report.classes)


def _reports(run: Run, classes: tuple[str, ...] | None) -> dict[str, Report]:
    """The reports behind `predictions.npz`: `{part}_probabilities`, `{part}_labels`, and `classes`."""
    path = run.path / "predictions.npz"
    arrays = read_npz(path)
    try:
        names = tuple(printable(str(name)) for name in arrays["classes"])
        if classes is not None and names != classes:
            raise ValueError("other classes")
        parts = [name for name in ("val", "test") if f"{name}_labels" in arrays]
        return {name: _report(arrays[f"{name}_probabilities"], arrays[f"{name}_labels"], names) for name in parts}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} can't be read: {type(error).__name__}") from None


def _report(probabilities: NDArray[Any], labels: NDArray[Any], names: tuple[str, ...]) -> Report:
    if probabilities.shape != (len(labels), len(names)) or not len(labels) or not np.isfinite(probabilities).all():
        raise ValueError("not probabilities")
    if labels.dtype.kind != "i" or labels.min() < 0 or labels.max() >= len(names):
        raise ValueError("not labels")
    return metrics.report(np.log(np.maximum(probabilities, 1e-300)), labels, names, np.arange(len(labels)))


def _diverged(failure: dict[str, Any], lr: float) -> Finding:
    epoch, step, loss = failure["epoch"], failure["step"], failure["loss"]
    where = f"epoch {epoch}, step {step}" if step is not None else f"the validation after epoch {epoch}"
    kept = (
        f"the weights kept are those after epoch {epoch - 1}" if epoch > 1 else "no epoch was done: no weights are kept"
    )
    return Finding(
        "diverged",
        f"the loss was {loss} in {where}; the training stopped there",
        f"steps of {lr:g} were too large, or the model itself gives such numbers; {kept}",
        f"lower the learning rate: --lr {lr / 10:g}; if it goes wrong all the same, look for a log, a square root or a "
        "division in the model",
        evidence=failure,
    )
