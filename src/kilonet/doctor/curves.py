"""What the curves say: a loss that does not fall, a learning rate too low or too high, overfitting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kilonet.doctor.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.config import Training
    from kilonet.history import History
    from kilonet.metrics import Report


UNKNOWN = 1_000
"""Training images, where their number is not known."""
CHANCE = 0.97
"""Share of guessing's loss at and above which nothing was learned."""
MOVED = 0.05
"""Share of its first size by which no weight has changed in a net that stands still.

Rates of 1e-6 and below moved those of `linear`, `kilo-4k` and `kilo-16k` by less than 1 % in 6 epochs; sane rates moved
them by 6 % and more on random labels, too.
"""
FAR = 0.25
"""Share of its first size by which weights have gone far: a net that learned nothing so is not slow.

Random labels at the rates of the recipes moved weights by 80 % and more in 3 epochs.
"""


@dataclass(frozen=True, eq=False)
class Curves:
    """The losses of a training, an epoch each.

    Attributes:
        training: its settings.
        train: running mean over the training images, in nats, (E,).
        val: after the epoch, in nats, (E,), or None where nothing validated.
        images: the number of training images.
        guess: loss of answering with the classes' frequencies, in nats: ln K where all are as frequent.
    """

    training: Training
    train: NDArray[np.float64]
    val: NDArray[np.float64] | None
    images: int
    guess: float

    @classmethod
    def of(cls, training: Training, history: History, counts: NDArray[np.int64] | None, classes: int) -> Curves:
        """The curves of a history; `counts`, int64, (K,), are the training images of each class, if they are known."""
        if counts is None:
            counts = np.full(classes, UNKNOWN // classes + 1)
        train = np.array([record.train_loss for record in history.epochs])
        val = np.array([math.nan if record.val_loss is None else record.val_loss for record in history.epochs])
        shares = counts[counts > 0] / counts.sum()
        guess = float(-(shares * np.log(shares)).sum())
        return cls(training, train, val if np.isfinite(val).all() else None, int(counts.sum()), guess)

    @property
    def epochs(self) -> int:
        """Their number."""
        return len(self.train)

    @property
    def seen(self) -> NDArray[np.float64]:
        """The validation loss, else the training loss."""
        return self.train if self.val is None else self.val

    @property
    def early(self) -> bool:
        """Whether it was too short to ask for anything: less than 3 epochs, and less than 300 steps."""
        steps = self.epochs * math.ceil(self.images / self.training.batch_size)
        return 0 < self.epochs < 3 and steps < 300

    @property
    def flat(self) -> bool:
        """Whether the training loss fell by less than 5 % over the last third of 5 epochs and more."""
        return self.epochs >= 5 and bool(self.train[-1] > 0.95 * self.train[-1 - self.epochs // 3])


def too_low(curves: Curves, moved: float | None = None) -> Finding | None:
    """A loss that falls all the time, slowly, and ends near guessing's.

    Near is above 0.6 of it after 5 epochs and more, above 0.95 after 2 to 4. Slowly is more than 30 % of the way down
    from guessing's still to go after the first third of the epochs, and at least 0.5 % of guessing's. The validation
    loss may rise in that third: there the running averages of a batch normalisation are still on their way.
    A loss that only comes down to guessing's while the weights go far is none: its labels have nothing to do with its
    images.

    Args:
        curves: of the whole training.
        moved: the greatest share of its first size by which a weight has changed, if the first weights are known.
    """
    loss, guess, lr = curves.seen, curves.guess, curves.training.lr
    if curves.epochs < 2 or min(curves.train[-1], loss[-1]) < (0.6 if curves.epochs >= 5 else 0.95) * guess:
        return None
    if _at_chance(curves) and moved is not None and moved > FAR:
        return None
    fall, third = curves.train[0] - curves.train[-1], curves.epochs // 3
    late = loss[third] - loss[-1]
    steady = (np.diff(curves.train) < 0.01 * guess).all() and (np.diff(loss[third:]) < 0.01 * guess).all()
    if not steady or fall < 0.01 * guess or late < max(0.3 * (guess - loss[-1]), 0.005 * guess):
        return None
    return Finding(
        "lr-too-low",
        f"the training loss falls evenly from {curves.train[0]:.3f} to {curves.train[-1]:.3f} in "
        f"{_counted(curves.epochs, 'epoch')}; guessing has {guess:.3f}",
        f"steps of {lr:g} are too small, or too few: the net has hardly begun to learn",
        f"raise the learning rate: --lr {10 * lr:g}",
        evidence={"losses": loss.tolist(), "guessing": guess, "lr": lr},
    )


def standing_still(curves: Curves, moved: float | None) -> Finding | None:
    """A net that is still where it began: a loss no better than guessing's, and hardly a change.

    Where the weights are known to have stayed, the training loss may change by 5 % of guessing's. Where that is not
    known, it may change by 1 %, over 3 epochs, and has to lie 2 % above guessing's all the time: what is learned first
    is how frequent the classes are, so a net that stands above that has not learned even this, whatever its labels.

    Args:
        curves: of the whole training.
        moved: the greatest share of its first size by which a weight has changed, if the first weights are known.
    """
    loss, guess, lr = curves.seen, curves.guess, curves.training.lr
    if not curves.epochs or curves.early or not _at_chance(curves):
        return None
    change = float(np.ptp(curves.train)) / guess
    if moved is None:
        still = change < 0.01 and curves.epochs >= 3 and curves.train.min() > 1.02 * guess
    else:
        still = change < 0.05 and moved < MOVED
    if not still:
        return None
    weights = "" if moved is None else f", and no weight changed by more than {100 * moved:.2g} % of its first size"
    return Finding(
        "lr-too-low",
        f"nothing moved: the training loss goes from {curves.train[0]:.3f} to {curves.train[-1]:.3f} in "
        f"{_counted(curves.epochs, 'epoch')}{weights}; guessing has {guess:.3f}",
        f"steps of {lr:g} are far too small: the net is still where it began",
        f"raise the learning rate: --lr {100 * lr:g}",
        evidence={"losses": loss.tolist(), "guessing": guess, "lr": lr, "moved": moved},
    )


def not_falling(curves: Curves) -> Finding | None:
    """A loss that ends within 3 % of guessing's or above, after 3 epochs or 300 steps."""
    guess, lr = curves.guess, curves.training.lr
    if not curves.epochs or curves.early or not _at_chance(curves):
        return None
    return Finding(
        "loss-not-falling",
        f"the training loss is {curves.train[-1]:.3f} after {_counted(curves.epochs, 'epoch')}, guessing has "
        f"{guess:.3f}",
        "the net learns nothing: steps far too large, no gradient, a decay that holds it at zero, or wrong labels",
        _remedy(curves),
        evidence={"losses": curves.train.tolist(), "guessing": guess, "lr": lr},
    )


def _remedy(curves: Curves) -> str:
    """What to try against a loss that does not fall; where it does not change, the rate may be off either way."""
    lr = curves.training.lr
    if curves.training.weight_decay > 0.1:
        return "switch the weight decay off: --weight-decay 0"
    labels = "then look at the labels: kilonet data SOURCE --show FILE.png"
    if np.ptp(curves.train) < 0.002 * curves.guess:
        return f"try another learning rate, --lr {100 * lr:g} and --lr {lr / 10:g}; {labels}"
    return f"lower the learning rate: --lr {lr / 10:g}; {labels}"


def _at_chance(curves: Curves) -> bool:
    """Whether both losses end within 3 % of guessing's or above."""
    return bool(min(curves.train[-1], curves.seen[-1]) >= CHANCE * curves.guess)


def too_high(curves: Curves) -> Finding | None:
    """A training loss that rises above its lowest so far by 15 % and 0.04 nats, and by 4 errors of such a mean.

    The error takes the losses of single images to spread by twice their mean. One epoch alone that rises by less than
    half, where the loss ends below half of what it was, is left: the peak of one-cycle does that, and nothing is lost.
    """
    if curves.epochs < 2:
        return None
    lowest = np.minimum.accumulate(curves.train)[:-1]
    rise = curves.train[1:] - lowest
    noise = 2 * (lowest**2 + curves.train[1:] ** 2) ** 0.5 / curves.images**0.5
    at = np.flatnonzero((rise > 0.15 * lowest) & (rise > 0.04) & (rise > 4 * noise))
    if not len(at):
        return None
    worst = int(at[np.argmax(rise[at])])
    if len(at) == 1 and rise[worst] < lowest[worst] / 2 and curves.train[-1] < lowest[worst] / 2:
        return None
    lr = curves.training.lr
    return Finding(
        "lr-too-high",
        f"the training loss rises from {lowest[worst]:.3f} to {curves.train[worst + 1]:.3f} in epoch {worst + 2}"
        + (f", above its lowest so far in {len(at)} epochs" if len(at) > 1 else ""),
        f"steps of {lr:g} overshoot: what was learned is lost again",
        f"lower the learning rate: --lr {lr / 10:g}",
        evidence={"losses": curves.train.tolist(), "epochs": (at + 2).tolist(), "lr": lr},
    )


def overfitting(curves: Curves, report: Report, learned: tuple[int, int] | None) -> Finding | None:
    """A validation loss that ends half again above its minimum, or an accuracy 10 points below that of training.

    Both must be beyond chance: 3 errors of the validation loss, p < 0.001 by Fisher's exact test.

    Args:
        curves: of the whole training.
        report: of the measured weights on the validation part, else on the test part.
        learned: training images that these weights classify rightly, and how many were looked at.
    """
    rising, gap = _rising(curves, report), _gap(report, learned)
    if not rising and not gap:
        return None
    return Finding(
        "overfitting",
        "; ".join(text for text in (rising, gap) if text),
        f"the net learns its {curves.images:,} training images by heart",
        (f"stop at --epochs {1 + int(curves.seen.argmin())}, or " if rising else "")
        + "train on more images, or a smaller net",
        evidence={
            "train_loss": curves.train.tolist(),
            "val_loss": None if curves.val is None else curves.val.tolist(),
            "accuracy": report.accuracy,
            "training_accuracy": None if learned is None else learned[0] / learned[1],
        },
    )


def _rising(curves: Curves, report: Report) -> str:
    if curves.val is None or curves.epochs < 3:
        return ""
    best = int(curves.val.argmin())
    lowest, last = curves.val[best], curves.val[-1]
    losses = -np.log(np.maximum(report.probabilities[np.arange(report.n), report.labels], 1e-300))
    error = float(losses.std()) / report.n**0.5
    falling = curves.train[-1] < curves.train[best]
    if not falling or last < 1.5 * lowest or last - lowest < max(3 * error, 0.04):
        return ""
    return (
        f"the validation loss rises from {lowest:.3f} in epoch {best + 1} to {last:.3f}, "
        f"while the training loss falls to {curves.train[-1]:.3f}"
    )


def _gap(report: Report, learned: tuple[int, int] | None) -> str:
    if learned is None or learned[0] / learned[1] - report.accuracy < 0.1:
        return ""
    from scipy.stats import fisher_exact

    right, n = learned
    if fisher_exact([[right, n - right], [report.correct, report.n - report.correct]]).pvalue >= 0.001:
        return ""
    return f"{100 * right / n:.1f} % of the training images are right, {100 * report.accuracy:.1f} % of others"


def _counted(n: int, what: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{n} {what}{'' if n == 1 else 's'}"
