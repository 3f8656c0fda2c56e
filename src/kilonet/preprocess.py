"""From any picture to the image that a model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.images import Preparation


def prepare(picture: NDArray[np.uint8], shape: tuple[int, int, int], preparation: Preparation) -> NDArray[np.uint8]:
    """A picture as model input.

    A picture that has the model's size already is taken as it is, but for the polarity of digits. Otherwise
    `digit` follows MNIST's recipe (LeCun et al. 1998): the ink is found, scaled into a box of 20/28 of the
    side, and its centre of mass moved to the centre; `resize` scales the whole picture.

    Args:
        picture: uint8, (H, W) or (H, W, 3).
        shape: channels, height and width that the model wants.
        preparation: `digit` or `resize`.

    Returns:
        uint8, (C, H, W).
    """
    channels, height, width = shape
    if preparation == "digit" and channels == 1:
        ink = _bright_ink(_grey(picture))
        return (ink if ink.shape == (height, width) else _centred(ink, height, width))[None]
    if channels == 1:
        return _resized(_grey(picture), height, width)[None]
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return np.ascontiguousarray(_resized(colour, height, width).transpose(2, 0, 1))


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma by ITU-R BT.601, as Pillow computes it."""
    return picture if picture.ndim == 2 else np.array(Image.fromarray(picture).convert("L"))


def _bright_ink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with bright ink on a dark ground: the ground is what its border mostly is."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return picture if np.median(border) < 128 else 255 - picture


def _centred(ink: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The ink, scaled to fit 20/28 of the image, its centre of mass at the centre."""
    low, high = float(np.percentile(ink, 5)), float(ink.max())
    if high - low < 16:
        return np.zeros((height, width), np.uint8)
    shades = np.clip((np.arange(256, dtype=np.float32) - low) * (255 / (high - low)), 0, 255)
    inked = (shades > 64)[ink]
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    box = np.rint(shades).astype(np.uint8)[ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]]
    scale = min(height * 20 / 28 / box.shape[0], width * 20 / 28 / box.shape[1])
    size = max(1, round(box.shape[0] * scale)), max(1, round(box.shape[1] * scale))
    small = _resized(box, *size)
    centre = ndimage.center_of_mass(small)
    top = int(np.clip(round((height - 1) / 2 - centre[0]), 0, height - size[0]))
    left = int(np.clip(round((width - 1) / 2 - centre[1]), 0, width - size[1]))
    image = np.zeros((height, width), np.uint8)
    image[top : top + size[0], left : left + size[1]] = small
    return image


def _resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(
        Image.fromarray(picture).resize(
            (width, height),
            Image.Resampling.BOX
            if picture.shape[0] >= height and picture.shape[1] >= width
            else Image.Resampling.BICUBIC,
        )
    )
