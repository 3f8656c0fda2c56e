"""The training loop: a generator of epoch records, and `fit`, which runs it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch.nn.functional as F

from kilonet import world
from kilonet.batches import LoaderOrder, Order, Resident, SeededOrder
from kilonet.engines import torch as engine
from kilonet.errors import RunError
from kilonet.models import Classifier, adopt
from kilonet.optimizers import optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from kilonet.config import Training
    from kilonet.images import Splits


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


def fit(model: nn.Module, data: Splits, training: Training) -> History:
    """Train a model in place; it ends with the last epoch's weights.

    Args:
        model: from `kilonet.build`, or any module of your own (see `kilonet.models.adopt`).
        data: what `ImageSet.split` gives; the test part is not touched.
        training: the settings, as `kilonet.recipe` gives them.

    Raises:
        ModelError: if the model does not fit the data.
        ConfigError: if the device is not there.
    """
    classifier = adopt(model, data.train)
    return History(list(epochs(classifier, data, training)), classifier.name)


def epochs(
    model: Classifier,
    data: Splits,
    training: Training,
    watch: Callable[[int, float], None] = lambda _, __: None,
) -> Iterator[Epoch]:
    """Train a model in place, and give a record after each epoch.

    Args:
        model: raw pixels in, logits out.
        data: the training part, and the validation part if there is one.
        training: the settings.
        watch: told, after each step, how many images of the epoch are done and their mean loss.

    Raises:
        RunError: if the loss is no finite number any more.
    """
    device = world.device(training.device)
    world.set_threads(training.threads)
    model.to(device)
    train = Resident.of(data.train, device)
    val = None if data.val is None else Resident.of(data.val, device)
    order: Order = (
        LoaderOrder(len(train)) if training.batch_order == "loader" else SeededOrder(len(train), training.seed)
    )
    update = optimizer(model, training)
    steps = math.ceil(len(train) / training.batch_size)
    rates = learning_rates(training, steps)
    for epoch in range(training.epochs):
        start = time.perf_counter()
        rows = order.epoch()
        of_epoch = rates[epoch * steps : (epoch + 1) * steps]
        train_loss = engine.train_epoch(model, update, train, rows, training.batch_size, of_epoch, watch)
        if not math.isfinite(train_loss):
            raise RunError(f"the training went wrong in epoch {epoch + 1}: its loss is {train_loss}", "lower --lr")
        val_loss, val_accuracy = (None, None) if val is None else validate(model, val, training.val_batch_size)
        seconds = time.perf_counter() - start
        yield Epoch(epoch + 1, train_loss, val_loss, val_accuracy, of_epoch[-1], seconds)


def validate(model: nn.Module, data: Resident, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy over the images, in nats, and the share classified rightly."""
    logits = engine.logits(model, data, batch_size)
    labels = data.labels.cpu()
    loss = F.cross_entropy(logits.double(), labels).item()
    return loss, int((logits.argmax(1) == labels).sum()) / len(labels)


def learning_rates(training: Training, steps: int) -> list[float]:
    """The learning rate of each step of the whole run, `steps` being those of an epoch.

    One-cycle (Smith and Topin 2018) rises along a cosine from lr / 25 to lr over the first 30 % of the steps and
    falls along another to lr / 250,000 at the last, as `torch.optim.lr_scheduler.OneCycleLR` does.
    """
    total = steps * training.epochs
    if training.schedule == "constant":
        return [training.lr] * total
    low, final = training.lr / 25, training.lr / 25e4
    peak = 0.3 * total - 1
    rates = []
    for step in range(total):
        if step <= peak:
            rates.append(_cosine(low, training.lr, step / peak if peak > 0 else 1.0))
        else:
            rates.append(_cosine(training.lr, final, (step - peak) / (total - 1 - peak)))
    return rates


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
