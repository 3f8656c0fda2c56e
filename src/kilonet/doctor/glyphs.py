"""How digits and letters look upright: handwritten ones from MNIST, printed ones from a font."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBERED = {
    47: "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt",
    62: "0123456789" + _LETTERS + _LETTERS.lower(),
}
"""EMNIST's numbers for its classes, by how many there are (Cohen et al. 2017)."""


def characters(classes: tuple[str, ...]) -> list[str | None]:
    """The digit or letter that each class stands for, or None.

    Numbers alone are taken as EMNIST takes them: 1 to 26 (or 0 to 25) as letters, 0 to 46 and 0 to 61 as digits and
    letters, and otherwise 0 to 9 as digits.
    """
    if all(name.isdecimal() and name.isascii() for name in classes):
        numbers = [int(name) for name in classes]
        if len(classes) == 26 and numbers in ([*range(26)], [*range(1, 27)]):
            return list(_LETTERS)
        if len(classes) in _NUMBERED and numbers == [*range(len(classes))]:
            return list(_NUMBERED[len(classes)])
        return [str(n) if n < 10 and len(classes) <= 10 else None for n in numbers]
    return [_character(name) for name in classes]


def _character(name: str) -> str | None:
    word = name.strip().lower()
    if word in _WORDS:
        return str(_WORDS.index(word))
    found = re.fullmatch(
        r"(?:(?:digit|number|letter|class|char|label)[ _-]*)?([0-9A-Za-z])", name.strip(), re.IGNORECASE
    )
    return found[1] if found else None


@cache
def printed(character: str, size: int = 28) -> NDArray[np.float32]:
    """A digit or letter in DejaVu Sans, which comes with Matplotlib, float32, (size, size), light on dark."""
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 48)
    paper = Image.new("L", (96, 96))
    ImageDraw.Draw(paper).text((24, 12), character, 255, font)
    ink = paper.crop(paper.getbbox())
    scale = 0.7 * size / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BOX)
    image = Image.new("L", (size, size))
    image.paste(ink, ((size - ink.width) // 2, (size - ink.height) // 2))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(size / 28)), np.float32)


@cache
def handwritten() -> dict[str, NDArray[np.float32]]:
    """The mean of each digit in the bundled part of MNIST, float32, (28, 28)."""
    from kilonet.doctor.part import Part
    from kilonet.sources import bundled

    return dict(zip("0123456789", Part("mnist-5k", bundled.load("mnist-5k")).class_means, strict=True))


def framed(means: NDArray[np.float32], size: int = 16) -> NDArray[np.float32]:
    """Class means, (K, H, W), cut to where they differ and brought to one size, float32, (K, size, size)."""
    from PIL import Image

    varies = means.std(0)
    inside = varies > 0.3 * varies.max()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return np.zeros((len(means), size, size), np.float32)
    cut = means[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    resized = [Image.fromarray(mean).resize((size, size), Image.Resampling.BILINEAR) for mean in cut]
    return np.stack([np.asarray(image, np.float32) for image in resized])
