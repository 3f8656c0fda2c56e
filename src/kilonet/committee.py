"""`Committee`: nets that answer together, by the mean of their class probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kilonet.errors import ModelError
from kilonet.models import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence


class Committee(nn.Module):
    """Nets whose answer is the mean of their class probabilities, in the place of one net in a `Classifier`.

    Attributes:
        members: the nets, each of them images in, logits (N, K) out, float.
    """

    members: nn.ModuleList

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        if not nets:
            raise ModelError("a committee of no nets", "give it one at least")
        self.members = nn.ModuleList(nets)

    @classmethod
    def of(cls, models: Sequence[Classifier]) -> Classifier:
        """A classifier that asks several ones: raw images in, logarithms of the mean probabilities out, float, (N, K).

        It has the normalisation of its members, and their nets, not copies of these.

        Args:
            models: classifiers of one kind: with the same name, images, classes and normalisation.

        Raises:
            ModelError: if there are none, they are not of one kind, or one is a committee itself.
        """
        nets = [model.net for model in models]
        if any(isinstance(net, Committee) for net in nets):
            raise ModelError("a committee can't sit in a committee", "give the members of both")
        whole = cls(nets)
        for model in models[1:]:
            if (differs := _difference(models[0], model)) is not None:
                raise ModelError(f"the members of a committee differ in {differs}", "train them on the same images")
        return _around(models[0], whole)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the mean class probabilities, (N, K); each member may change its images, which are a copy."""
        return mean_answer([net(images.clone()) for net in self.members])


def mean_answer(logits: Sequence[Tensor]) -> Tensor:
    """Logarithms of the mean of the class probabilities that several logits, float, (N, K) each, stand for: (N, K).

    No probability is ever computed, so that none is lost to rounding: log(mean p) = logsumexp(log p) - log(members).
    """
    of_each = torch.stack([F.log_softmax(one, dim=1) for one in logits])
    return torch.logsumexp(of_each, dim=0) - math.log(len(logits))


def members(model: Classifier) -> list[Classifier]:
    """The members of a committee, each a classifier with the committee's normalisation; else the model alone."""
    if not isinstance(model.net, Committee):
        return [model]
    return [_around(model, net) for net in model.net.members]


def _around(like: Classifier, net: nn.Module) -> Classifier:
    """A classifier like another one, around another net; it shares the normalisation."""
    made = type(like)(
        net,
        name=like.name,
        shape=like.shape,
        classes=like.classes,
        preparation=like.preparation,
        mean=like.mean.flatten().tolist(),
        std=like.std.flatten().tolist(),
    )
    made.mean, made.std = like.mean, like.std
    return made


def _difference(one: Classifier, other: Classifier) -> str | None:
    """In what two classifiers are not of one kind, if they are not."""
    if type(one) is not type(other) or one.name != other.name:
        return f"their model: {one.name} and {other.name}"
    for what in ("shape", "classes", "preparation"):
        if getattr(one, what) != getattr(other, what):
            return what
    same = torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)
    return None if same else "the mean and standard deviation that images are normalised by"
