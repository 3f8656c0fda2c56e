"""A model measured over a set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kilonet import engines
from kilonet.errors import DataError, ModelError
from kilonet.metrics import Report, report
from kilonet.models import Classifier, adopt
from kilonet.windows import in_pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from kilonet.batches import Resident
    from kilonet.images import ImageSet

BATCH = 500


def evaluate(model: nn.Module, data: ImageSet | None, batch_size: int = BATCH, engine: str = "auto") -> Report:
    """Measure a model: loss, accuracy with its interval, per-class scores, confusion, calibration, mistakes.

    Args:
        model: from `kilonet.build`, or any module of your own.
        data: the images; every one is counted once.
        batch_size: images a forward pass.
        engine: what computes, as in `kilonet.config.Training`.

    Raises:
        DataError: if there is no data (a split without this part).
        ModelError: if the model does not fit the data.
    """
    if data is None:
        raise DataError("nothing to measure: this split has no such part", "split with 'standard' or fractions")
    classifier = adopt(model, data)
    logits, done = np.empty((len(data), len(data.classes))), 0
    for piece in in_pieces(data, classifier.mean.device):
        logits[done : done + len(piece)] = finite_logits(classifier, piece, batch_size, engine)
        done += len(piece)
    return report(logits, data.labels, data.classes, data.rows, own=True)


def finite_logits(model: Classifier, data: Resident, batch_size: int, engine: str = "auto") -> NDArray[np.float64]:
    """Logits of all the images, float64, (N, K).

    Raises:
        ModelError: if any is NaN or infinite.
    """
    logits: NDArray[np.float64] = engines.choose(engine, model).logits(model, data, batch_size).double().numpy()
    if not np.isfinite(logits).all():
        raise ModelError(f"{model.name} gives logits that are no finite numbers", "its training went wrong: lower --lr")
    return logits


def aligned(data: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """The same images with their labels numbered as a model numbers its classes, matched by name.

    Raises:
        DataError: if the data has classes that the model does not know.
    """
    if data.classes == classes:
        return data
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{data.origin} has classes that the model does not know: {', '.join(unknown[:5])}",
            f"the model knows {', '.join(classes[:12])}",
        )
    index = np.array([classes.index(name) for name in data.classes], np.int64)
    return replace(data, labels=index[data.labels], classes=classes)
