"""A process that reads pictures, apart from the server: what a picture does to it, the server survives.

It is started as `python -m kilonet.serve.worker CHANNELS HEIGHT WIDTH PREPARATION PIXELS LOCK`, and talks over its
standard input, a socket. A question is the number of files, their lengths, and their bytes; the answer a status, a
length, and so many bytes: with 0 a byte for each file, whether anything is drawn, and the images of those where there
is; else JSON, what to refuse the request with. Numbers are uint32, little-endian.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import socket
import struct
import sys
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

from PIL import Image

from kilonet import pictures
from kilonet.errors import DataError
from kilonet.preprocess import LONGEST, prepare
from kilonet.serve.memory import give_memory_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy import uint8
    from numpy.typing import NDArray

    from kilonet.images import Preparation

ADDRESSES = 1 << 30
"""Bytes that this process may map: more than any picture within the limits takes, less than would hurt."""
QUICK = 1_000_000
"""Pixels of a request's pictures up to which all workers may work at a time; above that one may."""
_SCANS = 16
"""Scans of a progressive JPEG that the limit on pixels allows at its full size: each goes over the whole picture."""


class _Refusal(Exception):  # noqa: N818  it is an answer
    """Why a picture is not taken: the status of HTTP, the error and the hint."""


def answer(
    files: Sequence[bytes], shape: tuple[int, int, int], preparation: Preparation, pixels: int, lock: int
) -> tuple[int, bytes]:
    """The answer to a question: its status and its bytes.

    Args:
        files: pictures.
        shape: channels, height and width of the images that they are made into.
        preparation: how.
        pixels: that they may have together.
        lock: descriptor of a file that is locked while large ones are worked on.
    """
    names = ["the picture"] if len(files) == 1 else [f"picture {i + 1} of {len(files)}" for i in range(len(files))]
    try:
        total = sum(_pixels(file, name, pixels) for file, name in zip(files, names, strict=True))
        if total > pixels:
            raise _Refusal(413, f"the pictures have more than {pixels:,} pixels together", "send several requests")
        with _alone(lock) if total > QUICK else nullcontext():
            found = [prepare(_picture(file, name), shape, preparation) for file, name in zip(files, names, strict=True)]
    except _Refusal as why:
        return 1, json.dumps(why.args).encode()
    except MemoryError:
        return 1, json.dumps([413, "the picture takes too much memory", "make it smaller first"]).encode()
    return 0, bytes(image is not None for image in found) + b"".join(i.tobytes() for i in found if i is not None)


def _pixels(content: bytes, name: str, most: int) -> int:
    """How many pixels a picture says it has, those that cost more counted as more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=pictures.FORMATS) as image:
                width, height, kind = image.width, image.height, image.format
    except Exception:
        known = ", ".join(pictures.FORMATS)
        raise _Refusal(422, f"{name} is no picture that can be read: damaged, or none of {known}", None) from None
    if kind == "PPM" and content[1:2] in b"123":
        raise _Refusal(422, f"{name} is a plain PNM, written in digits", "send a binary one, P4 to P6, or a PNG")
    if max(width, height) > LONGEST * min(width, height):
        raise _Refusal(
            422,
            f"{name} has {width} x {height} pixels: more than {LONGEST} times as long as wide",
            "cut out what counts",
        )
    weight = _weight(content, kind)
    if width * height * weight > most:
        such = " in such a file" if weight > 1 else ""
        raise _Refusal(
            413, f"{name} has {width} x {height} pixels: at most {most // weight:,} are taken{such}",
            "make it smaller first",
        )  # fmt: skip
    return width * height * weight


def _weight(content: bytes, kind: str | None) -> int:
    """How many times a pixel counts: in WebP for its memory, in a progressive JPEG for its many scans."""
    if kind == "WEBP":
        return 2
    return max(1, -(-content.count(b"\xff\xda") // _SCANS)) if kind in ("JPEG", "MPO") else 1


def _picture(content: bytes, name: str) -> NDArray[uint8]:
    try:
        return pictures.decode(content, name)
    except DataError as error:
        raise _Refusal(422, error.message, error.hint) from None


@contextmanager
def _alone(lock: int) -> Iterator[None]:
    """Hold a lock that is given back even if this process dies."""
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)


def _take(stream: socket.socket, length: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: if the server is gone.
    """
    whole = bytearray(length)
    view = memoryview(whole)
    while view:
        n = stream.recv_into(view)
        if n == 0:
            raise EOFError
        view = view[n:]
    return bytes(whole)


def main(arguments: Sequence[str]) -> None:
    """Answer until the server is gone."""
    channels, height, width, pixels, lock = (int(arguments[i]) for i in (0, 1, 2, 4, 5))
    preparation = cast("Preparation", arguments[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    stream = socket.socket(fileno=os.dup(0))
    give_memory_back()
    Image.MAX_IMAGE_PIXELS = None  # the limit is another, and has words of its own
    try:
        while True:
            (n,) = struct.unpack("<I", _take(stream, 4))
            lengths = struct.unpack(f"<{n}I", _take(stream, 4 * n))
            files = [_take(stream, length) for length in lengths]
            status, content = answer(files, (channels, height, width), preparation, pixels, lock)
            del files
            stream.sendall(struct.pack("<BI", status, len(content)) + content)
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
