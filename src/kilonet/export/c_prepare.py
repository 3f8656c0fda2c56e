"""The C function that makes a picture into the image that a net was trained on: `kilonet.preprocess` in float32."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from kilonet import ink, preprocess
from kilonet.export.c_text import number, part

if TYPE_CHECKING:
    from kilonet.export.layers import Net

CELLS = ink.COARSE**2


@dataclass(frozen=True)
class Preparer:
    """The function, in C.

    Attributes:
        declaration: for the header.
        code: its definition.
        memory: the type of its static memory, `..._preparation`; empty if it needs none.
        memory_bytes: of that type.
    """

    declaration: str
    code: str
    memory: str = ""
    memory_bytes: int = 0


def preparer(net: Net, prefix: str) -> Preparer:
    """The function for a net."""
    common = part("prepare_common.c", prefix, faintest_whole=ceil(ink.FAINTEST), longest=preprocess.LONGEST)
    if net.preparation == "digit" and net.shape[0] == 1:
        return _digit(net, prefix, common)
    pixels = "a byte of brightness a pixel" if net.shape[0] == 1 else "bytes of red, green and blue by turns"
    return Preparer(
        part("prepare_resize.h", prefix, pixels=pixels),
        common + part("prepare_resize.c", prefix),
    )


def _digit(net: Net, prefix: str, common: str) -> Preparer:
    rows, columns = (max(1, int(side * preprocess.BOX + 0.5)) for side in net.shape[1:])
    looking, writing = CELLS + 2 * CELLS // 8 + 2 * 256, 2 * 4 * rows * columns
    levels = {
        "edge": ink.EDGE, "outer": ink.OUTER, "speck": ink.SPECK, "bar": ink.BAR,
        "blot": ink.BLOT, "clear": ink.CLEAR, "solid": ink.SOLID,
        "grain": ink.GRAIN,
        "thin": preprocess.THIN, "thick": preprocess.THICK, "spread": preprocess.SPREAD,
        "faintest": ink.FAINTEST, "tie": preprocess.TIE,
        "settled": ink.SETTLED**2,
    }  # fmt: skip
    height, width = net.shape[1:]
    area = height * width
    code = part(
        "prepare_digit.c", prefix, rounds=ink.ROUNDS, fine=ink.FINE, smallest=ink.SMALLEST, times=preprocess.TIMES,
        lit=int(255 * ink.EDGE), least_extent=ceil(preprocess.SMALL * area), most_extent=int(preprocess.LARGE * area),
        off=round(1 / preprocess.OFF),
        sum="int32_t" if 2 * 9 * 255 * area * max(height, width) < 2**31 else "float",
        **{name: number(value) for name, value in levels.items()},
    )  # fmt: skip
    return Preparer(
        part("prepare_digit.h", prefix),
        common + code,
        part("prepare_digit_memory.c", prefix, coarse=ink.COARSE, ink_values=rows * columns),
        max(looking, writing),
    )
