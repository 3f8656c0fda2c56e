"""What the scores say: classes that are never predicted, a collapse, guessing, a test that contradicts, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.doctor.finding import Finding
from kilonet.doctor.units import dead_by_layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kilonet.doctor.view import View
    from kilonet.metrics import Report

FEW = 10
"""Images that a class, or the classes missed, must have for their absence from the predictions to say something."""
KNOWS = 0.3
"""Cohen's kappa from which a net has plainly learned something, whatever its loss: confident mistakes raise that."""


def dead_classes(
    reports: Mapping[str, Report], view: View | None, counts: NDArray[np.int64] | None, classes: tuple[str, ...]
) -> Finding | None:
    """Classes that no measured image is predicted as, and what in the net cuts them off.

    Args:
        reports: of the measured parts.
        view: the net from inside, if it could be looked into.
        counts: int64, (K,): training images of each class, if they are known.
        classes: their names.
    """
    if not reports:
        return None
    confusion = _confusion(reports)
    images, predicted = confusion.sum(1), confusion.sum(0)
    stuck = np.zeros(len(classes), bool)
    if view is not None:
        stuck[view.constant] = True
    dead = ((predicted == 0) & (images >= FEW)) | (stuck & (images > 0))
    if not dead.any():
        return None
    names = [classes[k] for k in np.flatnonzero(dead & (predicted == 0))]
    ties = [classes[k] for k in np.flatnonzero(dead & (predicted > 0))]
    cause, why, advice = _cause(dead, stuck, view, counts, classes)
    told = [f"no image of {images.sum():,} is predicted as {listed(names)}"] if names else []
    told += [f"{listed(ties)} only where all logits are equal"] if ties else []
    return Finding(
        "dead-classes",
        "; ".join(told),
        why,
        advice,
        evidence={
            "never_predicted": names,
            "only_on_ties": ties,
            "images": {classes[k]: int(images[k]) for k in np.flatnonzero(dead)},
            "constant_logits": [classes[k] for k in np.flatnonzero(stuck)],
            "cause": cause,
            "dead_units": {} if view is None else dead_by_layer(view),
            "looked_at": 0 if view is None else len(view.labels),
        },
    )


def _cause(
    dead: NDArray[np.bool_],
    stuck: NDArray[np.bool_],
    view: View | None,
    counts: NDArray[np.int64] | None,
    names: tuple[str, ...],
) -> tuple[str | None, str, str]:
    """The layer that cuts classes off, if one does; why; and what to do."""
    which = listed([names[k] for k in np.flatnonzero(dead)])
    final = None if view is None else view.final
    if view is not None and final is not None and final.low.min() >= 0:
        off = final.units == len(names) and bool(dead[final.dead].any())
        how = f"gives 0 for {which} on every image of {len(view.labels):,}" if off else "cuts logits off at 0"
        return (
            final.name,
            f"{final.name}, the {final.kind} behind the last weighted layer, {how}: no gradient passes, none recovers",
            f"take that {final.kind} out, so that logits can be negative, or train a net without one: --model kilo-4k",
        )
    if counts is not None and not counts[dead].all():
        unseen = listed([names[k] for k in np.flatnonzero(dead & (counts == 0))])
        return None, f"the training part has no image of {unseen}", "use a split that draws every class into every part"
    if (dead & stuck).any():
        same = listed([names[k] for k in np.flatnonzero(dead & stuck)])
        why = f"the logit of {same} is the same for every image: its weights are zero, or no unit behind them is alive"
        return None, why, "lower the learning rate, or begin with another seed"
    if counts is not None and counts[dead].max() < counts.mean() / 5:
        why = f"the training part has at most {counts[dead].max()} of such a class, of the commonest {counts.max()}"
        return None, why, f"add images of {which}, or leave most of the common ones out"
    return None, "the other logits are greater on every image", "train for more epochs, or give the net more units"


def collapse(
    reports: Mapping[str, Report], counts: NDArray[np.int64] | None, classes: tuple[str, ...]
) -> Finding | None:
    """Predictions that fall on far fewer classes than the images do."""
    if not reports:
        return None
    confusion = _confusion(reports)
    images, predicted = confusion.sum(1), confusion.sum(0)
    wrong = int(confusion.sum() - np.trace(confusion))
    missed = int(images[predicted == 0].sum())
    few = (predicted > 0).sum() <= (images > 0).sum() / 2 and missed >= FEW
    if not few and not (_spread(predicted) - 1 <= 0.4 * (_spread(images) - 1) and wrong >= 2 * FEW):
        return None
    order = np.argsort(-predicted, kind="stable")
    top = order[: max(1, round(_spread(predicted)))]
    share = predicted[top].sum() / predicted.sum()
    uneven = counts is not None and counts.max() > 0.5 * counts.sum() and counts.argmax() in top and len(classes) > 2
    return Finding(
        "collapse",
        f"{100 * share:.0f} % of {predicted.sum():,} predictions are {listed([classes[k] for k in top])}, "
        f"{100 * images[top].sum() / images.sum():.0f} % of the images are",
        f"{100 * counts.max() / counts.sum():.0f} % of the training images are {listed([classes[counts.argmax()]])}"
        if counts is not None and uneven
        else "the net has fallen back on a few answers, whatever it is shown",
        "balance the training images: leave most of the commonest class out, or add others"
        if uneven
        else "lower the learning rate, or begin with another seed",
        evidence={
            "predicted": {name: int(n) for name, n in zip(classes, predicted, strict=True)},
            "images": {name: int(n) for name, n in zip(classes, images, strict=True)},
            "cause": "imbalance" if uneven else None,
            "training_images": None if counts is None else dict(zip(classes, counts.tolist(), strict=True)),
        },
    )


def guessing(report: Report, part: str, learned: tuple[int, int] | None) -> Finding | None:
    """Predictions that agree with the labels no better than chance: Cohen's kappa below 0.05, or below 3 errors.

    The error is that of independent predictions and labels with these frequencies (Fleiss, Cohen and Everitt 1969).

    Args:
        report: of the validation part, else the test part.
        part: its name.
        learned: training images that the net classifies rightly, and how many were looked at, if it is known.
    """
    n = report.n
    p, q, chance = _by_chance(report)
    error = max(chance + chance**2 - float((p * q * (p + q)).sum()), 0.0) ** 0.5 / n**0.5
    gain = report.accuracy - chance
    if n < 2 * FEW or (chance < 1 and gain > 0.05 * (1 - chance) and gain > 3 * error):
        return None
    known = "" if learned is None else f"; {100 * learned[0] / learned[1]:.0f} % of the training images are right"
    return Finding(
        "guessing",
        f"{part}: {report.correct:,} of {n:,} are right, {chance * n:,.0f} would be by guessing{known}",
        "labels that don't belong to their images look like this, and so does a net that gets no signal",
        "look whether the labels fit the images: kilonet data SOURCE --show FILE.png",
        evidence={"part": part, "correct": report.correct, "n": n, "chance": chance, "training": learned},
    )


def knows(report: Report) -> bool:
    """Whether the predictions agree with the labels far better than by chance."""
    chance = _by_chance(report)[2]
    return report.n >= 2 * FEW and report.accuracy - chance > KNOWS * (1 - chance)


def _by_chance(report: Report) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Shares of the classes among labels and among predictions, (K,) each, and how many agree by chance, 0 to 1."""
    p, q = report.confusion.sum(1) / report.n, report.confusion.sum(0) / report.n
    return p, q, float(p @ q)


def contradiction(reports: Mapping[str, Report]) -> Finding | None:
    """A test accuracy 2 points or more from validation's, and beyond chance: p < 0.001 by Fisher's exact test."""
    if not {"val", "test"} <= set(reports):
        return None
    val, test = reports["val"], reports["test"]
    if abs(val.accuracy - test.accuracy) < 0.02:
        return None
    from scipy.stats import fisher_exact

    p = float(fisher_exact([[val.correct, val.n - val.correct], [test.correct, test.n - test.correct]]).pvalue)
    if p >= 0.001:
        return None
    return Finding(
        "test-contradicts",
        f"validation says {100 * val.accuracy:.2f} % ({val.correct:,} of {val.n:,}), the test says "
        f"{100 * test.accuracy:.2f} % ({test.correct:,} of {test.n:,}): by chance p = {p:.1g}",
        "the two parts don't hold the same kind of images, so choosing by validation does not choose for the test",
        "look at both parts (kilonet data SOURCE), then split anew: --split 70/15/15",
        evidence={"val": val.figures(), "test": test.figures(), "p": p},
    )


def miscalibration(report: Report, part: str, flat: bool) -> Finding | None:
    """Confidence that is off: a calibration error above 0.05 and beyond what chance gives a calibrated model.

    Chance: 200 draws of right and wrong answers with the confidences as their probabilities; their mean error and
    four standard deviations. A net that still learns is too shy, and this is no fault: too little confidence counts
    above 0.15, and once the loss is flat.

    Args:
        report: of the measured weights.
        part: its name.
        flat: whether the training loss no longer falls.
    """
    confidence = report.probabilities.max(1)
    gap = float(confidence.mean()) - report.accuracy
    if (gap <= 0 and not flat) or report.ece < (0.05 if gap > 0 else 0.15):
        return None
    if report.ece <= (limit := _chance_error(confidence)):
        return None
    return Finding(
        "miscalibrated",
        f"{part}: it is {100 * confidence.mean():.1f} % sure on average and right in {100 * report.accuracy:.1f} %, "
        f"calibration error {report.ece:.3f}",
        f"a calibrated model shows {limit:.3f} at most on {report.n:,} images: its probabilities can't be trusted",
        "stop earlier (fewer --epochs) or add --weight-decay 0.01 with --optimizer adamw"
        if gap > 0
        else "train for more epochs, or with a higher learning rate",
        evidence={"part": part, "ece": report.ece, "limit": limit, "confidence": float(confidence.mean())},
    )


def overshooting(view: View, lr: float) -> Finding | None:
    """More confidence than accuracy on the net's own training images: by 0.02, and by 5 errors of a calibrated model.

    Near a minimum of the training loss confidence and accuracy agree on the training images, overfitted or not: to be
    too sure raises that loss. Steps that overshoot hold a net away from it.
    """
    from scipy.special import softmax

    confidence = softmax(view.logits, axis=1).max(1)
    right, n = view.right
    gap = float(confidence.mean()) - right / n
    error = float((confidence * (1 - confidence)).sum()) ** 0.5 / n
    if gap < max(0.02, 5 * error):
        return None
    return Finding(
        "lr-too-high",
        f"on its own training images it is {100 * confidence.mean():.1f} % sure and right in {100 * right / n:.1f} %",
        f"a net that settles is as sure there as it is right: steps of {lr:g} overshoot and keep it from settling",
        f"lower the learning rate: --lr {lr / 10:g}",
        evidence={"confidence": float(confidence.mean()), "correct": right, "n": n, "lr": lr},
    )


def _chance_error(confidence: NDArray[np.float64], bins: int = 15, draws: int = 200) -> float:
    """The calibration error that a calibrated model with these confidences stays below but for chance."""
    confidence = np.sort(confidence)
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    starts = np.unique(at, return_index=True)[1]
    rng = np.random.default_rng(0)
    errors = np.empty(draws)
    for i in range(draws):
        gaps = (rng.random(len(confidence)) < confidence) - confidence
        errors[i] = np.abs(np.add.reduceat(gaps, starts)).sum() / len(confidence)
    return float(errors.mean() + 4 * errors.std())


def listed(names: list[str], most: int = 12) -> str:
    """Names of classes in quotes, as a phrase."""
    shown = [f"'{name}'" for name in names[:most]] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _confusion(reports: Mapping[str, Report]) -> NDArray[np.int64]:
    """The confusion over all measured parts, (K, K)."""
    found: Any = sum(report.confusion for report in reports.values())
    return np.asarray(found, np.int64)


def _spread(counts: NDArray[np.int64]) -> float:
    """The number of equally frequent classes that have the same entropy."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
