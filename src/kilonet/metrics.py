"""From arrays to figures: accuracy with its interval, per-class scores, confusion, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_PIECE = 65_536
"""Images whose logits are worked on together: what is needed meanwhile does not grow with their number."""


@dataclass(frozen=True)
class ClassScore:
    """One class: its precision, recall and F1 (0 where undefined), and its number of images."""

    name: str
    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True, eq=False)
class Report:
    """A model measured over a set.

    Attributes:
        loss: mean cross-entropy over the images, in nats.
        accuracy: share of images classified rightly, 0 to 1.
        correct: their number.
        n: the number of images.
        interval: 95 % interval of the accuracy (Wilson 1927), 0 to 1.
        classes: scores of each class.
        confusion: int64, (K, K): rows are true classes, columns predicted ones.
        ece: expected calibration error over 15 bins of confidence (Guo et al. 2017), 0 to 1.
        predicted: int64, (N,), the class of greatest probability.
        probabilities: float64, (N, K).
        labels: int64, (N,), the true classes.
        rows: int64, (N,), the row of each image in its source.
        notes: what has to be known about the measurement.
    """

    loss: float
    accuracy: float
    correct: int
    n: int
    interval: tuple[float, float]
    classes: list[ClassScore]
    confusion: NDArray[np.int64]
    ece: float
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def worst(self, most: int = 16) -> NDArray[np.int64]:
        """Positions of the mistakes, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        confidence = self.probabilities[wrong, self.predicted[wrong]]
        return wrong[np.argsort(-confidence, kind="stable")][:most]

    def figures(self) -> dict[str, Any]:
        """The figures that a run keeps of it."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "correct": self.correct,
            "n": self.n,
            "interval": list(self.interval),
        }


def report(
    logits: NDArray[Any], labels: NDArray[np.int64], names: tuple[str, ...], rows: NDArray[np.int64], own: bool = False
) -> Report:
    """Measure logits against labels.

    Args:
        logits: (N, K).
        labels: int64, (N,).
        names: of the classes.
        rows: int64, (N,), the row of each image in its source.
        own: whether logits, of float64, may become the probabilities, which spares the room for these.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    n, logits = len(labels), np.asarray(logits)
    probabilities = logits if own else np.empty(logits.shape)
    predicted, losses = np.empty(n, np.int64), np.empty(n)
    for start in range(0, n, _PIECE):
        part = slice(start, start + _PIECE)
        predicted[part] = logits[part].argmax(1)
        log_probabilities = log_softmax(logits[part])
        losses[part] = -log_probabilities[np.arange(len(log_probabilities)), labels[part]]
        np.exp(log_probabilities, out=probabilities[part])
    every = np.arange(len(names))
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    correct = int((predicted == labels).sum())
    return Report(
        loss=float(losses.mean()),
        accuracy=correct / n,
        correct=correct,
        n=n,
        interval=wilson(correct, n),
        classes=[
            ClassScore(name, float(p), float(r), float(f), int(count))
            for name, p, r, f, count in zip(names, *scores, strict=True)
        ],
        confusion=confusion_matrix(labels, predicted, labels=every),
        ece=calibration_error(probabilities, labels),
        predicted=predicted,
        probabilities=probabilities,
        labels=labels,
        rows=rows,
    )


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithms of the class probabilities, float64, (N, K)."""
    from scipy.special import log_softmax as scipy_log_softmax

    found: NDArray[np.float64] = scipy_log_softmax(np.asarray(logits, np.float64), axis=1)
    return found


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a share by Wilson's score (Wilson 1927), from SciPy."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error: sum over bins of confidence of |accuracy - confidence|, weighted (Guo et al. 2017).

    Args:
        probabilities: (N, K), summing to 1.
        labels: (N,).
        bins: bins of equal width over (0, 1], closed above.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(at, right - confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1), and 95 % interval of the mean by Student's t, over runs; and their quantiles.

    These are the least value, the lower quartile, the median, the upper quartile and the greatest value.
    """
    from scipy.stats import t

    n, mean, std, interval = len(values), float(np.mean(values)), None, None
    if n > 1:
        std = float(np.std(values, ddof=1))
        half = float(t.ppf(0.975, n - 1)) * std / n**0.5
        interval = [mean - half, mean + half]
    quantiles = [float(value) for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))]
    return {"n": n, "mean": mean, "std": std, "interval": interval, "quantiles": quantiles, "values": values}
