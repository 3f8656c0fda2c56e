"""Augmentation: training images moved, turned, enlarged and slanted at random, anew in each epoch.

All of it is one affine warp an image. Which warp depends on the seed, the epoch and the image's place in the epoch's
order alone, so that a training that goes on in the middle of an epoch draws nothing again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from kilonet.config import Training

_STREAM = 0x77617270
"""Keeps these draws apart from others of the same seed."""


def warps(training: Training, n: int, epoch: int) -> Tensor | None:
    """The warps of an epoch, from 0: float32, (n, 2, 3), or None if the settings ask for none.

    The pixel at (x, y) of the result, measured from the centre, is the source's at `warp @ (x, y, 1)`. Angles,
    logarithms of factors and shifts are uniform within their bounds.
    """
    bounds = np.array([training.rotate, training.zoom, training.shear, training.shift, training.shift])
    if not bounds.any():
        return None
    drawn = np.random.default_rng([_STREAM, training.seed, epoch]).uniform(-1, 1, (n, 5))
    turn, slant = np.radians(drawn[:, 0] * bounds[0]), np.tan(np.radians(drawn[:, 2] * bounds[2]))
    factor = np.exp(drawn[:, 1] * np.log1p(bounds[1]))
    cos, sin = np.cos(turn) * factor, np.sin(turn) * factor
    moved = drawn[:, 3:] * bounds[3:]
    rows = [cos, cos * slant - sin, moved[:, 0], sin, sin * slant + cos, moved[:, 1]]
    return torch.from_numpy(np.stack(rows, 1).reshape(n, 2, 3).astype(np.float32))


def warp(images: Tensor, by: Tensor) -> Tensor:
    """Images warped, bilinear, with zeros around: uint8 or float (N, C, H, W) and (N, 2, 3) to float32 (N, C, H, W)."""
    height, width = images.shape[2:]
    y, x = (torch.arange(n, device=images.device, dtype=torch.float32) - (n - 1) / 2 for n in (height, width))
    points = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)]
    )
    source = by.to(images.device) @ points.reshape(3, -1)
    half = torch.tensor([max(width - 1, 1) / 2, max(height - 1, 1) / 2], device=images.device)
    grid = (source.transpose(1, 2) / half).reshape(len(images), height, width, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
