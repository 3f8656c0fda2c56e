"""The torch engine: any module, any device, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kilonet.batches import Resident
    from kilonet.optimizers import Optimizer


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    data: Resident,
    order: Tensor,
    batch_size: int,
    rates: Sequence[float],
    watch: Callable[[int, float], None],
) -> float:
    """Train on the rows in `order`, once.

    Args:
        model: raw uint8 images in, logits out.
        optimizer: over the model's parameters.
        data: the training images.
        order: int64, (M,).
        batch_size: images a step.
        rates: the learning rate of each step.
        watch: told, after each step, how many images are done and the mean loss so far.

    Returns:
        The running mean of the loss over the images, each measured by the weights it was met with.
    """
    model.train()
    total, done = 0.0, 0
    for (images, labels), rate in zip(data.batches(order, batch_size), rates, strict=True):
        loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(rate)
        total += loss.item() * len(labels)
        done += len(labels)
        watch(done, total / done)
    return total / done


@torch.no_grad()
def logits(model: nn.Module, data: Resident, batch_size: int) -> Tensor:
    """Logits of all the images, in their order, float, (N, K), on the CPU; each counted once."""
    was_training = model.training
    model.eval()
    found = [model(images) for images in torch.split(data.images, batch_size)]
    model.train(was_training)
    return torch.cat(found).cpu()
