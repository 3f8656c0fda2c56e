"""Picture files: any format that Pillow reads, as grey or RGB bytes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from kilonet.errors import DataError
from kilonet.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 25_000_000
"""Pictures that declare more than this, a JPEG more than four times this, are refused unread: reading one takes up to
16 bytes a pixel, and a second."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What is read, by Pillow's names: no format that a program of its own is started for, as for PostScript."""
_BAND = 1 << 20
"""Pixels that are converted at a time."""
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
    bits are cut to 8; of several frames the first counts; a JPEG with too many pixels is read at half its size.

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
                if image.format == "JPEG" and image.width * image.height > most_pixels:
                    image.draft(image.mode, (image.width // 2, image.height // 2))
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
        return _of_values(image)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"))
    ground = _paper(image) if _is_seen_through(image) else None
    if image.width * image.height <= _BAND:
        coloured = _coloured(image, ground)
        return np.array(coloured.getchannel(0) if _is_grey(coloured) else coloured)
    pixels, grey = np.empty((image.height, image.width, 3), np.uint8), True
    for rows, part in _bands(image):
        coloured = _coloured(part, ground)
        grey = grey and _is_grey(coloured)
        pixels[rows] = np.asarray(coloured)
    return np.ascontiguousarray(pixels[..., 0]) if grey else pixels


def _is_seen_through(image: Image.Image) -> bool:
    """Whether any of a picture may be transparent: drawings from browsers have an alpha channel that says no."""
    return image.has_transparency_data and (image.mode != "RGBA" or image.getchannel("A").getextrema()[0] != 255)


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))


def _coloured(image: Image.Image, ground: str | None) -> Image.Image:
    """A picture as RGB, on some ground if parts of it are transparent."""
    if ground is not None:
        paper = Image.new("RGBA", image.size, ground)
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """A picture in parts of some rows each, so that what is made of it on the way to an array stays small."""
    step = max(1, _BAND // image.width)
    if step >= image.height:
        yield slice(None), image
        return
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _paper(image: Image.Image) -> str:
    """What a picture with transparent parts lies on: white; or black, if what shows is brighter than half grey."""
    bright = shown = 0
    for _, part in _bands(image):
        whole = part.convert("RGBA")
        alpha = np.array(whole.getchannel("A"), np.int64)
        bright += int((np.array(whole.convert("L"), np.int64) * alpha).sum())
        shown += int(alpha.sum())
    return "black" if bright > 127 * shown else "white"


def _of_values(image: Image.Image) -> NDArray[np.uint8]:
    """Values from 0 to 255, or from 0 to 65,535, as bytes; float32 holds all of these exactly."""
    most = 0.0
    for _, part in _bands(image):
        values = np.array(part, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("some of its values are no numbers")
        most = max(most, float(values.max(initial=0)))
    found = np.empty((image.height, image.width), np.uint8)
    for rows, part in _bands(image):
        whole = np.rint(np.array(part, np.float32) / (257 if most > 255 else 1))
        found[rows] = np.clip(whole, 0, 255)
    return found
