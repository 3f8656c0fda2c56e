"""The torch engine: any module, any device, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kilonet.augment import warp
from kilonet.models import RawClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kilonet.batches import Resident
    from kilonet.config import Training
    from kilonet.models import Classifier
    from kilonet.optimizers import Optimizer


def steps(
    model: Classifier,
    optimizer: Optimizer,
    data: Resident,
    rows: Tensor,
    training: Training,
    rates: Sequence[float],
    warps: Tensor | None,
) -> Iterator[list[float]]:
    """Train on some rows, once, in their order.

    Args:
        model: raw uint8 images in, logits out.
        optimizer: over the model's parameters.
        data: the training images.
        rows: int64, (M,).
        training: batch size and label smoothing.
        rates: the learning rate of each step.
        warps: as `kilonet.augment.warps` gives them for these rows, or None.

    Yields:
        Mean losses over the images, in nats, of the steps taken since it last yielded; whoever iterates may look at
        the model, and stop, there.
    """
    model.train()
    size = training.batch_size
    for i, ((images, labels), rate) in enumerate(zip(data.batches(rows, size), rates, strict=True)):
        if warps is not None:
            images = warp(images, warps[i * size : (i + 1) * size])
            images = images.round().to(torch.uint8) if isinstance(model, RawClassifier) else images
        loss = F.cross_entropy(model(images), labels, label_smoothing=training.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(rate)
        yield [loss.item()]


def measure(model: Classifier, data: Resident, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy over the images, in nats, and the share classified rightly."""
    return scores(logits(model, data, batch_size), data)


def scores(found: Tensor, data: Resident) -> tuple[float, float]:
    """Mean cross-entropy of the images' logits, float, (N, K), on the CPU, in nats; the share classified rightly."""
    labels = data.labels.cpu()
    loss = F.cross_entropy(found.double(), labels).item()
    return loss, int((found.argmax(1) == labels).sum()) / len(labels)


@torch.no_grad()
def logits(model: Classifier, data: Resident, batch_size: int) -> Tensor:
    """Logits of all the images, in their order, float, (N, K), on the CPU; each counted once."""
    was_training = model.training
    model.eval()
    found = [model(images) for images in torch.split(data.images, batch_size)]
    model.train(was_training)
    return torch.cat(found).cpu()
