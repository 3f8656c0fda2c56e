"""Picture files: any format that Pillow reads, as grey or RGB bytes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from kilonet.errors import DataError
from kilonet.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 100_000_000
"""Pictures that declare more than this are refused unread."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8, (H, W) if it is grey, (H, W, 3) if it is coloured.

    It is turned as its EXIF data says; what is transparent shows white paper; 16 bits are cut to 8.

    Raises:
        DataError: for a file that is missing, no picture, damaged, or too large.
    """
    name = printable(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{name} has {image.width}x{image.height} pixels: more than {MAX_PIXELS:,}")
                return _to_array(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"no such picture: {name}") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder: expected a picture") from None
    except DataError:
        raise
    except Exception as error:
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])[:160]
        raise DataError(f"{name} is no picture that can be read: {reason}") from None


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        scale = 257 if values.max(initial=0) > 255 else 1
        return np.clip(np.rint(values / scale), 0, 255).astype(np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    elif image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    pixels = np.array(image.convert("RGB"))
    grey = (pixels == pixels[..., :1]).all()
    return np.ascontiguousarray(pixels[..., 0]) if grey else pixels
