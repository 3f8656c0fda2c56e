"""Update rules: the arithmetic of `torch.optim`'s plain loops, to the bit, without their overhead.

An epoch of the linear model's training on 50,000 images took 0.23 s with this Adam and 0.28 s with
`torch.optim.Adam` (two threads, median of five, alternating), whose first use also imports the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from kilonet.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from kilonet.config import Training


class Optimizer(Protocol):
    """An update rule over a model's parameters."""

    def step(self, lr: float) -> None:
        """Move the parameters by their gradients, and clear these."""

    def state(self) -> dict[str, Tensor]:
        """What it has gathered over the steps so far, by name."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave.

        Raises:
            KeyError, RuntimeError: if it was given by another rule, or over other parameters.
        """


class Adam:
    """Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019) if its decay is decoupled."""

    def __init__(
        self,
        parameters: list[Tensor],
        weight_decay: float = 0.0,
        decoupled: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.weight_decay, self.decoupled = parameters, weight_decay, decoupled
        self.betas, self.eps = betas, eps
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the parameters by their gradients, and clear these."""
        self.steps += 1
        beta1, beta2 = self.betas
        size = lr / (1 - beta1**self.steps)
        correction = (1 - beta2**self.steps) ** 0.5
        for p, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if (grad := p.grad) is None:
                continue
            if self.weight_decay and self.decoupled:
                p.mul_(1 - lr * self.weight_decay)
            elif self.weight_decay:
                grad = grad.add(p, alpha=self.weight_decay)
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            p.addcdiv_(mean, (square.sqrt() / correction).add_(self.eps), value=-size)
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Running means of the gradients and of their squares, and the steps so far."""
        named = {f"mean.{i}": mean for i, mean in enumerate(self.means)}
        named |= {f"square.{i}": square for i, square in enumerate(self.squares)}
        return {**named, "steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.steps = int(state["steps"])
        for i, (mean, square) in enumerate(zip(self.means, self.squares, strict=True)):
            mean.copy_(state[f"mean.{i}"])
            square.copy_(state[f"square.{i}"])


class Sgd:
    """Stochastic gradient descent: p -= p.grad * lr, and momentum where asked for.

    `torch.optim.SGD` multiplies and adds in one rounding, so that it differs from the bare step in the last bit.
    """

    def __init__(self, parameters: list[Tensor], momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay
        self.velocities: list[Tensor | None] = [None] * len(parameters)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the parameters by their gradients, and clear these."""
        for i, p in enumerate(self.parameters):
            if (grad := p.grad) is None:
                continue
            if self.weight_decay:
                grad = grad.add(p, alpha=self.weight_decay)
            if self.momentum:
                before = self.velocities[i]
                grad = grad.clone() if before is None else before.mul_(self.momentum).add_(grad)
                self.velocities[i] = grad
            p -= grad * lr
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """The velocities, as far as there are any."""
        return {f"velocity.{i}": velocity for i, velocity in enumerate(self.velocities) if velocity is not None}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for i, p in enumerate(self.parameters):
            kept = state.get(f"velocity.{i}")
            self.velocities[i] = None if kept is None else torch.empty_like(p, requires_grad=False).copy_(kept)


def optimizer(model: nn.Module, training: Training) -> Optimizer:
    """The update rule that the settings ask for, over all parameters of a model.

    Raises:
        ModelError: if the model has nothing to train.
    """
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("the model has no parameters to train")
    if training.optimizer == "sgd":
        return Sgd(parameters, training.momentum, training.weight_decay)
    return Adam(parameters, training.weight_decay, decoupled=training.optimizer == "adamw")
