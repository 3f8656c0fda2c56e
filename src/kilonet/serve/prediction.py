"""`POST /v1/predict`: from a request to its answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np

from kilonet.serve import answers, bodies
from kilonet.serve.limits import SMALL, GoneError, Held, Limits, RefusedError, Room, Share, check_declared, read_body
from kilonet.serve.multipart import parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    from numpy.typing import NDArray

    from kilonet.serve.batching import Batcher
    from kilonet.serve.decoding import Decoders
    from kilonet.serve.metrics import Metrics
    from kilonet.serve.packed import Packed

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Images = NDArray[np.uint8]

Read = TypeVar("Read")


class Predict:
    """Answers predictions, as an ASGI application of its own: nothing stands between it and the bytes.

    Args:
        model: what images have to be.
        batcher: computes.
        writer: how an answer is written, of which the batcher has made rows.
        decoders: make pictures into images.
        metrics: counts images.
        limits: what a request may cost.
    """

    def __init__(
        self,
        model: Packed,
        batcher: Batcher,
        writer: answers.Writer,
        decoders: Decoders,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._model, self._batcher, self._writer = model, batcher, writer
        self._metrics, self._limits = metrics, limits
        self._bodies = Room(limits)
        self._answers = Share(limits.bodies // 2, limits.seconds)
        self._decoders, self._reader = decoders, ThreadPoolExecutor(1, "read")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not; where the client has left nobody is told."""
        try:
            await self._answer(scope, receive, send)
        except RefusedError as error:
            await error.send(send)
        except asyncio.CancelledError:
            await RefusedError(408, "the server ends before this was done", "ask again once it is back").send(send)
        except GoneError:
            return

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        kind, short = _kind(headers), _short(scope["query_string"])
        check_declared(headers.get(b"content-length"), self._limits)
        async with AsyncExitStack() as holding:
            body = await read_body(receive, self._limits, holding.enter_context(Held(self._bodies)))
            drawn = None
            if kind == bodies.RAW:
                images = bodies.raw_images(body, self._model.shape, self._limits)
            elif kind == bodies.JSON:
                images = await self._apart(bodies.json_images, body, self._model.shape, self._limits)
            else:
                images, drawn = await self._pictures(body, kind, headers)
            n = len(images) if drawn is None else len(drawn)
            if (size := n * self._writer.length) > SMALL:
                await holding.enter_async_context(self._answers.of(size))
            answer = await self._predicted(images, drawn, short=short)
            self._metrics.predicted(kind, n, n - len(images))
            del body, images
            await _send(send, answer)

    async def _predicted(self, images: Images, drawn: list[bool] | None, *, short: bool) -> bytes:
        """The answer for images, and where `drawn` says so, for pictures in which there was nothing."""
        more_come = drawn is not None and self._decoders.busy
        rows = np.empty((0, 0), np.uint8)
        if len(images):
            rows = await self._batcher.rows(images, more_come=more_come)
        if short and len(rows):
            rows = self._writer.short(rows)
        if drawn is None or all(drawn):
            return answers.joined([rows.tobytes()])
        found = (row.tobytes() for row in rows)
        nothing = answers.NOTHING_SHORT if short else answers.NOTHING
        return answers.joined([next(found) if one else nothing for one in drawn])

    async def _apart(self, read: Callable[..., Read], body: bytes, *more: object) -> Read:
        """What `read` makes of a body; of large ones in a thread, one at a time, beside the other requests."""
        if len(body) <= SMALL:
            return read(body, *more)
        return await asyncio.get_running_loop().run_in_executor(self._reader, read, body, *more)

    async def _pictures(self, body: bytes, kind: str, headers: dict[bytes, bytes]) -> tuple[Images, list[bool]]:
        """The images in a body's pictures, and of each picture whether anything was drawn."""
        files: Sequence[bytes | memoryview] = [body]
        if kind == bodies.FORM:
            files = await self._apart(parts, body, headers[b"content-type"].decode("latin-1"), self._limits.images)
        if not files or not any(len(file) for file in files):
            raise RefusedError(422, "no picture", "send the bytes of a picture file, or several in multipart/form-data")
        return await self._decoders.images(files)


def _headers(scope: Message) -> dict[bytes, bytes]:
    """The headers by name.

    Raises:
        RefusedError: with 400 if one that decides how the body is read is there twice.
    """
    listed: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(listed)
    if len(headers) < len(listed):
        for name in (b"content-type", b"content-length", b"content-encoding"):
            if sum(one == name for one, _ in listed) > 1:
                raise RefusedError(400, f"{name.decode()} is there twice")
    return headers


def _kind(headers: dict[bytes, bytes]) -> str:
    """The content type, without what follows it.

    Raises:
        RefusedError: with 415 if it is none that is taken, or the body is compressed.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise RefusedError(415, "compressed bodies are not taken", "send it without content-encoding")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in (bodies.RAW, bodies.JSON, bodies.FORM, *bodies.PICTURES):
        given = f"content-type {kind[:80]}" if kind else "no content-type"
        known = "image/png and other pictures', multipart/form-data, application/json or application/octet-stream"
        raise RefusedError(415, f"{given} won't do", f"expected {known}")
    return kind


def _short(query: bytes) -> bool:
    """Whether the answer shall leave the probabilities of all the classes out."""
    if not query:
        return False
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise RefusedError(400, "the query can't be read") from None
    given = [value for name, value in pairs if name == "probabilities"]
    if len(given) > 1 or (given and given[0] not in ("true", "false")):
        raise RefusedError(422, "probabilities won't do: expected true or false, once")
    return given == ["false"]


async def _send(send: Send, answer: bytes) -> None:
    """Send an answer; of a large one this returns when most of it is on its way.

    Raises:
        GoneError: if the server ends before the client has fetched it.
    """
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    large = len(answer) > SMALL
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer, "more_body": large})
        if large:
            await send({"type": "http.response.body"})
    except asyncio.CancelledError:
        raise GoneError from None
