"""What a request may cost, and how it is refused beyond that; how a body is read within it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What requests may cost.

    Attributes:
        body: bytes of a request's body.
        images: of a request.
        pixels: of all the pictures of a request together, as they say of themselves before they are decoded.
        seconds: that a body may take to come, a request to get its turn, and an answer to be fetched.
        head: bytes of a request's first line and headers.
        connections: at a time.
        bodies: bytes of all the bodies that are held at a time.
    """

    body: int = 8 << 20
    images: int = 2048
    pixels: int = 8_000_000
    seconds: float = 20.0
    head: int = 32 << 10
    connections: int = 256
    bodies: int = 16 << 20


SMALL = 64 << 10
"""Bytes of a body that are held without counting: each connection has that much of a buffer anyway."""


class RefusedError(KilonetError):
    """A request that is answered with an error of its sender's.

    Attributes:
        status: of HTTP, 400 to 499.
        headers: that the answer has besides.
    """

    def __init__(self, status: int, message: str, hint: str | None = None, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message, hint)
        self.status, self.headers = status, headers

    async def send(self, send: Send) -> None:
        """Answer with it."""
        body = problem(self.message, self.hint)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class GoneError(Exception):
    """The client has gone: nobody waits for an answer."""


def problem(error: str, hint: str | None) -> bytes:
    """The JSON of every refusal."""
    return json.dumps({"error": error, "hint": hint}).encode()


class Share:
    """Something that there is only so much of: whoever wants some waits for it, in order of asking.

    Args:
        whole: how much there is.
        seconds: that one waits.
    """

    def __init__(self, whole: int, seconds: float) -> None:
        self._left, self._whole, self._seconds = whole, whole, seconds
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def of(self, some: int) -> AsyncIterator[None]:
        """Hold so much of it, all of it at most.

        Raises:
            RefusedError: with 429 if it did not come free in time.
        """
        some = min(some, self._whole)
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                while self._left < some:
                    self._freed.clear()
                    await self._freed.wait()
                self._left -= some
        except TimeoutError:
            raise _too_many() from None
        try:
            yield
        finally:
            self._left += some
            self._freed.set()


class Room:
    """Memory for bodies, which take it as they come, so that one that is only announced keeps no other out.

    What is left when every body is given as much as it asks for may end before any of them is whole. So a part of it,
    enough for one body of the greatest length, is for one at a time that found no more of the rest.

    Args:
        limits: on one body, and on all of them together.
    """

    def __init__(self, limits: Limits) -> None:
        self.left = limits.bodies - limits.body
        self.last_taken = False
        self.turn, self.freed = asyncio.Lock(), asyncio.Event()


class Held:
    """What a body holds of the room for all, until this context ends.

    Args:
        room: for all.

    Attributes:
        waits: whether it waits for more.
    """

    def __init__(self, room: Room) -> None:
        self._room, self._length, self._last = room, 0, False
        self.waits = False

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.left += self._length
        if self._last:
            self._room.last_taken = False
        self._room.freed.set()

    async def reach(self, length: int) -> None:
        """Hold enough for so many bytes; wait for that if need be, in order of asking."""
        if length <= SMALL or self._last:
            return
        room, more = self._room, length - self._length
        self.waits = True
        async with room.turn:
            while more > room.left and room.last_taken:
                room.freed.clear()
                await room.freed.wait()
            if more <= room.left:
                room.left -= more
                self._length = length
            else:
                room.last_taken = self._last = True
        self.waits = False


def _too_many() -> RefusedError:
    return RefusedError(429, "too many requests at a time", "try again later", (b"retry-after", b"1"))


def check_declared(value: bytes | None, limits: Limits) -> None:
    """Look at the length that a request's header gives its body, where it has one.

    Raises:
        RefusedError: with 413 if that is too much, 400 if it is none.
    """
    if value is None:
        return
    if not value.isdigit() or len(value) > 18:
        raise RefusedError(400, "content-length is no number of bytes")
    if int(value) > limits.body:
        raise too_large(limits)


def too_large(limits: Limits) -> RefusedError:
    """What to say of a body that is too large."""
    return RefusedError(413, f"the body is larger than {limits.body:,} bytes", "send fewer or smaller images a request")


async def read_body(receive: Receive, limits: Limits, held: Held) -> bytes:
    """A request's body, no more of which is held than the limit, however it comes.

    Args:
        receive: its parts.
        limits: on its bytes, and on the seconds in which all of it has to come.
        held: of what all bodies may have together; more of it is taken as the body comes.

    Raises:
        RefusedError: with 413 if it is too long, 408 if it does not come in time, 429 if there is no room for it.
        GoneError: if the client left.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            message = await receive()
            if not message.get("more_body"):
                return _part(message, 0, limits)
            parts, length = [_part(message, 0, limits)], 0
            while message.get("more_body"):
                length += len(parts[-1])
                await held.reach(length)
                message = await receive()
                parts.append(_part(message, length, limits))
    except TimeoutError:
        if held.waits:
            raise _too_many() from None
        late = f"the body did not come within {limits.seconds:g} seconds"
        raise RefusedError(408, late, "send it faster") from None
    return b"".join(parts)


def _part(message: Message, before: int, limits: Limits) -> bytes:
    if message["type"] != "http.request":
        raise GoneError
    part: bytes = message.get("body", b"")
    if before + len(part) > limits.body:
        raise too_large(limits)
    return part
