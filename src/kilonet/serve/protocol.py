"""Limits on what a connection may do before there is a request, and while an answer is fetched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from kilonet.serve.limits import Limits, problem

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable


LINGER = 2.0
"""Seconds that a connection is kept after a refusal, for the client to read it."""
WAITING = 16
"""Requests that may wait on a connection while an earlier one is answered."""


class _EnoughError(Exception):
    """Nothing more is read of a connection; raised to stop the parser amid what it was given."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with a limit on a request's head, on its time, on connections, and on a slow reader's.

    uvicorn itself waits for headers without end, however long they are.
    """

    limits = Limits()
    refused: Callable[[int], None]
    """Told the status of each refusal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quiet = 0
        self._head = 0
        self._heads = True
        self._refused = False
        self._coming = _Timer(self.loop, self.limits.seconds)
        self._going = _Timer(self.loop, self.limits.seconds)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            self._refused = True
            transport.abort()
            return
        if len(self.connections) > self.limits.connections:
            self.refuse(429, "too many connections at a time", "try again later")
            return
        self._coming.start(self._too_late)

    def data_received(self, data: bytes) -> None:
        """Take some bytes, as long as they come to something."""
        if self._refused or self.transport.is_closing():
            return
        self._quiet += len(data)
        self._unset_keepalive_if_required()
        self._read(data)
        if self._refused or self.transport.is_closing():
            return
        if self._quiet > self.limits.head:
            self._refuse_head()
        elif self._heads:
            self._coming.start(self._too_late)

    def _read(self, data: bytes) -> None:
        """Have the parser read some bytes.

        It ends at a request that would go on in another protocol. As none is spoken here, that request is read again
        without the header that says so, and then its body, like any other.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                if self.parser.get_method() == b"CONNECT":
                    self.refuse(400, "this is no proxy", None)
                    return
                data = self._head_again() + data[wish.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                continue
            except httptools.HttpParserError:
                if not self._refused and not self.transport.is_closing():
                    self.refuse(400, "this is no HTTP request", None)
            return

    def _head_again(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more; it still gets the answer to what it has sent whole."""
        cycle = self.cycle
        due = cycle is not None and not cycle.response_complete and not cycle.more_body
        if due:
            cycle.keep_alive = False
        return due

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._heads, self._head = True, 0

    def on_url(self, url: bytes) -> None:
        """Some of a request's path."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one that follows a body, which nobody reads."""
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._heads:
            super().on_header(name, value)

    def _count(self, length: int) -> None:
        self._head += length
        if self._head > self.limits.head:
            self._refuse_head()
            raise _EnoughError

    def on_headers_complete(self) -> None:
        """A request's head is there; one too many to wait is left, and the connection ends with those before it."""
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= WAITING:
            self._refused, self.cycle.keep_alive = True, False
            raise _EnoughError
        self._heads, self._quiet = False, 0
        self._coming.stop()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._quiet = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        if self.parser.should_upgrade():
            return
        self._quiet = 0
        self._coming.stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is given; what still comes of the request's body is let pass, for a while."""
        super().on_response_complete()
        if not self.cycle.more_body or self.transport.is_closing():
            return
        if self.expect_100_continue:
            self.transport.close()  # a client that was not told to go on need not send the body
        else:
            self._coming.start(self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._coming.stop()
        self._going.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client doesn't fetch its answer."""
        super().pause_writing()
        self._going.start(self.transport.abort)

    def resume_writing(self) -> None:
        """It goes on."""
        super().resume_writing()
        self._going.stop()

    def _refuse_head(self) -> None:
        self.refuse(431, f"more than {self.limits.head:,} bytes of headers", "send fewer")

    def refuse(self, status: int, error: str, hint: str | None) -> None:
        """Answer what is no request or no body, unless an answer is being given or due to an earlier one, and close."""
        cycle = self.cycle
        coming = cycle is not None and cycle.more_body and not cycle.response_started and not self.pipeline
        if coming:
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is not None and not cycle.response_complete and not coming:
            self.transport.close()
            return
        self.refused(status)
        body = problem(error, hint)
        lines = (
            b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close",
            b"x-content-type-options: nosniff",
            *(name + b": " + value for name, value in self.server_state.default_headers), b"", body,
        )  # fmt: skip
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines))
        if self._quiet or len(self.connections) > self.limits.connections:
            self._let_pass()
        else:
            self.transport.close()

    def _let_pass(self) -> None:
        """Take what still comes and forget it: if it were not taken the client might not get its answer."""
        self._refused = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._coming.stop()
        self.loop.call_later(LINGER, self.transport.abort)

    def _too_late(self) -> None:
        if not self._refused and not self.transport.is_closing():
            self.refuse(408, f"no request came within {self.limits.seconds:g} seconds", None)


class _Timer:
    """Something that happens later, unless it is called off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._handle: TimerHandle | None = None

    def start(self, what: Callable[[], None]) -> None:
        """Have it happen, if nothing is to happen yet."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, what)

    def stop(self) -> None:
        """Call it off."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
