"""Augmentation: training images moved, turned, enlarged, slanted and bent at random, anew in each epoch.

An image's warp is an affine map and, where it is to be bent, a grid of control points that draw its pixels along
smoothly. Which warp depends on the seed, the epoch, the number of images and the image's place in the epoch's order
(or, where that has several windows, in its window) alone, so that a training that goes on in the middle of an epoch
draws nothing again.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from kilonet.config import Training

OFF = dict.fromkeys(("shift", "rotate", "zoom", "shear", "elastic"), 0.0)
"""Training settings that leave images as they are."""
SIDE = 28
"""Shifts and bends are measured in pixels of images with this side; with another one they are in proportion."""
CONTROL = 6
"""Control points a side: the outermost ones lie beyond the image, the second ones on its outermost pixels."""

_STREAM = 0x77617270
"""Keeps these draws apart from others of the same seed."""


def warps(training: Training, n: int, side: int, epoch: int, window: int | None = None) -> Tensor | None:
    """The warps of an epoch or of one of its windows: float32, (n, 2, 3), or (n, 2, 3 + CONTROL**2) if they bend.

    None if none is asked.

    The pixel at (x, y) of the result, measured from the centre, is the source's at `warp[:, :3] @ (x, y, 1)` plus, if
    they bend, the uniform cubic B-spline over the control points `warp[:, 3:]`, row by row, at (x, y). Angles,
    logarithms of factors and shifts are uniform within their bounds, moves of control points normal.

    Args:
        training: the bounds.
        n: images of the epoch or of the window.
        side: pixels of an image's shorter side.
        epoch: from 0.
        window: from 0, where an epoch has several.
    """
    scale = side / SIDE
    shift, elastic = training.shift * scale, training.elastic * scale
    bounds = np.array([training.rotate, training.zoom, training.shear, shift, shift])
    if not bounds.any() and not elastic:
        return None
    rng = np.random.default_rng([_STREAM, training.seed, epoch, *([] if window is None else [window])])
    drawn = rng.uniform(-1, 1, (n, 5))
    turn, slant = np.radians(drawn[:, 0] * bounds[0]), np.tan(np.radians(drawn[:, 2] * bounds[2]))
    factor = np.exp(drawn[:, 1] * np.log1p(bounds[1]))
    cos, sin = np.cos(turn) * factor, np.sin(turn) * factor
    moved = drawn[:, 3:] * bounds[3:]
    rows = [cos, cos * slant - sin, moved[:, 0], sin, sin * slant + cos, moved[:, 1]]
    affine = np.stack(rows, 1).reshape(n, 2, 3).astype(np.float32)
    if not elastic:
        return torch.from_numpy(affine)
    points = rng.standard_normal((n, 2, CONTROL**2), np.float32)
    points *= np.float32(elastic)
    return torch.from_numpy(np.concatenate([affine, points], 2))


def warp(images: Tensor, by: Tensor) -> Tensor:
    """Images warped, bilinear, with zeros around: uint8 or float (N, C, H, W) and `warps` to float32 (N, C, H, W)."""
    height, width = images.shape[2:]
    by = by.to(images.device)
    y, x = (torch.arange(n, device=images.device, dtype=torch.float32) - (n - 1) / 2 for n in (height, width))
    points = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)]
    )
    source = by[:, :, :3] @ points.reshape(3, -1)
    if by.shape[2] > 3:
        down, across = spline(height).to(images.device), spline(width).to(images.device)
        source += (down @ by[:, :, 3:].reshape(-1, 2, CONTROL, CONTROL) @ across.T).flatten(2)
    half = torch.tensor([width / 2, height / 2], device=images.device)
    grid = (source.transpose(1, 2) / half).reshape(len(images), height, width, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@functools.cache
def spline(pixels: int) -> Tensor:
    """What each control point of the cubic B-spline counts at each pixel of a side, float32, (pixels, CONTROL)."""
    spacing = (CONTROL - 3) / max(pixels - 1, 1)
    at = (CONTROL - 1) / 2 + spacing * (torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2)
    away = (at[:, None] - torch.arange(CONTROL)).abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
    return torch.where(away < 1, near, far).float()
