"""`State`: a training between two of its steps, and all that going on from there needs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from kilonet import ranks, world
from kilonet.batches import BlockOrder, LoaderOrder, Order, SeededOrder
from kilonet.errors import DivergedError
from kilonet.history import Epoch, History
from kilonet.optimizers import Optimizer, optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from kilonet.config import Training
    from kilonet.models import Classifier

Weights = dict[str, "Tensor"]


@dataclass
class State:
    """A training between two steps.

    Attributes:
        model: in training.
        optimizer: over its parameters.
        order: gives each epoch's rows.
        before: uint8, the generator behind `order` as it was before this epoch's rows were drawn.
        rows: int64, (N,), the rows of this epoch in their order; empty between two epochs.
        epoch: epochs done.
        step: steps done since.
        images: images done since.
        loss_sum: sum of their losses, in nats.
        seconds: time that these took.
        records: of the epochs done.
        last: the net's weights after the last of these.
        best: the net's weights after the best of these.
    """

    model: Classifier
    optimizer: Optimizer
    order: Order
    before: Tensor
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    records: list[Epoch] = field(default_factory=list)
    last: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far, in nats, each image measured by the weights it was met with."""
        return self.loss_sum / self.images if self.images else math.nan

    def begin_epoch(self) -> None:
        """Draw the rows of the epoch, unless it has begun."""
        if not len(self.rows):
            self.rows = self.order.epoch(self.epoch)

    def count(self, loss: float, images: int) -> None:
        """Take note of a step's mean loss over so many images.

        Raises:
            DivergedError: if it is no finite number.
        """
        self.step += 1
        if not math.isfinite(loss):
            raise DivergedError(self.epoch + 1, self.step, loss)
        self.loss_sum += loss * images
        self.images += images

    def end_epoch(self, record: Epoch) -> None:
        """Keep the record of an epoch that is done, and the weights after it."""
        self.records.append(record)
        self.last = _copy(self.model)
        if record.val_loss is None or History(self.records).best is record:
            self.best = self.last
        self.epoch, self.step, self.images, self.loss_sum, self.seconds = self.epoch + 1, 0, 0, 0.0, 0.0
        self.rows, self.before = self.rows[:0], self.order.state()

    def tensors(self) -> Weights:
        """All its tensors, by name, on the CPU; none is shared with the training."""
        named = {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        generators = {"order": self.before, **world.generators(self.model.mean.device)}
        named |= {f"generator.{name}": value for name, value in generators.items()}
        for kind, weights in (("model", _copy(self.model)), ("last", self.last), ("best", self.best)):
            named |= {f"{kind}.{name}": value for name, value in weights.items()}
        return {name: value.detach().cpu().clone().contiguous() for name, value in named.items()}

    def figures(self) -> dict[str, Any]:
        """All the rest of it, fit for JSON."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "images": self.images,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "records": [asdict(record) for record in self.records],
        }

    def restore(self, tensors: Weights, figures: dict[str, Any]) -> None:
        """Become what gave these `tensors` and `figures`.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: if they are not of such a training; it can't be used then.
        """
        self.records = [Epoch(**record) for record in figures["records"]]
        self.epoch, self.step, self.images = (int(figures[name]) for name in ("epoch", "step", "images"))
        if min(self.epoch, self.step, self.images) < 0 or len(self.records) != self.epoch:
            raise ValueError("a position that can't be")
        self.loss_sum, self.seconds = float(figures["loss_sum"]), float(figures["seconds"])
        self.last, self.best = _under("last", tensors), _under("best", tensors)
        self.model.net.load_state_dict(_under("model", tensors))
        self.optimizer.restore(_under("optimizer", tensors))
        generators = _under("generator", tensors)
        self.before = generators.pop("order")
        self.order.restore(self.before)
        self.rows = self.order.epoch(self.epoch) if self.step else self.rows[:0]
        world.set_generators(generators, self.model.mean.device)

    def share(self) -> None:
        """Become what rank 0's is, where several ranks train together."""
        if ranks.size() > 1:
            tensors, figures = ranks.tell((self.tensors(), self.figures()))
            if ranks.number():
                self.restore(tensors, figures)


def begin(model: Classifier, images: int, training: Training) -> State:
    """A training before its first step.

    Args:
        model: on the device where it will train.
        images: the number of training images.
        training: the settings.

    Raises:
        ModelError: if the model has nothing to train.
    """
    order = _order(training, images, math.prod(model.shape))
    return State(model, optimizer(model, training), order, order.state())


def _order(training: Training, images: int, size: int) -> Order:
    """The order of so many images, of so many bytes each."""
    if training.batch_order == "loader":
        return LoaderOrder(images)
    if training.batch_order == "blocks":
        return BlockOrder.over(images, training.seed, size, training.batch_size)
    return SeededOrder(images, training.seed)


def _copy(model: Classifier) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in model.net.state_dict().items()}


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
