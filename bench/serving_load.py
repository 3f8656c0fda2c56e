"""A load on an HTTP server: so many connections, each with its next request as soon as it has its answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class Result:
    """What came of a load.

    Attributes:
        seconds: it took.
        latencies: of each request, seconds, in the order of their answers.
        errors: answers that were not 200, and connections lost.
        example: the first answer's body.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    example: bytes = b""

    def percentile(self, share: float) -> float:
        """The latency that this share of the requests did not exceed, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class _Client(asyncio.Protocol):
    """A connection that sends one request after another until the end."""

    def __init__(self, requests: Iterator[bytes], until: float, pause: float, result: Result) -> None:
        self._requests, self._until, self._pause, self._result = requests, until, pause, result
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._shown = False
        self._answer, self._missing, self._sent, self._due = b"", 0, 0.0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._due = time.perf_counter()
        self._send()

    def _send(self) -> None:
        now = time.perf_counter()
        if now >= self._until:
            self._transport.close()
            return
        if self._pause and now < self._due:
            self._loop.call_later(self._due - now, self._send)
            return
        self._sent, self._due = now, max(self._due + self._pause, now - 1)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            if self._shown:
                self._result.example += data
        else:
            self._answer += data
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._answer[:end].lower()
            at = head.index(b"content-length: ") + 16
            length = int(head[at : (head + b"\r").index(b"\r", at)])
            if not head.startswith(b"http/1.1 200"):
                self._result.errors += 1
            if not self._result.example:
                self._result.example, self._shown = self._answer[end + 4 :], True
            self._missing = length - (len(self._answer) - end - 4)
            self._answer = b""
        if self._missing <= 0:
            self._missing, self._shown = 0, False
            self._result.latencies.append(time.perf_counter() - self._sent)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or time.perf_counter() < self._until:
            self._result.errors += 1
        if not self.done.done():
            self.done.set_result(None)


def _same(client: _Client) -> _Client:
    return client


async def _load(port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float | None) -> Result:
    result, start = Result(), time.perf_counter()
    pause = connections / rate if rate else 0.0
    loop, waiting = asyncio.get_running_loop(), []
    for number in range(connections):
        own = cycle([*requests[number % len(requests) :], *requests[: number % len(requests)]])
        client = _Client(own, start + seconds, pause, result)
        await loop.create_connection(partial(_same, client), "127.0.0.1", port)
        waiting.append(client.done)
    await asyncio.gather(*waiting)
    result.seconds = time.perf_counter() - start
    return result


def load(port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float | None = None) -> Result:
    """Load a server on the loopback.

    Args:
        port: the server's.
        requests: sent in turn, whole: head and body.
        connections: at a time, each with one request at a time.
        seconds: that new requests are begun for.
        rate: requests a second to keep to, or None for as many as are answered.
    """
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(_load(port, requests, connections, seconds, rate))
    return uvloop.run(_load(port, requests, connections, seconds, rate))


def post(path: str, content_type: str, body: bytes) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
