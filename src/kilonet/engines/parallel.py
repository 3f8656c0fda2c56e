"""The torch engine over several ranks: each computes its share of every batch, and all take the same step.

All ranks hold the same net, the same data and the same order. Of a batch each takes its contiguous share; its loss is
the sum over its own images divided by the images of the whole batch, so that the ranks' gradients add up to the one
that a single process has. They are added in one message, with the loss and whether anybody was asked to stop.

`DistributedDataParallel` would give each rank's mean the same weight, which is another gradient where shares differ in
size, and a rank without images, as in a short last batch, would have none to give. Its buckets overlap messages with
computing; all the gradients of a kilobyte net are one message.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kilonet import ranks, stopping, world
from kilonet.augment import warp
from kilonet.batches import Resident
from kilonet.engines import torch as alone
from kilonet.engines.norms import over_ranks
from kilonet.models import RawClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    """Train on some rows, once, in their order, with the other ranks; as `kilonet.engines.torch.steps` else.

    Raises:
        LostError: if a rank does not answer.
    """
    model.train()
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    stop = stopping.current()
    stop.agree(False)
    batches = torch.split(rows, training.batch_size)
    of_each = torch.split(warps, training.batch_size) if warps is not None else [None] * len(batches)
    for batch, warped, rate in zip(batches, of_each, rates, strict=True):
        loss = _own_loss(model, data, batch, training, warped)
        summed, asked = _exchange(parameters, loss, stop.asked)
        optimizer.step(rate)
        stop.agree(asked)
        yield [summed]


def _own_loss(model: Classifier, data: Resident, batch: Tensor, training: Training, warps: Tensor | None) -> Tensor:
    """This rank's part of a batch's mean loss, in nats, and its gradients.

    A rank that has no image computes the first one, which counts nothing: nets of a user's own may fail without any.
    """
    start, end = ranks.share(len(batch))
    counted = end > start
    start, end = (start, end) if counted else (0, 1)
    images, labels = next(data.batches(batch[start:end], end - start))
    if warps is not None:
        images = warp(images, warps[start:end])
        images = images.round().to(torch.uint8) if isinstance(model, RawClassifier) else images
    device = images.device
    before = world.generators(device)
    _seed(training, batch if data.names is None else data.names[batch], device)
    with over_ranks(model, counted):
        losses = F.cross_entropy(model(images), labels, label_smoothing=training.label_smoothing, reduction="sum")
        loss = losses * (counted / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
    world.set_generators(before, device)
    return loss.detach()


def _seed(training: Training, names: Tensor, device: torch.device) -> None:
    """Seed what draws in the net, dropout for one, by a batch's images, int64, (M,), among all, and the rank.

    So a training that goes on draws the same, and no window of the images what another has drawn.

    Shares differ in size, so that the ranks' generators would part; the batch order may come from them.
    """
    seed = zlib.crc32(names.numpy().tobytes(), training.seed % 2**32) * ranks.size() + ranks.number()
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _exchange(parameters: list[Tensor], loss: Tensor, asked: bool) -> tuple[float, bool]:
    """Put the sums of the ranks' gradients in the place of this one's; the sum of losses, and whether any was asked.

    A parameter that no rank has used keeps no gradient.
    """
    flags = [float(p.grad is not None) for p in parameters]
    gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    rest = torch.tensor([*flags, float(asked)], dtype=loss.dtype, device=loss.device)
    message = ranks.total(torch.cat([*gradients, loss[None], rest]))
    *summed, tail = torch.split(message, [*(p.numel() for p in parameters), 2 + len(parameters)])
    total, *used, any_asked = tail.tolist()
    for p, gradient, use in zip(parameters, summed, used, strict=True):
        p.grad = gradient.view_as(p).to(p.dtype) if use else None
    return total, any_asked > 0


def measure(model: Classifier, data: Resident, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy over the images, in nats, and the share classified rightly; each rank computes its share.

    Sums and counts are added, so that every image counts once.
    """
    start, end = ranks.share(len(data))
    sums = torch.zeros(2, dtype=torch.float64)
    if end > start:
        found = alone.logits(model, Resident(data.images[start:end], data.labels[start:end]), batch_size)
        labels = data.labels[start:end].cpu()
        sums[0] = F.cross_entropy(found.double(), labels, reduction="sum")
        sums[1] = (found.argmax(1) == labels).sum()
    loss, correct = (ranks.total(sums) / len(data)).tolist()
    return loss, correct
