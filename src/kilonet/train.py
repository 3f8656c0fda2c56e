"""The training loop: a generator of epoch records, and `fit`, which runs it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from kilonet import engines, ranks, world
from kilonet.augment import warps
from kilonet.batches import Resident
from kilonet.errors import DivergedError
from kilonet.history import Epoch, History
from kilonet.models import adopt
from kilonet.state import State, begin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from kilonet.config import Training
    from kilonet.images import Splits
    from kilonet.models import Classifier


def fit(model: nn.Module, data: Splits, training: Training) -> History:
    """Train a model in place; it ends with the last epoch's weights.

    Args:
        model: from `kilonet.build`, or any module of your own (see `kilonet.models.adopt`).
        data: what `ImageSet.split` gives; the test part is not touched.
        training: the settings, as `kilonet.recipe` gives them.

    Raises:
        ModelError: if the model does not fit the data.
        ConfigError: if the device is not there.
        DivergedError: if the loss is no finite number any more.
    """
    classifier = adopt(model, data.train)
    return History(list(epochs(classifier, data, training)), classifier.name)


def epochs(
    model: Classifier,
    data: Splits,
    training: Training,
    watch: Callable[[State], None] = lambda _: None,
) -> Iterator[Epoch]:
    """Train a model in place, and give a record after each epoch.

    Args:
        model: raw pixels in, logits out.
        data: the training part, and the validation part if there is one.
        training: the settings.
        watch: told after each step.

    Raises:
        DivergedError: if the loss is no finite number any more.
        ModelError: if the model has nothing to train, or the engine that is asked for does not know its layers.
        ConfigError: if the device or the engine is not there.
    """
    model.to(world.device(training.device))
    training = training.over(len(data.train))
    state = begin(model, len(data.train), training)
    share(state, data, training)
    yield from advance(state, data, training, watch)


def share(state: State, data: Splits, training: Training) -> None:
    """Where several ranks train together: make sure that they have the same data and settings, and one state.

    Raises:
        RunError: if they have not.
    """
    if ranks.size() > 1:
        settings = {name: value for name, value in asdict(training).items() if name not in ("threads", "device")}
        parts = {f"{name} part": part.sha256() for name, part in data.parts().items()}
        ranks.same({**settings, **parts}, "give every rank the same data and settings")
        state.share()


def advance(
    state: State, data: Splits, training: Training, watch: Callable[[State], None] = lambda _: None
) -> Iterator[Epoch]:
    """Go on with a training from where it stands; as `epochs` else."""
    world.set_threads(training.threads)
    device = state.model.mean.device
    train = Resident.of(data.train, device)
    val = None if data.val is None else Resident.of(data.val, device)
    engine = engines.choose(training.engine, state.model)
    size = training.batch_size
    steps = math.ceil(len(train) / size)
    rates = learning_rates(training, steps)
    while state.epoch < training.epochs:
        state.begin_epoch()
        of_epoch = rates[state.epoch * steps :][:steps]
        start = time.perf_counter()
        warped = warps(training, len(train), min(train.images.shape[2:]), state.epoch)
        rows, left = state.rows[state.step * size :], of_epoch[state.step :]
        if warped is not None:
            warped = warped[state.step * size :]
        for losses in engine.steps(state.model, state.optimizer, train, rows, training, left, warped):
            for loss in losses:
                state.count(loss, min(size, len(train) - state.images))
            state.seconds += time.perf_counter() - start
            watch(state)
            start = time.perf_counter()
        val_loss, val_accuracy = (None, None)
        if val is not None:
            val_loss, val_accuracy = engine.measure(state.model, val, training.val_batch_size)
        if val_loss is not None and not math.isfinite(val_loss):
            raise DivergedError(state.epoch + 1, None, val_loss)
        seconds = state.seconds + time.perf_counter() - start
        record = Epoch(state.epoch + 1, state.loss, val_loss, val_accuracy, of_epoch[-1], seconds)
        state.end_epoch(record)
        yield record


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
