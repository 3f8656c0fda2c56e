"""How arrays and raw bytes in a request's body become images."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.serve.limits import Limits, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_POINT_ZERO = re.compile(rb"(?<=[0-9])\.0+(?=[\s,\]])")
"""What makes no difference to a whole number, but four times the memory to what is read of it."""
_SOME = 1 << 16
"""Bytes that are looked at in one go."""
_FRACTION = re.compile(rb"[0-9](?:\.0*[1-9]|[eE])")
RAW, JSON, FORM = "application/octet-stream", "application/json", "multipart/form-data"
PICTURES = (
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/x-ms-bmp", "image/tiff",
    "image/x-portable-anymap", "image/x-portable-bitmap", "image/x-portable-graymap", "image/x-portable-pixmap",
)  # fmt: skip
"""What `kilonet.pictures` reads, by the names of the web; what a picture is, it says itself."""
_IN_ARRAYS = b"0123456789[], \t\r\n.eE+-"
_AROUND_ARRAYS = (b"", b'{"images":}'.translate(None, _IN_ARRAYS))


def raw_images(body: bytes, shape: tuple[int, int, int], limits: Limits) -> NDArray[np.uint8]:
    """Images from their bytes, one after another; uint8, (N, C, H, W), a view of the body.

    Raises:
        RefusedError: with 422 if these are no whole images, 413 if too many.
    """
    channels, height, width = shape
    size = channels * height * width
    if not body or len(body) % size:
        raise RefusedError(
            422,
            f"{len(body):,} bytes: expected {size:,} an image, {channels} x {height} x {width}, one after another",
            "pictures have content types of their own: image/png, image/jpeg, ...",
        )
    check_number(len(body) // size, limits)
    return np.frombuffer(body, np.uint8).reshape(-1, *shape)


def json_images(body: bytes, shape: tuple[int, int, int], limits: Limits) -> NDArray[np.uint8]:
    """Images from nested arrays of whole numbers from 0 to 255; uint8, (N, C, H, W).

    What the numbers are is looked at, and how many there are, before anything is made of them.

    Raises:
        RefusedError: with 400 for what is no JSON, 422 for other things or sizes, 413 for too many images.
    """
    channels, height, width = shape
    if body.translate(None, _IN_ARRAYS) not in _AROUND_ARRAYS:
        _check_json(body, limits)
        raise _no_array(shape)
    if body.count(b",") > limits.images * channels * height * width:
        raise RefusedError(413, f"more numbers than {limits.images:,} images have", "send several requests")
    if body.count(b"[") > 2 + limits.images * (1 + channels * (1 + height)):
        raise RefusedError(413, f"more arrays than {limits.images:,} images have", "send several requests")
    if _FRACTION.search(body):
        raise RefusedError(422, "a number that is no pixel: expected whole numbers from 0 to 255")
    found = _parsed(_without_points(body) if b"." in body else body)
    if isinstance(found, dict):
        found = found.get("images")
    try:
        array = np.array(found)
    except (ValueError, OverflowError):
        raise RefusedError(422, "arrays of unequal lengths", _expected(shape)) from None
    if array.dtype.kind not in "iu" or not array.size:
        raise _no_array(shape)
    if array.min() < 0 or array.max() > 255:
        raise RefusedError(422, "a number that is no pixel: expected whole numbers from 0 to 255")
    return _shaped(array.astype(np.uint8), shape, limits)


def _without_points(body: bytes) -> bytes:
    """Numbers without their `.0`, some of them at a time: what is found in a text takes many times its memory."""
    parts, at = [], 0
    while at < len(body):
        end = body.find(b",", at + _SOME) + 1 or len(body)
        parts.append(_POINT_ZERO.sub(b"", body[at:end]))
        at = end
    return b"".join(parts)


def _shaped(array: NDArray[np.uint8], shape: tuple[int, int, int], limits: Limits) -> NDArray[np.uint8]:
    """One image or many, with or without the axis of one channel, as (N, C, H, W)."""
    if array.shape not in _forms(shape) and array.shape[1:] not in _forms(shape):
        raise RefusedError(422, f"an array of {_by(array.shape)}", _expected(shape))
    images = array.reshape(-1, *shape)
    check_number(len(images), limits)
    return images


def _forms(shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The shapes that an image may have."""
    return [shape[1:], shape] if shape[0] == 1 else [shape]


def _expected(shape: tuple[int, int, int]) -> str:
    named = " or ".join(map(_by, _forms(shape)))
    return f"expected {named} for an image, and the number of images before that for many"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "no size"


def _no_array(shape: tuple[int, int, int]) -> RefusedError:
    return RefusedError(
        422, 'expected nested arrays of whole numbers from 0 to 255, or {"images": those}', _expected(shape)
    )


def _check_json(body: bytes, limits: Limits) -> None:
    """Tell what is no JSON at all from what is none of ours, as long as that is cheap.

    Raises:
        RefusedError: with 400 if it is none.
    """
    if len(body) <= limits.head:
        _parsed(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise RefusedError(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def check_number(n: int, limits: Limits) -> None:
    """Make sure that a request has no more images than it may.

    Raises:
        RefusedError: with 413 if it has.
    """
    if n > limits.images:
        raise RefusedError(413, f"{n:,} images: a request may have {limits.images:,}", "send several requests")
