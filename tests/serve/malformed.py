"""Requests that won't do, as many as one likes: cut, bent and mixed from good ones, each from its seed."""

from __future__ import annotations

import io
import json
import random
import string
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from serve.talking import request

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
TYPES = ("application/octet-stream", "application/json", "multipart/form-data; boundary=x", "image/png", "image/jpeg")


def make(seed: int) -> bytes:
    """A whole request: mostly one that is well-formed HTTP with a bad body, sometimes bad HTTP."""
    rng = random.Random(seed)
    kind, body = rng.choice(_BODIES)(rng)
    for _ in range(rng.randrange(3)):
        body = bent(rng, body)
    if rng.random() < 0.1:
        kind = rng.choice(TYPES)
    query = rng.choice(["", "", "?probabilities=false", "?probabilities=%00", "?" + "a=b&" * 50])
    length = len(body) + (rng.choice([-1, 1, 1000, 10**9]) if rng.random() < 0.05 else 0)
    headers = [f"content-type: {kind}", f"content-length: {max(0, length)}"]
    if rng.random() < 0.1:
        headers[1] = "transfer-encoding: chunked"
        body = b"%x\r\n" % len(body) + body + b"\r\n" + rng.choice([b"0\r\n\r\n", b"", b"-1\r\n", b"0\r\na: b\r\n\r\n"])
    if rng.random() < 0.05:
        headers.append(
            rng.choice(["content-encoding: gzip", "expect: 100-continue", "upgrade: websocket", "range: bytes=0-"])
        )
    method = rng.choice(["POST"] * 20 + ["GET", "PUT", "PATCH", "TRACE", "HEAD", "QUERY"])
    whole = request("/v1/predict" + query, *headers, body=body, method=method)
    return bent(rng, whole, 200) if rng.random() < 0.1 else whole


def bent(rng: random.Random, content: bytes, first: int | None = None) -> bytes:
    """The same with a part changed, cut out, doubled or cut off; within the first so many bytes."""
    if not content:
        return content
    at = rng.randrange(min(len(content), first or len(content)))
    some = rng.choice([1, 1, 4, 30])
    what = rng.randrange(5)
    if what == 0:
        return content[:at] + rng.randbytes(some) + content[at + some :]
    if what == 1:
        return content[:at] + content[at + some :]
    if what == 2:
        return content[:at] + content[at : at + some] * rng.choice([2, 100]) + content[at + some :]
    if what == 3:
        return content[:at]
    return (
        content[:at] + rng.choice([b"\x00", b"\xff" * 4, b"\r\n", b"9" * 30, b"[", b"\x7f\xff\xff\xff"]) + content[at:]
    )


def _raw(rng: random.Random) -> tuple[str, bytes]:
    return TYPES[0], rng.randbytes(rng.choice([0, 1, 783, 784, 785, 784 * 3, 784 * 50 + 1]))


def _json(rng: random.Random) -> tuple[str, bytes]:
    side = rng.choice([28, 28, 27, 1, 0])
    array: object = [[rng.choice([0, 255, 256, -1, 1.5, True, None, "0"]) for _ in range(side)] for _ in range(side)]
    if rng.random() < 0.5:
        array = [[rng.randrange(256) for _ in range(28)] for _ in range(28)]
    for _ in range(rng.randrange(4)):
        array = rng.choice([[array], {"images": array}, {"images": [array, array]}, [array, []]])
    deep = b"[" * rng.choice([10, 2000, 50_000])
    words = rng.choice([deep, b"NaN", b'{"images":NaN}', b"[1e400]", b"[" + b"1" * 5000 + b"]", b'"' + b"a" * 5000])
    return TYPES[1], words if rng.random() < 0.2 else json.dumps(array).encode()


def _picture(rng: random.Random) -> tuple[str, bytes]:
    size = rng.choice([(1, 1), (28, 28), (90, 70), (1, 3000), (400, 300)])
    mode = rng.choice(["L", "RGB", "1", "P", "RGBA", "LA", "I;16", "CMYK"])
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}.get(mode)
    pixels = np.random.default_rng(rng.randrange(10**6)).integers(
        0, 256, size[::-1] + ((channels,) if channels else ())
    )
    wide = mode == "I;16"
    image = Image.fromarray((pixels * (257 if wide else 1)).astype(np.uint16 if wide else np.uint8))
    if mode in ("1", "P"):
        image = image.convert(mode)
    name, file = rng.choice(FORMATS), io.BytesIO()
    try:
        image.save(file, name)
    except (OSError, ValueError, KeyError):
        file = io.BytesIO()
        image.convert("L").save(file, name)
    return rng.choice(["image/png", f"image/{name.lower()}"]), file.getvalue()


def _form(rng: random.Random) -> tuple[str, bytes]:
    parts = []
    for _ in range(rng.choice([0, 1, 2, 5, 200])):
        name = "".join(rng.choices(string.printable, k=rng.choice([1, 5, 300])))
        head = f'content-disposition: form-data; name="{name}"'.encode()
        parts.append(b"--x\r\n" + head + b"\r\n\r\n" + _picture(rng)[1][: rng.choice([10, 10**6])] + b"\r\n")
    return TYPES[2], b"".join(parts) + rng.choice([b"--x--", b"--x--\r\n", b"--x", b""])


def _noise(rng: random.Random) -> tuple[str, bytes]:
    return rng.choice(TYPES), rng.randbytes(rng.choice([1, 100, 5000]))


_BODIES: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (_raw, _json, _picture, _picture, _form, _noise)
