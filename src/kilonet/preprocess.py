"""From any picture to the image that a model was trained on.

A page and a C file do the same step by step, and what is in `ink.py` (`export/page/prepare.js`, `export/c_prepare.py`):
whole numbers where these do, float64 elsewhere, float32 in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kilonet import ink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.images import Preparation

BOX = 20 / 28
"""Of an image's side, what MNIST's digits were scaled to fit into (LeCun et al. 1998)."""
SMALL, LARGE, OFF = 0.53, 0.9, 1 / 9
"""Of the side, how large the ink is, and how far off the middle, in an image that is taken as it is."""
LONGEST = ink.COARSE
"""Times its width that a picture may be long, or the other way round: its grid has no more cells a side then."""
THIN, THICK = 0.84, 0.91
"""How solid strokes are in MNIST, sum(v * v) / sum(v) over an image: thinner ones are spread, thicker ones worn off."""
SPREAD, TIMES = 0.1, 8
"""What a pixel gets from each neighbour, or loses to it, at a time; and how often at most."""
TIE = 1e-3
"""Of a pixel, by which a centre halfway between two goes to the later one, whatever the rounding."""
_BAND = 1 << 18


def prepare(
    picture: NDArray[np.uint8], shape: tuple[int, int, int], preparation: Preparation
) -> NDArray[np.uint8] | None:
    """A picture as model input, or None where nothing is drawn on it.

    `resize` scales the whole picture. `digit` follows MNIST's recipe (LeCun et al. 1998): the ink is found, on paper
    lit evenly or not, whichever is the brighter, scaled into a box of 20/28 of the side, and its centre of mass moved
    to the centre. A picture of the model's size that was made so is taken as it is, bright on black. One that is more
    than 64 times as long as wide holds nothing.

    Args:
        picture: uint8, (H, W) or (H, W, 3).
        shape: channels, height and width that the model wants.
        preparation: `digit` or `resize`.

    Returns:
        uint8, (C, H, W), or None.
    """
    channels, height, width = shape
    if max(picture.shape[:2]) > LONGEST * min(picture.shape[:2]):
        return None
    planes = [grey(picture)] if channels == 1 else _planes(picture)
    if max(int(plane.max()) - int(plane.min()) for plane in planes) < ink.FAINTEST:
        return None
    if channels == 1 and preparation == "digit":
        found = _digit(planes[0], height, width)
        return None if found is None else found[None]
    return np.stack([_bytes(resized(plane, height, width)) for plane in planes])


def recipe(preparation: Preparation) -> dict[str, float | str]:
    """What `prepare` does, by name and number, for files that travel without this module."""
    if preparation == "resize":
        return {"name": "resize", "filter": "means over areas, or lines between centres"}
    numbers = {
        "box": BOX, "coarse": ink.COARSE, "fine": ink.FINE, "faintest": ink.FAINTEST, "rounds": ink.ROUNDS,
        "settled": ink.SETTLED, "edge": ink.EDGE, "speck": ink.SPECK, "outer": ink.OUTER, "smallest": ink.SMALLEST,
        "bar": ink.BAR, "blot": ink.BLOT, "clear": ink.CLEAR, "grain": ink.GRAIN, "solid": ink.SOLID, "thin": THIN,
        "thick": THICK, "spread": SPREAD, "times": TIMES, "tie": TIE, "small": SMALL, "large": LARGE,
        "off": OFF, "longest": LONGEST,
    }  # fmt: skip
    return {"name": "digit", "ink": "bright on black", **numbers}


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma, uint8, (H, W), by ITU-R BT.601 in 16-bit fractions."""
    if picture.ndim == 2:
        return picture
    found = np.empty(picture.shape[:2], np.uint8)
    for part in _bands(picture.shape[0], picture.shape[1]):
        red, green, blue = (picture[part, :, channel].astype(np.uint32) for channel in range(3))
        found[part] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return found


def _bands(length: int, each: int) -> list[slice]:
    """Slices that cover a length, each of some hundred thousand values: what is made of a part stays small."""
    step = max(1, _BAND // each)
    return [slice(start, start + step) for start in range(0, length, step)]


def resized(values: NDArray[np.generic], height: int, width: int) -> NDArray[np.float64]:
    """Values, (H, W), at another size: means over areas where that is smaller, lines between centres where larger."""
    rows, columns = _weights(values.shape[0], height), _weights(values.shape[1], width)
    parts = [rows @ values[:, part].astype(np.float64) for part in _bands(values.shape[1], values.shape[0])]
    return np.asarray(np.concatenate(parts, axis=1) @ columns.T)


def _weights(given: int, wanted: int) -> NDArray[np.float64]:
    """What each of `given` values counts in each of `wanted`, float64, (wanted, given)."""
    step = given / wanted
    cells = np.arange(given)
    if step >= 1:
        start = np.arange(wanted)[:, None] * step
        shares = np.minimum(start + step, cells + 1) - np.maximum(start, cells)
        return np.asarray(np.maximum(shares, 0) / step)
    centres = np.clip((np.arange(wanted)[:, None] + 0.5) * step - 0.5, 0, given - 1)
    return np.asarray(np.maximum(1 - np.abs(centres - cells), 0))


def _planes(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [picture if picture.ndim == 2 else picture[..., channel] for channel in range(3)]


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _digit(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8] | None:
    """The ink on a picture, uint8, (H, W), bright on black, scaled and centred as MNIST's digits are."""
    if picture.shape == (height, width) and (ready := _as_it_is(picture)) is not None:
        return ready
    shades = ink.shades(picture)
    return None if shades is None else _centred(shades, height, width)


def _as_it_is(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A picture that was made so: bright ink of a usual size about the middle of black; dark ink on white is turned."""
    border = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    ground = np.median(border)
    ready = picture if ground == 0 else 255 - picture if ground == 255 else None
    if ready is None or not (lit := ready > 255 * ink.EDGE).any():
        return None
    sides, total = np.array(ready.shape), ready.sum(dtype=np.int64)
    extent = max((part.stop - part.start) / side for part, side in zip(ink.inside(lit), sides, strict=True))
    middle = np.array([ready.sum(axis=1) @ np.arange(sides[0]), ready.sum(axis=0) @ np.arange(sides[1])]) / total
    centred = (np.abs(middle - (sides - 1) / 2) <= sides * OFF).all()
    return ready if SMALL <= extent <= LARGE and centred else None


def _centred(shades: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """Ink, from 0 to 1, scaled into the box, its strokes as solid as MNIST's, its centre of mass at the centre."""
    scale = min(height * BOX / shades.shape[0], width * BOX / shades.shape[1])
    rows, columns = (max(1, int(n * scale + 0.5)) for n in shades.shape)
    small = _stroked(resized(shades, rows, columns))
    total = small.sum()
    y, x = small.sum(axis=1) @ np.arange(rows) / total, small.sum(axis=0) @ np.arange(columns) / total
    top, left = _shift(height, rows, y), _shift(width, columns, x)
    image = np.zeros((height, width), np.uint8)
    image[top : top + rows, left : left + columns] = _bytes(255 * small)
    return image


def _shift(side: int, inner: int, centre: float) -> int:
    """Where what has its centre there begins, so that this comes nearest to the middle and nothing leaves the side."""
    return int(np.clip(np.floor((side - 1) / 2 - centre + 0.5 + TIE), 0, side - inner))


def _stroked(shades: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ink, 0 to 1, with its strokes as solid as MNIST's: spread while they are thinner, worn off while thicker."""
    shades = shades / shades.max()
    for _ in range(TIMES):
        if _solidity(shades) >= THIN:
            break
        shades = np.minimum(shades + SPREAD * _neighbours(shades), 1)
    for _ in range(TIMES):
        if _solidity(shades) <= THICK:
            break
        shades = np.maximum(shades - SPREAD * (4 - _neighbours(shades)), 0)
    return shades


def _solidity(shades: NDArray[np.float64]) -> float:
    return float((shades * shades).sum() / shades.sum())


def _neighbours(shades: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of the four neighbours; outside is paper."""
    wide = np.pad(shades, 1)
    return np.asarray(wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:])
