"""The torch engine: any module, any device, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kilonet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kilonet.batches import Resident
    from kilonet.config import Training


class BareStep(torch.optim.Optimizer):
    """p -= p.grad * lr, and nothing else.

    `torch.optim.SGD` multiplies and adds in one rounding, so it differs from this in the last bit.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= p.grad * group["lr"]


def optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for, over all parameters of a model.

    Raises:
        ModelError: if the model has nothing to train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("the model has no parameters to train")
    lr, decay = training.lr, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    if training.momentum or decay:
        return torch.optim.SGD(parameters, lr=lr, momentum=training.momentum, weight_decay=decay)
    return BareStep(parameters, lr)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
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
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
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
