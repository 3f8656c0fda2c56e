"""Picture files: any format that Pillow reads, as grey or RGB bytes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kilonet.errors import DataError
from kilonet.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 25_000_000
"""Pictures that declare more than this are refused unread: reading one takes up to 16 bytes a pixel, and a second."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What is read, by Pillow's names: no format that a program of its own is started for, as for PostScript."""
_MAX_SCANS = 100
"""A progressive JPEG has ten or so; each goes over the whole picture, however few bytes it has."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8, (H, W) if it is grey, (H, W, 3) if it is coloured; see `decode`.

    Raises:
        DataError: for a file that is missing, no picture of a format that is read, damaged, or too large.
    """
    name = printable(str(path))
    if not path.is_file():
        raise DataError(_what_it_is(path, name))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} is no picture that can be read: {error.strerror}") from None
    return decode(content, name)


def decode(content: bytes, name: str, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A picture's bytes as uint8, (H, W) if it is grey, (H, W, 3) if it is coloured.

    It is turned as its EXIF data says; what is transparent shows the paper, white or, behind bright ink, black; 16
    bits are cut to 8; of several frames the first counts.

    Args:
        content: of a picture file.
        name: what messages call it.
        most_pixels: that it may have.

    Raises:
        DataError: for what is no picture of a format that is read, damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > most_pixels:
                    raise DataError(
                        f"{name} has {image.width}x{image.height} pixels: more than {most_pixels:,}",
                        "make it smaller first",
                    )
                if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > _MAX_SCANS:
                    raise DataError(f"{name} is no picture that can be read: more than {_MAX_SCANS} scans")
                ImageOps.exif_transpose(image, in_place=True)
                return _to_array(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DataError(f"{name} is no picture that can be read: damaged, or none of {known}") from None
    except Exception as error:
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])[:160]
        raise DataError(f"{name} is no picture that can be read: {reason}") from None


def _what_it_is(path: Path, name: str) -> str:
    if path.is_dir():
        return f"{name} is a folder: expected a picture"
    return f"{name} is a pipe or a device: expected a picture" if path.exists() else f"no such picture: {name}"


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _to_bytes(np.array(image, np.float32))
    if image.has_transparency_data:
        image = _on_paper(image.convert("RGBA"))
    elif image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    pixels = np.array(image.convert("RGB"))
    red, green, blue = (pixels[..., channel] for channel in range(3))
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    return np.ascontiguousarray(red) if grey else pixels


def _on_paper(image: Image.Image) -> Image.Image:
    """A picture with transparent parts, on white paper; on black, if what shows is brighter than half grey."""
    ink, shown = np.array(image.convert("L"), np.int64), np.array(image.getchannel("A"), np.int64)
    bright = int((ink * shown).sum()) > 127 * int(shown.sum())
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if bright else "white"), image).convert("RGB")


def _to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values from 0 to 255, or from 0 to 65,535, as bytes; float32 holds all of these exactly."""
    if not np.isfinite(values).all():
        raise ValueError("some of its values are no numbers")
    if values.max(initial=0) > 255:
        values /= 257
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)
