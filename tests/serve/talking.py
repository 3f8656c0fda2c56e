"""HTTP by hand: bytes sent as they are, and what comes back."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    """An answer, or with status 0 a connection that was closed without one."""

    status: int
    head: bytes = b""
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def connect(port: int, seconds: float = 30) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), seconds)


def request(path: str, *headers: str, body: bytes = b"", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def read(connection: socket.socket) -> Answer:
    """One answer.

    Raises:
        TimeoutError: if none came: a hang.
    """
    received = b""
    while True:
        end = received.find(b"\r\n\r\n")
        if end >= 0 and received.startswith(b"HTTP/1.1 100"):
            received = received[end + 4 :]
            continue
        if end >= 0:
            break
        try:
            part = connection.recv(1 << 16)
        except ConnectionError:
            part = b""
        if not part:
            return Answer(0)
        received += part
    head, body = received[:end], received[end + 4 :]
    length = next(int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
    while len(body) < length:
        try:
            part = connection.recv(1 << 16)
        except ConnectionError:
            break
        if not part:
            break
        body += part
    return Answer(int(head.split()[1]), head, body[:length])


def ask(port: int, content: bytes, *, close: bool = False, seconds: float = 30) -> Answer:
    """Send some bytes over a connection of their own; with `close` say that nothing more comes."""
    with connect(port, seconds) as connection:
        with suppress(OSError):  # the server may have refused and gone before
            connection.sendall(content)
            if close:
                connection.shutdown(socket.SHUT_WR)
        return read(connection)
