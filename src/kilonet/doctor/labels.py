"""Likely label errors, by what a model says of images that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kilonet.batches import Resident
from kilonet.config import recipe
from kilonet.doctor.finding import Finding
from kilonet.doctor.part import listed, plural
from kilonet.evaluation import BATCH, finite_logits
from kilonet.images import Splits
from kilonet.metrics import log_softmax
from kilonet.models import build
from kilonet.train import epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kilonet.images import ImageSet

MODEL = "kilo-fast"
FOLDS = 4
IMAGES = 600_000
"""Images that are trained on in all: some two minutes on two cores."""


def label_errors(data: ImageSet, seed: int = 0, watch: Callable[[float], None] = lambda share: None) -> Finding | None:
    """Finding `label-errors`: images whose labels the rest of the set speaks against; trains for up to minutes.

    Every image is judged by a model that was trained without it. One counts as a likely error if that model
    gives another class at least the confidence which it has on average in images labelled so: confident
    learning (Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels"). They
    are ranked by normalised margin, the probability of the label less the greatest other one.

    Args:
        data: the images; classes with fewer than `FOLDS` images are not judged.
        seed: seed of the folds, the weights and the batches.
        watch: told, after each epoch, which share of the training is done, 0 to 1.

    Returns:
        The finding, its rows beginning with the likeliest error, or None, as of a set of one class. PyTorch's global
        generator is left as it was.
    """
    judged = np.bincount(data.labels, minlength=len(data.classes))[data.labels] >= FOLDS
    if not judged.any() or len(data.classes) < 2:
        watch(1.0)
        return None
    probabilities = _held_out(data, seed, watch)
    other = suggested(probabilities, data.labels)
    suspects = np.flatnonzero(judged & (other >= 0))
    if not len(suspects):
        return None
    margin = probabilities[suspects, data.labels[suspects]] - probabilities[suspects, other[suspects]]
    order = np.argsort(margin, kind="stable")
    suspects, margin = suspects[order], margin[order]
    rows = tuple(data.rows[suspects].tolist())
    label, instead = (data.classes[of[suspects[0]]] for of in (data.labels, other))
    are = "is" if len(rows) == 1 else "are"
    return Finding(
        "label-errors",
        f"{plural(len(rows), 'image')} of {len(data):,} {are} labelled against what the rest of the set teaches "
        f"({listed(rows)}; the first is labelled {label} and looks like {instead})",
        "wrong labels are learnt in training, and in a measured part they count right answers as mistakes",
        "look at them with --show, the likeliest come first: correct or remove those that are wrong",
        rows,
        {
            "images": len(data),
            "accuracy": float((probabilities.argmax(1) == data.labels).mean()),
            "suspects": [
                {"row": row, "label": data.classes[data.labels[i]], "suggested": data.classes[other[i]], "margin": m}
                for row, i, m in zip(rows, suspects.tolist(), margin.round(4).tolist(), strict=True)
            ],
        },
    )


def suggested(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class that each image is confidently counted to instead of its label's, or -1, int64, (N,).

    Args:
        probabilities: float64, (N, K), from models that were not trained on the image.
        labels: int64, (N,).
    """
    k = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=k)
    usual = np.divide(np.bincount(labels, own, k), counts, out=np.full(k, np.inf), where=counts > 0)
    confident = np.where(probabilities >= usual, probabilities, 0)
    best = confident.argmax(1)
    return np.where((confident.max(1) > 0) & (best != labels), best, -1)


def _held_out(data: ImageSet, seed: int, watch: Callable[[float], None]) -> NDArray[np.float64]:
    """Class probabilities of each image, float64, (N, K), from the model of the folds that it is not in."""
    fold = folds(data.labels, seed)
    length = int(np.clip(IMAGES / ((FOLDS - 1) * len(data)), 3, 15))
    training = recipe(MODEL, epochs=length, seed=seed)
    probabilities = np.zeros((len(data), len(data.classes)))
    with torch.random.fork_rng(devices=[]):
        for k in range(FOLDS):
            train, held = (data.take(np.flatnonzero(which)) for which in (fold != k, fold == k))
            model = build(MODEL, train, seed)
            for record in epochs(model, Splits(train, None, None, "fold"), training):
                watch((k + record.epoch / length) / FOLDS)
            if len(held):
                logits = finite_logits(model, Resident.of(held, model.mean.device), BATCH)
                probabilities[fold == k] = np.exp(log_softmax(logits))
    return probabilities


def folds(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The fold of each image, 0 to FOLDS - 1, int64, (N,), each class spread evenly over them."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold[rows] = (np.arange(len(rows)) + label) % FOLDS
    return fold
