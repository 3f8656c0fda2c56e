"""What is raced: the tutorial's loop, PyTorch and the native engine, in pairs that do the same work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from kilonet import config, optimizers, world
from kilonet.augment import OFF, SIDE, warps
from kilonet.batches import Resident
from kilonet.engines import native
from kilonet.engines import torch as torch_engine
from kilonet.engines.layers import operations
from kilonet.models import build
from kilonet.plain import MODELS, plain_loop, tensors
from kilonet.train import epochs

if TYPE_CHECKING:
    from types import ModuleType

    from kilonet.config import Training
    from kilonet.images import ImageSet, Splits

REST = 0.02
"""Seconds before each timed call: OpenMP's threads go on spinning for milliseconds after a parallel loop."""

Work = Callable[[], object]
"""What is timed; each call does all of it."""


@dataclass(frozen=True)
class Race:
    """Two ways to do the same work.

    Attributes:
        name: of the work.
        against: what the first way is.
        ways: each prepares what takes no part in the work, and gives the work.
        goal: the ratio of the times to reach, if there is one.
        operations: floating-point operations of the second way (see `kilonet.engines.layers.operations`).
        threads: that the second way computes with.
        compiles: whether the first way compiles itself in the round that is not counted.
    """

    name: str
    against: str
    ways: tuple[Callable[[], Work], Callable[[], Work]]
    goal: float | None
    operations: float
    threads: int
    compiles: bool = False

    def run(self, repeats: int) -> dict[str, Any]:
        """Time both ways, alternating and after a rest each, behind one round that is not counted."""
        works = [prepare() for prepare in self.ways]
        rounds = [[_timed(work) for work in works] for _ in range(repeats + 1)]
        first, second = (statistics.median(seconds) for seconds in zip(*rounds[1:], strict=True))
        ratios = [a / b for a, b in rounds[1:]]
        return {
            "name": self.name,
            "against": self.against,
            "baseline_seconds": first,
            "kilonet_seconds": second,
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "goal": self.goal,
            "first_round_seconds": rounds[0],
            "compile_seconds": rounds[0][0] - first if self.compiles else None,
            "gflops": self.operations / second / 1e9,
        }


def _timed(work: Work) -> float:
    """Seconds; before them a rest, in which the threads of whoever came before stop spinning."""
    time.sleep(REST)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def tutorial(preset: str, splits: Splits, count: int) -> Race:
    """A whole training with its validations, from tensors in memory; each way has the data as it wants it."""

    def plain() -> Work:
        parts = tensors(splits.train), tensors(validation(splits))
        return lambda: _seeded(lambda: list(plain_loop(MODELS[preset](), *parts, count)))

    return against(preset, splits, count, "the tutorial's loop", plain, 10)


def against(
    preset: str, splits: Splits, count: int, name: str, way: Callable[[], Work], goal: float | None = None
) -> Race:
    """The tutorial's training on the native engine against another way to do it."""
    training = config.resolve({"preset": preset}, {"epochs": count, "engine": "native"}).training
    kind = config.PRESETS[preset]["model"]

    def ours() -> Work:
        return lambda: list(epochs(build(kind, splits.train), splits, training))

    forward, step = operations(build(kind, splits.train))
    done = count * (step * len(splits.train) + forward * len(validation(splits)))
    return Race(
        f"{preset}, {count} epoch{'s' * (count > 1)} with validation",
        name,
        (way, ours),
        goal,
        done,
        torch.get_num_threads(),
    )


def validation(splits: Splits) -> ImageSet:
    """The validation part, which the tutorial's split always has."""
    assert splits.val is not None  # noqa: S101
    return splits.val


def _seeded(work: Work) -> object:
    torch.manual_seed(0)
    return work()


def _trainer(model: str, splits: Splits, engine: ModuleType, training: Training) -> Work:
    """Trains a model for an epoch, each time that it is called."""
    net = build(model, splits.train)
    update = optimizers.optimizer(net, training)
    resident = Resident.of(splits.train, torch.device("cpu"))
    rates = [training.lr / 25] * -(-len(resident) // training.batch_size)

    def epoch() -> None:
        with world.one_thread():
            rows = torch.randperm(len(resident))
        list(engine.steps(net, update, resident, rows, training, rates, warps(training, len(resident), SIDE, 0)))

    return epoch


def _epoch(model: str, augmented: bool, splits: Splits, count: int) -> Race:
    training = config.recipe(model, **({} if augmented else OFF))
    ways = tuple(partial(_trainer, model, splits, engine, training) for engine in (torch_engine, native))
    name = f"{model}, an epoch{' with augmentation' if augmented else ''}"
    done = operations(build(model, splits.train))[1] * len(splits.train)
    return Race(name, "the torch engine", (ways[0], ways[1]), 4, done, torch.get_num_threads())


def _inference(splits: Splits, count: int) -> Race:
    model, few = build("tutorial-cnn", splits.train), splits.train.take(slice(0, 10_000))
    resident = Resident.of(few, torch.device("cpu"))

    def theirs() -> Work:
        works = [partial(torch_engine.logits, model, resident, size) for size in (250, 500)]
        for work in works:
            work()
        return min(works, key=lambda work: min(_timed(work) for _ in range(5)))

    def ours() -> Work:
        return partial(native.logits, model, resident, 500)

    return Race(
        f"tutorial-cnn, {len(few):,} images classified", "PyTorch, batches 250 or 500", (theirs, ours), 2,
        operations(model)[0] * len(few), torch.get_num_threads(),
    )  # fmt: skip


def _two_at_once(splits: Splits, count: int) -> Race:
    """Its ratio is that of one seed's time to two seeds': above 1 / 1.15."""
    training = config.recipe("tutorial-cnn")
    first, second = (partial(_trainer, "tutorial-cnn", splits, native, training) for _ in range(2))

    def one() -> Work:
        return partial(_alone, first())

    def two() -> Work:
        works = first(), second()

        def together() -> None:
            with world.one_thread(), ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(work) for work in works]:
                    done.result()

        return together

    done = 2 * operations(build("tutorial-cnn", splits.train))[1] * len(splits.train)
    return Race(
        "tutorial-cnn, two seeds at once, an epoch", "one of them, on one thread", (one, two), 1 / 1.15, done, 2
    )


def _alone(work: Work) -> None:
    with world.one_thread():
        work()


RACES: list[Callable[[Splits, int], Race]] = [
    *(partial(tutorial, preset) for preset in MODELS),
    *(partial(_epoch, model, augmented) for model in ("kilo-4k", "kilo-16k") for augmented in (False, True)),
    _inference,
    _two_at_once,
]
"""Each makes a race from the tutorial's split and the epochs of its trainings."""
