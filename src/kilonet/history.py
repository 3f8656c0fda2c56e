"""The records of a training, an epoch each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """The record of an epoch.

    Attributes:
        epoch: its number, from 1.
        train_loss: running mean of the cross-entropy over the training images, in nats.
        val_loss: mean cross-entropy over the validation images after the epoch, or None without these.
        val_accuracy: share of the validation images classified rightly, 0 to 1, or None.
        lr: learning rate of the last step.
        seconds: time of training and validation.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float

    def better_than(self, other: Epoch | None) -> bool:
        """Whether this epoch's weights are to be kept: higher validation accuracy, then lower loss."""
        if other is None:
            return True
        return self._score() > other._score()

    def _score(self) -> tuple[float, float]:
        loss = math.inf if self.val_loss is None or math.isnan(self.val_loss) else self.val_loss
        return (self.val_accuracy or 0.0, -loss)


@dataclass(frozen=True)
class History:
    """All epochs of a training."""

    epochs: list[Epoch] = field(default_factory=list)
    name: str = ""

    @property
    def best(self) -> Epoch:
        """The epoch of the highest validation accuracy, then the lower loss."""
        best = self.epochs[0]
        for record in self.epochs[1:]:
            best = record if record.better_than(best) else best
        return best

    @property
    def last(self) -> Epoch:
        """The last epoch."""
        return self.epochs[-1]
