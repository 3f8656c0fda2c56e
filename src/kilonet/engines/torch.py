"""The torch engine: any module, any device, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kilonet.batches import Resident
    from kilonet.optimizers import Optimizer


def steps(
    model: nn.Module, optimizer: Optimizer, data: Resident, rows: Tensor, batch_size: int, rates: Sequence[float]
) -> Iterator[list[float]]:
    """Train on some rows, once, in their order.

    Args:
        model: raw uint8 images in, logits out.
        optimizer: over the model's parameters.
        data: the training images.
        rows: int64, (M,).
        batch_size: images a step.
        rates: the learning rate of each step.

    Yields:
        Mean losses over the images, in nats, of the steps taken since it last yielded; whoever iterates may look at
        the model, and stop, there.
    """
    model.train()
    for (images, labels), rate in zip(data.batches(rows, batch_size), rates, strict=True):
        loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(rate)
        yield [loss.item()]


@torch.no_grad()
def logits(model: nn.Module, data: Resident, batch_size: int) -> Tensor:
    """Logits of all the images, in their order, float, (N, K), on the CPU; each counted once."""
    was_training = model.training
    model.eval()
    found = [model(images) for images in torch.split(data.images, batch_size)]
    model.train(was_training)
    return torch.cat(found).cpu()
