"""How an epoch is computed. `torch`: any module on any device; `native`: kernels for small nets on the CPU.

Where several ranks train together, `parallel` is the torch engine over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from torch import nn

from kilonet import ranks
from kilonet.committee import Committee, members
from kilonet.engines import committee, native, parallel, torch
from kilonet.errors import ConfigError, ModelError
from kilonet.zoo import Linear, LinearFromScratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from kilonet.batches import Resident
    from kilonet.config import Training
    from kilonet.models import Classifier
    from kilonet.optimizers import Optimizer


WIDE = 400_000
"""Weights of linear layers from which on PyTorch is the faster (docs/engines.md)."""

Name = Literal["native", "torch"]


class Steps(Protocol):
    """Train on some rows, once, in their order."""

    def __call__(
        self,
        model: Classifier,
        optimizer: Optimizer,
        data: Resident,
        rows: Tensor,
        training: Training,
        rates: Sequence[float],
        warps: Tensor | None,
    ) -> Iterator[list[float]]:
        """As `kilonet.engines.torch.steps` has it."""


class Measure(Protocol):
    """Loss and accuracy over all the images."""

    def __call__(self, model: Classifier, data: Resident, batch_size: int) -> tuple[float, float]:
        """As `kilonet.engines.torch.measure` has it."""


class Logits(Protocol):
    """Logits of all the images."""

    def __call__(self, model: Classifier, data: Resident, batch_size: int) -> Tensor:
        """As `kilonet.engines.torch.logits` has it."""


@dataclass(frozen=True)
class Engine:
    """One way to compute.

    Attributes:
        name: `torch` or `native`.
        steps: trains.
        measure: validates.
        logits: gives answers.
        about: what it is, for people; and why it is not the native one, where that was left open.
    """

    name: Name
    steps: Steps
    measure: Measure
    logits: Logits
    about: str


def choose(asked: str, model: Classifier) -> Engine:
    """The engine that is asked for; under `auto` the native one, if it knows the model's layers and is the faster.

    The native one measures a committee member by member; trained as one net it is by PyTorch. Several ranks train
    together by PyTorch alone.

    Raises:
        ModelError: if the native one is asked for and does not know them.
        ConfigError: if the native one is asked for and is not there, or by several ranks.
    """
    if ranks.size() > 1:
        return _over_ranks(asked)
    if isinstance(model.net, Committee):
        of_each = [choose(asked, member) for member in members(model)]
        return _together(next((engine for engine in of_each if engine.name == "torch"), of_each[0]))
    if asked == "torch":
        return Engine("torch", torch.steps, torch.measure, torch.logits, "torch")
    why = native.why_not(model)
    if why is None and asked == "auto" and _dense(model) >= WIDE:
        why = f"it is the faster for {_dense(model):,} weights in linear layers"
    if why is None:
        return Engine(
            "native", native.steps, native.measure, native.logits, f"native, {native.library().variant} kernels"
        )
    if asked == "native":
        native.library()
        raise ModelError(f"{model.name} can't be computed natively: {why}", "--engine torch computes any model")
    return Engine("torch", torch.steps, torch.measure, torch.logits, f"torch, since {why}")


def _over_ranks(asked: str) -> Engine:
    """The torch engine over all ranks that train together."""
    if asked == "native":
        raise ConfigError(
            f"the native engine trains in one process, not over {ranks.size()} ranks",
            "--engine torch; or without torchrun, as a run goes on that the native engine began",
        )
    about = "torch" if asked == "torch" else f"torch, since {ranks.size()} ranks train together"
    return Engine("torch", parallel.steps, parallel.measure, torch.logits, about)


def _together(engine: Engine) -> Engine:
    """A committee's engine, from that of its members."""
    if engine.name == "torch":
        return engine
    measure, logits = partial(committee.measure, engine.logits), partial(committee.logits, engine.logits)
    return Engine(engine.name, torch.steps, measure, logits, engine.about)


def _dense(model: Classifier) -> int:
    """Weights of linear layers."""
    kinds = (nn.Linear, Linear, LinearFromScratch)
    return sum(p.numel() for m in model.modules() if isinstance(m, kinds) for p in m.parameters() if p.ndim == 2)
