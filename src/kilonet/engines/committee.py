"""A committee computed member by member, by an engine that knows its members' layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilonet import world
from kilonet.committee import mean_answer, members
from kilonet.engines import torch

if TYPE_CHECKING:
    from torch import Tensor

    from kilonet.batches import Resident
    from kilonet.engines import Logits
    from kilonet.models import Classifier


def logits(of_member: Logits, model: Classifier, data: Resident, batch_size: int) -> Tensor:
    """Logarithms of the mean class probabilities of all the images, in their order, float, (N, K), on the CPU.

    Args:
        of_member: gives a member's logits.
        model: a committee.
        data: the images.
        batch_size: images a forward pass.
    """
    of_each = [of_member(member, data, batch_size) for member in members(model)]
    with world.one_thread():
        return mean_answer(of_each)


def measure(of_member: Logits, model: Classifier, data: Resident, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy over the images, in nats, and the share classified rightly; as `logits` else."""
    return torch.scores(logits(of_member, model, data, batch_size), data)
