"""What is around every answer: the check of whom a request is for, headers that keep browsers strict, counting."""

from __future__ import annotations

import ipaddress
import re
import time
from typing import TYPE_CHECKING, Any

from kilonet.serve.limits import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping

    from kilonet.serve.metrics import Metrics

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STRICT = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


_HOST = re.compile(r"[ \t]*(\[[0-9a-f:.]+\]|[^][:@/ \t]+)(?::[0-9]*)?[ \t]*")
"""A Host header in small letters: a name or an address, and a port."""


def names(hosts: Iterable[str]) -> frozenset[str]:
    """The names in a Host header that mean a server which listens on some addresses."""
    return LOOPBACK | {f"[{host}]".lower() if ":" in host else host.lower() for host in hosts}


class Shell:
    """An application, and what is around it.

    A request whose Host header names another server is refused: so no page elsewhere can have a browser ask this one
    by a name of its own that it has pointed here (DNS rebinding). Where the server listens on all addresses, any
    address is a name of its own, which no such page can take. HEAD is answered like GET; uvicorn leaves the body out.

    Args:
        app: the application.
        direct: applications that answer a method and a path by themselves, before that one is asked.
        hosts: the address that the server listens on, and its name if it has one.
        paths: the server's own, by which requests are counted.
        metrics: counts them.
    """

    def __init__(
        self,
        app: Application,
        direct: Mapping[tuple[str, str], Application],
        hosts: Collection[str],
        paths: Collection[str],
        metrics: Metrics,
    ) -> None:
        self._app, self._direct, self._paths, self._metrics = app, direct, frozenset(paths), metrics
        self._names = names(hosts)
        self._everywhere = not {"0.0.0.0", "::"}.isdisjoint(hosts)  # noqa: S104  compared, not listened on

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        start, path = time.perf_counter(), scope["path"]
        path = path if path in self._paths else "other"
        status = 0

        async def wrapped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = any(name == _STRICT[0] for name, _ in message["headers"])
                message["headers"] = [*message["headers"], *HEADERS, *(() if own else (_STRICT,))]
            await send(message)

        if not self._for_this(scope):
            await RefusedError(400, "this server has another name than the Host header gives").send(wrapped)
        elif (app := self._direct.get((scope["method"], path))) is not None:
            await app(scope, receive, wrapped)
        else:
            head = scope["method"] == "HEAD"
            await self._app({**scope, "method": "GET"} if head else scope, receive, wrapped)
        self._metrics.answered(path, status, time.perf_counter() - start)

    def _for_this(self, scope: Message) -> bool:
        found = [value for name, value in scope["headers"] if name == b"host"]
        if len(found) != 1:
            return False
        match = _HOST.fullmatch(found[0].decode("latin-1").lower())
        return match is not None and (match[1] in self._names or (self._everywhere and _is_address(match[1])))

    def refused(self, status: int) -> None:
        """Count what was refused before it was a request."""
        self._metrics.refused(status)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
