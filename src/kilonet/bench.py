"""The tutorial's loop, as it is written, beside Kilonet's: the same data, the same mathematics, alternating."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kilonet import config
from kilonet.images import split
from kilonet.models import build
from kilonet.train import epochs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def compare(data: ImageSet, repeats: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Time an epoch with its validation, of both models, in the tutorial's loop and in Kilonet's, alternating.

    Args:
        data: 28x28 grey images of ten classes.
        repeats: timed epochs of each, after one that is not counted.
        tell: told what goes on.
    """
    splits = split(data, "tutorial")
    results = {}
    for preset in MODELS:
        tell(f"{preset}: {repeats} epochs of each, alternating")
        results[preset] = _race(preset, splits, repeats)
    return {
        "conditions": {
            "data": data.origin,
            "train": len(splits.train),
            "val": 0 if splits.val is None else len(splits.val),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "processor": _processor(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timed": f"an epoch with its validation, median of {repeats}, alternating, one before not counted",
        },
        "results": results,
    }


def _race(preset: str, splits: Splits, repeats: int) -> dict[str, Any]:
    assert splits.val is not None  # noqa: S101 - the tutorial's split always validates
    training = config.resolve({"preset": preset}, {"epochs": repeats + 1}).training
    torch.manual_seed(0)
    plain = plain_loop(MODELS[preset](), tensors(splits.train), tensors(splits.val), repeats + 1)
    ours = epochs(build(config.PRESETS[preset]["model"], splits.train), splits, training)
    times: dict[str, list[float]] = {"tutorial": [], "kilonet": []}
    for round_ in range(repeats + 1):
        for name, loop in (("tutorial", plain), ("kilonet", ours)):
            start = time.perf_counter()
            next(loop)
            if round_:
                times[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(times["tutorial"], times["kilonet"], strict=True)]
    medians = {f"{name}_seconds": statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": statistics.median(ratios), "ratios": ratios}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((text.split(":")[1].strip() for text in file if text.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
