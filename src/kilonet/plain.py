"""The tutorial as a plain script writes it: its models, its tensors, its loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from kilonet.images import ImageSet


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
