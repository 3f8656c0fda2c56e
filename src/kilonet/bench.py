"""The tutorial's loop as it is written, PyTorch and the native engine, side by side: the same data, the same work."""

from __future__ import annotations

import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kilonet import config, optimizers, world
from kilonet.augment import warps
from kilonet.batches import Resident
from kilonet.engines import native
from kilonet.engines import torch as torch_engine
from kilonet.images import split
from kilonet.models import build
from kilonet.train import epochs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from kilonet.config import Training
    from kilonet.images import ImageSet, Splits


class Cnn(nn.Module):
    """The tutorial's CNN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, 10, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 10), of flat images, (N, 784)."""
        x = x.view(-1, 1, 28, 28)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.avg_pool2d(x, 4)
        return x.view(-1, x.size(1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tutorial-linear": lambda: nn.Linear(784, 10),
    "tutorial-cnn": Cnn,
}


@dataclass(frozen=True)
class PlainEpoch:
    """What the plain loop prints: its validation loss is a mean of batch means; beside it, the mean over images."""

    val_loss: float
    val_loss_over_images: float
    val_accuracy: float


def plain_loop(
    model: nn.Module, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], count: int
) -> Iterator[PlainEpoch]:
    """The tutorial's training loop: `TensorDataset`, `DataLoader`, Adam; float images, (N, 784), divided by 256."""
    train_batches = DataLoader(TensorDataset(*train), batch_size=64, shuffle=True)
    val_batches = DataLoader(TensorDataset(*val), batch_size=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(count):
        model.train()
        for xb, yb in train_batches:
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            measured = [(F.cross_entropy(out := model(xb), yb).item(), len(yb), (out.argmax(1) == yb).sum().item())
                        for xb, yb in val_batches]  # fmt: skip
        n = sum(size for _, size, _ in measured)
        yield PlainEpoch(
            sum(loss for loss, _, _ in measured) / len(measured),
            sum(loss * size for loss, size, _ in measured) / n,
            sum(right for _, _, right in measured) / n,
        )


def tensors(part: ImageSet) -> tuple[Tensor, Tensor]:
    """A part as the tutorial has it: float32 images, (N, 784), divided by 256, and labels."""
    flat = np.asarray(part.images).reshape(len(part), -1).astype(np.float32) / 256
    return torch.from_numpy(flat), torch.from_numpy(part.labels.copy())


@dataclass(frozen=True)
class Race:
    """Two ways to do the same work.

    Attributes:
        name: of the work.
        against: what the first way is.
        goal: the ratio of the times to reach.
        ways: do the work once each; what takes no part in it is done before.
    """

    name: str
    against: str
    goal: float
    ways: tuple[Callable[[], object], Callable[[], object]]

    def run(self, repeats: int) -> dict[str, Any]:
        """Time both ways, alternating, after one round that is not counted."""
        times: tuple[list[float], list[float]] = ([], [])
        for round_ in range(repeats + 1):
            for way, found in zip(self.ways, times, strict=True):
                start = time.perf_counter()
                way()
                if round_:
                    found.append(time.perf_counter() - start)
        ratios = [a / b for a, b in zip(*times, strict=True)]
        first, second = map(statistics.median, times)
        return {
            "name": self.name,
            "against": self.against,
            "baseline_seconds": first,
            "kilonet_seconds": second,
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "goal": self.goal,
        }


def compare(data: ImageSet, repeats: int, count: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Time the tutorial's loop, PyTorch and the native engine at the same work, side by side.

    Args:
        data: 28x28 grey images of ten classes.
        repeats: timed rounds of each race.
        count: epochs of the tutorial's trainings.
        tell: told what goes on.

    Raises:
        ConfigError: if there are no native kernels here.
    """
    splits = split(data, "tutorial")
    variant = native.library().variant
    results = []
    for race in _races(splits, count):
        tell(f"{race.name}: {repeats} rounds, alternating with {race.against}")
        results.append(race.run(repeats))
    return {
        "conditions": {
            "data": data.origin,
            "train": len(splits.train),
            "val": 0 if splits.val is None else len(splits.val),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "processor": _processor(),
            "kernels": variant,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timed": f"median of {repeats} rounds, alternating, one before not counted",
        },
        "results": results,
    }


def _races(splits: Splits, count: int) -> Iterator[Race]:
    for preset in MODELS:
        yield _tutorial(preset, splits, count)
    for model in ("kilo-4k", "kilo-16k"):
        yield _epoch(model, splits, {})
        yield _epoch(model, splits, {"shift": 2.0, "rotate": 10.0, "zoom": 0.1, "shear": 5.0})
    yield _inference(splits)
    yield _two_at_once(splits)


def _tutorial(preset: str, splits: Splits, count: int) -> Race:
    """A whole training with its validations, from tensors in memory; each way has the data as it wants it."""
    assert splits.val is not None  # noqa: S101 - the tutorial's split always validates
    training = config.resolve({"preset": preset}, {"epochs": count, "engine": "native"}).training
    flat = tensors(splits.train), tensors(splits.val)

    def plain() -> None:
        torch.manual_seed(0)
        list(plain_loop(MODELS[preset](), *flat, count))

    def ours() -> None:
        list(epochs(build(config.PRESETS[preset]["model"], splits.train), splits, training))

    return Race(f"{preset}, {count} epochs with validation", "the tutorial's loop", 10, (plain, ours))


def _trainer(model: str, splits: Splits, engine: ModuleType, training: Training) -> Callable[[], object]:
    """Trains a model for an epoch, each time that it is called."""
    net = build(model, splits.train)
    update = optimizers.optimizer(net, training)
    resident = Resident.of(splits.train, torch.device("cpu"))
    rates = [training.lr / 25] * -(-len(resident) // training.batch_size)

    def epoch() -> None:
        with world.one_thread():
            rows = torch.randperm(len(resident))
        list(engine.steps(net, update, resident, rows, training, rates, warps(training, len(resident), 0)))

    return epoch


def _epoch(model: str, splits: Splits, augmentation: dict[str, float]) -> Race:
    training = config.recipe(model, **augmentation)
    ways = tuple(_trainer(model, splits, engine, training) for engine in (torch_engine, native))
    name = f"{model}, an epoch{' with augmentation' if augmentation else ''}"
    return Race(name, "the torch engine", 4, (ways[0], ways[1]))


def _inference(splits: Splits) -> Race:
    model, few = build("tutorial-cnn", splits.train), splits.train.take(slice(0, 10_000))
    resident = Resident.of(few, torch.device("cpu"))
    torch_engine.logits(model, resident, 250)
    seconds = {}
    for size in (250, 500):
        start = time.perf_counter()
        for _ in range(5):
            torch_engine.logits(model, resident, size)
        seconds[size] = time.perf_counter() - start
    best = min(seconds, key=lambda size: seconds[size])
    ways = (lambda: torch_engine.logits(model, resident, best), lambda: native.logits(model, resident, best))
    return Race(f"tutorial-cnn, {len(few):,} images classified", f"PyTorch in batches of {best}", 2, ways)


def _two_at_once(splits: Splits) -> Race:
    """Its ratio is that of one seed's time to two seeds': above 1 / 1.15."""
    training = config.recipe("tutorial-cnn")
    first, second = (_trainer("tutorial-cnn", splits, native, training) for _ in range(2))

    def alone() -> None:
        with world.one_thread():
            first()

    def together() -> None:
        with world.one_thread(), ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(first), pool.submit(second)]:
                done.result()

    return Race(
        "tutorial-cnn, an epoch of two seeds at once", "one of them alone, one thread", 1 / 1.15, (alone, together)
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((text.split(":")[1].strip() for text in file if text.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
