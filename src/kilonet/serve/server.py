"""The server: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from kilonet.errors import ConfigError
from kilonet.serve.app import application
from kilonet.serve.decoding import Decoders
from kilonet.serve.memory import give_memory_back
from kilonet.serve.protocol import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from kilonet.serve.limits import Limits
    from kilonet.serve.packed import Packed

FINISH = 30
"""Seconds that requests have to be finished in once a stop was asked for."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address or a name.
        port: 0 for any that is free.

    Raises:
        ConfigError: if the address is none of this machine's, or the port is taken or not allowed.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, number)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"can't listen on {host} port {port}: {reason}", "give another --port, or --port 0 for any that is free"
        ) from None
    return made


def address(listening: socket.socket, host: str) -> str:
    """Where a socket is reached, as a URL."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def run(
    model: Packed,
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    listening: socket.socket,
    host: str,
    limits: Limits,
    ready: Callable[[], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM; then finish what was begun. A second one ends it on the spot.

    Args:
        model: what is served.
        probabilities: of images, uint8, (N, C, H, W), those of every class, float64, (N, K); called from a thread.
        listening: where; it is closed in the end.
        host: as it was given.
        limits: what requests may cost.
        ready: called once requests are answered.
    """
    give_memory_back()
    decoders = Decoders(model, limits)
    app = application(model, probabilities, decoders, (host, listening.getsockname()[0]), limits)
    config = uvicorn.Config(
        app, http=_connection(limits, app.refused), ws="none", lifespan="off", log_config=None,
        access_log=False, log_level="error", server_header=False, proxy_headers=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=FINISH, backlog=1024,
    )  # fmt: skip
    with decoders.running(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_Server(config, ready).serve([listening]))


def _connection(limits: Limits, refused: Callable[[int], None]) -> type[Connection]:
    return type("Bounded", (Connection,), {"limits": limits, "refused": staticmethod(refused)})


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready, and ends in peace when it was asked to."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have Ctrl-C and SIGTERM stop the server, and not raise them again once it has stopped."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, *_: Any) -> None:
        self.force_exit, self.should_exit = self.should_exit, True
