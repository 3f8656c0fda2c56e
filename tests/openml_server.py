"""A loopback server that speaks OpenML's protocol as far as `sklearn.datasets.fetch_openml` uses it."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["504", "silent", "stalled", "cut short", "wrong md5", "not json"]

DOWNLOAD = "/data/v1/download/"
DESCRIPTION = re.compile(r"/api/v1/json/data/(\d+)/?$")
FEATURES = re.compile(r"/api/v1/json/data/features/(\d+)/?$")
QUALITIES = re.compile(r"/api/v1/json/data/qualities/(\d+)/?$")
BY_NAME = re.compile(r"/api/v1/json/data/list/data_name/([^/]+)/limit/2/status/active/?$")


@dataclass(frozen=True)
class Table:
    """A data set of OpenML: rows of pixels and a nominal column of classes."""

    number: int
    name: str
    pixels: NDArray[np.uint8]
    labels: list[str]

    @cached_property
    def classes(self) -> list[str]:
        return sorted(set(self.labels))

    @cached_property
    def arff(self) -> bytes:
        cells = [str(value) for value in range(256)]
        columns = [f"@ATTRIBUTE pixel{i + 1} REAL" for i in range(self.pixels.shape[1])]
        head = [f"@RELATION {self.name}", *columns, f"@ATTRIBUTE class {{{','.join(self.classes)}}}", "@DATA"]
        rows = (
            ",".join([*(cells[pixel] for pixel in row.tolist()), label])
            for row, label in zip(self.pixels, self.labels, strict=True)
        )
        return "\n".join([*head, *rows, ""]).encode()

    def description(self) -> Any:
        return {
            "data_set_description": {
                "id": str(self.number),
                "name": self.name,
                "version": "1",
                "description": "served for a test",
                "format": "ARFF",
                "status": "active",
                "url": f"https://www.openml.org{DOWNLOAD}{self.number}/{self.name}.arff",
                "md5_checksum": hashlib.md5(self.arff).hexdigest(),
                "default_target_attribute": "class",
            }
        }

    def features(self) -> Any:
        names = [f"pixel{i + 1}" for i in range(self.pixels.shape[1])]
        columns: list[dict[str, Any]] = [_column(name, "numeric", "false") for name in names]
        columns.append(_column("class", "nominal", "true") | {"nominal_value": self.classes})
        return {"data_features": {"feature": [column | {"index": str(i)} for i, column in enumerate(columns)]}}

    def qualities(self) -> Any:
        return {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": f"{len(self.labels)}.0"}]}}

    def entry(self) -> Any:
        return {"did": self.number, "name": self.name, "version": 1, "status": "active", "format": "ARFF"}


def _column(name: str, data_type: str, is_target: str) -> dict[str, Any]:
    flags = {"is_target": is_target, "is_ignore": "false", "is_row_identifier": "false"}
    return {"name": name, "data_type": data_type, "number_of_missing_values": "0", **flags}


class Server(ThreadingHTTPServer):
    """Serves tables, with a fault in the first `times` answers whose path begins with `faulty`; below 0 in all.

    Attributes:
        asked: the paths that were asked for, in their order.
    """

    daemon_threads = True

    def __init__(self, tables: list[Table], fault: Kind | None, faulty: str, times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tables = tables
        self.fault = fault
        self.faulty = faulty
        self.times = times
        self.asked: list[str] = []
        self.closing = threading.Event()

    def answer(self, path: str) -> bytes | None:
        """The body for a path, or None for one that OpenML does not know."""
        if match := BY_NAME.match(path):
            entries = [table.entry() for table in self.tables if table.name == match[1]]
            return json.dumps({"data": {"dataset": entries}}).encode() if entries else None
        for table in self.tables:
            if path == f"{DOWNLOAD}{table.number}/{table.name}.arff":
                return table.arff
            for pattern, content in (
                (DESCRIPTION, table.description),
                (FEATURES, table.features),
                (QUALITIES, table.qualities),
            ):
                if (match := pattern.match(path)) and int(match[1]) == table.number:
                    return json.dumps(content()).encode()
        return None

    def next_fault(self, path: str) -> Kind | None:
        if self.times == 0 or not path.startswith(self.faulty):
            return None
        self.times -= 1
        return self.fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.answer(self.path)
        fault = self.server.next_fault(self.path)
        if fault == "504":
            self.send_error(504)
        elif body is None:
            self._send(412, b'{"error":{"code":"372","message":"No results"}}')
        elif fault == "silent":
            self.server.closing.wait(10)
        elif fault == "not json":
            self._send(200, b"<html>please log in</html>")
        elif fault == "wrong md5":
            self._send(200, body.replace(b"0", b"1"))
        else:
            self._send(200, body, fault)

    def _send(self, status: int, body: bytes, fault: Kind | None = None) -> None:
        packed = gzip.compress(body, 1)
        self.send_response(status)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed[: len(packed) // 2] if fault else packed)
        if fault == "stalled":
            self.server.closing.wait(10)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests are quiet."""


class _ToLoopback(urllib.request.HTTPSHandler):
    """Takes what is meant for openml.org to a port of this machine, and refuses every other host."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        assert req.host in {"www.openml.org", "api.openml.org", "openml.org"}
        return self.do_open(self._connect, req)

    def _connect(self, host: str, /, *, port: int | None = None, timeout: float = 0, **_: Any) -> Any:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)


@contextmanager
def redirected(port: int) -> Iterator[None]:
    """Let `urllib` find openml.org at a port of this machine."""
    urllib.request.install_opener(
        urllib.request.build_opener(urllib.request.ProxyHandler({}), _ToLoopback(port)),
    )
    try:
        yield
    finally:
        urllib.request.install_opener(urllib.request.build_opener())


@contextmanager
def serving(*tables: Table, fault: Kind | None = None, faulty: str = "/", times: int = -1) -> Iterator[Server]:
    """OpenML with these tables, to be found where OpenML is, as long as the context lasts."""
    with Server(list(tables), fault, faulty, times) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with redirected(server.server_port):
                yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
