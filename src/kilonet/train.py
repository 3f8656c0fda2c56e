"""The training loop: a generator of epoch records, and `fit`, which runs it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from kilonet import engines, ranks, world
from kilonet.augment import warps
from kilonet.batches import Resident
from kilonet.errors import DivergedError
from kilonet.history import Epoch, History
from kilonet.models import adopt
from kilonet.state import State, begin
from kilonet.windows import in_pieces, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor, nn

    from kilonet.config import Training
    from kilonet.engines import Engine
    from kilonet.images import ImageSet, Splits
    from kilonet.models import Classifier
    from kilonet.windows import Windows


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
    training = ordered(training.over(len(data.train)), data.train)
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
    train = windows(data.train, device)
    val = None if data.val is None else _Validation(data.val, device)
    engine = engines.choose(training.engine, state.model)
    n, size = len(data.train), training.batch_size
    steps = math.ceil(n / size)
    rates = learning_rates(training, steps)
    while state.epoch < training.epochs:
        state.begin_epoch()
        of_epoch = rates[state.epoch * steps :][:steps]
        start = time.perf_counter()
        for part, rows, warped in _walk(state, train, training):
            left = of_epoch[state.step :][: math.ceil(len(rows) / size)]
            for losses in engine.steps(state.model, state.optimizer, part, rows, training, left, warped):
                for loss in losses:
                    state.count(loss, min(size, n - state.images))
                state.seconds += time.perf_counter() - start
                watch(state)
                start = time.perf_counter()
        val_loss, val_accuracy = (None, None)
        if val is not None:
            val_loss, val_accuracy = val.measure(engine, state.model, training.val_batch_size)
        if val_loss is not None and not math.isfinite(val_loss):
            raise DivergedError(state.epoch + 1, None, val_loss)
        seconds = state.seconds + time.perf_counter() - start
        record = Epoch(state.epoch + 1, state.loss, val_loss, val_accuracy, of_epoch[-1], seconds)
        state.end_epoch(record)
        yield record


def ordered(training: Training, train: ImageSet) -> Training:
    """The settings with an order that suits the images: large files are not read at random, image by image."""
    if train.is_large:
        return replace(training, batch_order="blocks")
    return training


def _walk(state: State, train: Windows, training: Training) -> Iterator[tuple[Resident, Tensor, Tensor | None]]:
    """What is left of the epoch, window by window: images, rows and warps, as an engine's `steps` takes them."""
    n, window, at = len(state.rows), state.order.window, state.step * training.batch_size
    side = min(state.model.shape[1:])
    spans = list(_spans(at, n, window))
    drawn, warped = -1, None
    for (start, stop), (part, rows) in zip(spans, train.of([state.rows[slice(*span)] for span in spans]), strict=True):
        place = start // window
        if place != drawn:
            size, number = min(window, n - place * window), place if window < n else None
            drawn, warped = place, warps(training, size, side, state.epoch, number)
        yield part, rows, None if warped is None else warped[start - place * window : stop - place * window]


def _spans(at: int, n: int, window: int) -> Iterator[tuple[int, int]]:
    """Where the windows of an order begin and end, from some place on."""
    while at < n:
        stop = min((at // window + 1) * window, n)
        yield at, stop
        at = stop


class _Validation:
    """The validation part: in memory for all epochs, or read anew in each."""

    def __init__(self, data: ImageSet, device: torch.device) -> None:
        self._data, self._device = data, device
        self._kept = None if data.is_large else [Resident.of(data, device)]

    def measure(self, engine: Engine, model: Classifier, batch_size: int) -> tuple[float, float]:
        """Mean cross-entropy over the images, in nats, and the share classified rightly; each is counted once."""
        pieces = self._kept or in_pieces(self._data, self._device)
        found = [(len(piece), *engine.measure(model, piece, batch_size)) for piece in pieces]
        if len(found) == 1:
            return found[0][1:]
        right = sum(round(share * n) for n, _, share in found)
        return sum(loss * n for n, loss, _ in found) / len(self._data), right / len(self._data)


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
