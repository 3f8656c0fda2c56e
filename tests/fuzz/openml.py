"""OpenML on this machine, whose answers are the files of a folder."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING

import openml_server
from kilonet.sources import openml

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


class _Server(openml_server.Server):
    folder: Path
    redirection: AbstractContextManager[None]

    def answer(self, path: str) -> bytes | None:
        """The file that stands for the answer to a path, whatever number or name the path asks for."""
        patterns = {"description": "DESCRIPTION", "features": "FEATURES", "qualities": "QUALITIES", "list": "BY_NAME"}
        for name, pattern in patterns.items():
            if getattr(openml_server, pattern).match(path):
                return (self.folder / f"{name}.json").read_bytes()
        return (self.folder / "data.arff").read_bytes() if path.startswith(openml_server.DOWNLOAD) else None


@functools.cache
def _server() -> _Server:
    """Serves from here on, and takes over what is meant for OpenML; nobody waits before a further try."""
    server = _Server([], None, "/", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    server.redirection = openml_server.redirected(server.server_port)
    server.redirection.__enter__()
    openml.RETRIES, openml.TIMEOUT = 1, 0.5
    time.sleep = lambda seconds: None
    return server


def serve(folder: Path) -> None:
    """Let OpenML answer with what lies in a folder."""
    _server().folder = folder


def port() -> int:
    """Where the server listens."""
    return _server().server_port
