"""Batch norm over the batch of all ranks (Ioffe and Szegedy 2015), on any device.

Each rank gives the number, the mean and the variance of its own values; joined as Chan, Golub and LeVeque (1979) do it,
they are those of the whole batch, and no sum of squares loses its digits. PyTorch's `SyncBatchNorm` does this on GPUs
alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from kilonet import ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def over_ranks(model: nn.Module, counted: bool = True) -> Iterator[None]:
    """Have the batch norms of a model that are in training normalise over the batch of all ranks, for a while.

    Modules, parameters and names stay as they are.

    Args:
        model: in training on every rank, each with its share of a batch.
        counted: whether this rank's images count; what they are normalised by is the others' alone if not.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.__dict__["forward"] = partial(_forward, norm, counted)
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _forward(norm: _BatchNorm, counted: bool, images: Tensor) -> Tensor:
    """What the module's own `forward` does, over all ranks; images float, (N, C, ...)."""
    norm._check_input_dim(images)  # type: ignore[no-untyped-call]
    n, mean, var = _moments(images.detach(), counted)
    if n < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {images.shape}")
    if norm.track_running_stats and norm.running_mean is not None:
        _follow(norm, n, mean, var)
    of_batch = (mean, var, n, norm.eps, counted)
    normalised: Tensor = _Normalise.apply(images, norm.weight, norm.bias, *of_batch)  # type: ignore[no-untyped-call]
    return normalised


def _moments(images: Tensor, counted: bool) -> tuple[int, Tensor, Tensor]:
    """Number of values a channel over all ranks, their mean and their biased variance, float64, (C,)."""
    channels = images.shape[1]
    own = torch.zeros(1 + 2 * channels, dtype=torch.float64, device=images.device)
    if counted and images.numel():
        mean, var = torch.batch_norm_update_stats(images, None, None, 0.0)
        own[0] = images.numel() // channels
        own[1 : 1 + channels], own[1 + channels :] = mean, var
    found = ranks.collected(own)
    counts, means, variances = found[:, :1], found[:, 1 : 1 + channels], found[:, 1 + channels :]
    n = counts.sum()
    mean = (counts * means).sum(0) / n
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / n
    return int(n), mean, var


@torch.no_grad()
def _follow(norm: _BatchNorm, n: int, mean: Tensor, var: Tensor) -> None:
    """Move the running statistics; the variance without bias, as PyTorch does."""
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1 / int(norm.num_batches_tracked) if momentum is None else momentum
    share = 0.0 if momentum is None else momentum
    for running, found in ((norm.running_mean, mean), (norm.running_var, var * (n / (n - 1)))):
        if running is not None:
            running.mul_(1 - share).add_(found.to(running.dtype), alpha=share)


class _Normalise(Function):
    """Values normalised by the moments of the whole batch, which depend on all of them."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        n: int,
        eps: float,
        counted: bool,
    ) -> Tensor:
        mean, var = mean.to(images.dtype), var.to(images.dtype)
        ctx.save_for_backward(images, weight, mean, var)
        ctx.n, ctx.eps, ctx.counted = n, eps, counted
        return F.batch_norm(images, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the images: each moves the batch's mean and variance, and by these all of its values."""
        images, weight, mean, var = ctx.saved_tensors
        by_norm = (1, -1, *[1] * (images.ndim - 2))
        of_images, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0].contiguous(), images, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        both = ranks.total(torch.stack([of_bias, of_weight]).double()) / ctx.n
        inverse = (var.double() + ctx.eps).rsqrt()
        scale = inverse if weight is None else inverse * weight.double()
        by_mean, by_var = ((share * scale).to(images.dtype).view(by_norm) for share in (both[0], both[1] * inverse))
        of_images.sub_(by_mean).addcmul_(images - mean.view(by_norm), by_var, value=-1)
        if not ctx.counted:
            of_images, of_bias, of_weight = (torch.zeros_like(found) for found in (of_images, of_bias, of_weight))
        own = (of_weight, of_bias) if weight is not None else (None, None)
        return of_images, *own, None, None, None, None, None
