"""Random drawings, plain and on bad paper, to hold two ways of preparing pictures against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray


def drawing(seed: int) -> NDArray[np.uint8]:
    """A picture, uint8, (H, W), (H, W, 3) or (H, W, 4), 1 to 400 pixels a side."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in np.exp(rng.uniform(np.log(20), np.log(400), 2)))
    if rng.random() < 0.05:
        height, width = (int(n) for n in rng.integers(1, 40, 2))
    ink = strokes(rng, height, width) if rng.random() < 0.95 else np.zeros((height, width))
    if rng.random() < 0.4:
        return np.asarray(np.rint(255 * ink), np.uint8)
    bright, dark = rng.uniform(150, 255), rng.uniform(0, 120)
    paper, level = (dark, bright) if rng.random() < 0.5 else (bright, dark)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j] if min(height, width) > 1 else (0.0, 0.0)
    shade = rng.uniform(-40, 40) * x + rng.uniform(-40, 40) * y + rng.uniform(-20, 20) * x * y
    grey = paper + shade + (level - paper) * ink + rng.normal(0, rng.choice([0, 3, 12]), (height, width))
    pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        return pixels
    tinted = np.clip(pixels[..., None] * rng.uniform(0.7, 1, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        return tinted
    return np.dstack([tinted, np.rint(255 * np.clip(ink, 0, 1)).astype(np.uint8)])


def strokes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """One to three random strokes, 0 to 1, with soft edges."""
    canvas = Image.new("L", (4 * width, 4 * height))
    pen = ImageDraw.Draw(canvas)
    thickness = max(1, round(4 * min(height, width) * rng.uniform(0.02, 0.15)))
    middle, spread = rng.uniform(0.3, 0.7, 2), rng.uniform(0.05, 0.3)
    for _ in range(rng.integers(1, 4)):
        points = (middle + np.cumsum(rng.normal(0, spread, (rng.integers(1, 9), 2)), axis=0)) * (4 * width, 4 * height)
        pen.line([tuple(point) for point in points], 255, thickness, "curve")
        for x, y in points:
            pen.ellipse([x - thickness / 2, y - thickness / 2, x + thickness / 2, y + thickness / 2], 255)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float64) / 255
