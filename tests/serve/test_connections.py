"""What comes over a connection that is not one request after another, each whole and well-formed."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

import pytest

from kilonet.serve.limits import Limits
from serve.talking import ask, connect, read, request
from serve.test_limits import refused

if TYPE_CHECKING:
    from serve.conftest import Served

LIMITS = Limits()


def test_headers_without_end(served: Served) -> None:
    for line in (b"a: b\r\n", b"x" * 1000):
        with connect(served.port) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    connection.sendall(line * 100)
                    time.sleep(0.001)
            assert read(connection).status in (431, 0)
    refused(ask(served.port, b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40_000), 431)


def test_trailers_without_end(served: Served) -> None:
    before = served.memory()
    kind = "content-type: application/octet-stream"
    with connect(served.port) as connection:
        connection.sendall(request("/v1/predict", kind, "transfer-encoding: chunked") + b"1\r\nx\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                connection.sendall(b"a: " + b"b" * 100_000 + b"\r\n")
        assert read(connection).status in (431, 0)
    assert served.memory() - before < 10


POST = b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost localhost\r\n\r\n",
        POST + b"content-length: x\r\n\r\n",
        POST + b"content-length: -5\r\n\r\n",
        POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_what_is_no_request(served: Served, content: bytes) -> None:
    answer = ask(served.port, content, seconds=5)
    assert answer.status in (400, 404, 405)
    assert set(answer.json()) == {"error", "hint"}


def test_requests_sent_in_one_go_are_answered_in_their_order(served: Served) -> None:
    kind, length = "content-type: application/octet-stream", "content-length: 784"
    one = request("/v1/predict", kind, length, body=bytes(784))
    two = request("/healthz", method="GET")
    with connect(served.port) as connection:
        connection.sendall(one + two + one)
        whole = b""
        while whole.count(b"HTTP/1.1 200 OK") < 3 or not whole.endswith(b"]}"):
            part = connection.recv(1 << 16)
            assert part
            whole += part
    assert whole.index(b"predictions") < whole.index(b'{"status":"ok"}') < whole.rindex(b"predictions")


def test_a_client_that_asks_first_need_not_send_what_is_refused(served: Served) -> None:
    kind = "content-type: text/plain"
    with connect(served.port) as connection:
        connection.sendall(request("/v1/predict", kind, "content-length: 784", "expect: 100-continue"))
        refused(read(connection), 415)
        assert connection.recv(1) == b""


def test_a_client_that_says_it_has_sent_all_gets_its_answer(served: Served) -> None:
    kind = "content-type: application/octet-stream"
    one = request("/v1/predict", kind, "content-length: 784", body=bytes(784))
    assert [ask(served.port, one, close=True).status for _ in range(20)] == [200] * 20
    assert ask(served.port, one[:-1], close=True).status == 0


UPGRADES = ("h2c", "websocket", "TLS/1.0")


@pytest.mark.parametrize("wish", UPGRADES)
@pytest.mark.parametrize("apart", [False, True])
def test_a_wish_for_another_protocol_is_passed_over_and_the_body_read(served: Served, wish: str, apart: bool) -> None:
    kind, other = "content-type: application/octet-stream", request("/healthz", method="GET")
    body = other + bytes(784 - len(other))
    one = request("/v1/predict", kind, "content-length: 784", "connection: Upgrade, HTTP2-Settings", f"upgrade: {wish}")
    with connect(served.port) as connection:
        for part in (one, body + one + body + other) if apart else (one + body + one + body + other,):
            connection.sendall(part)
            time.sleep(0.1)
        whole = b""
        while b'"ok"' not in whole:
            part = connection.recv(1 << 16)
            assert part
            whole += part
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert whole.count(b"HTTP/1.1 200 OK") == whole.count(b"HTTP/1.1") == 3
    assert whole.count(b"predictions") == 2


def test_very_many_requests_in_one_go_are_not_all_kept(served: Served) -> None:
    before, most = served.memory(), 0.0
    many = request("/healthz", method="GET") * 4000
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connect(served.port))
            connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                connection.sendall(many)
            most = max(most, served.memory())
    assert most - before < 20
    with connect(served.port) as connection:
        connection.sendall(request("/healthz", method="GET") * 40)
        whole = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                whole += part
    assert whole.count(b"HTTP/1.1 200 OK") == whole.count(b"HTTP/1.1") == 17


def test_what_is_refused_before_it_is_a_request_is_counted_and_dated(served: Served) -> None:
    def count() -> float:
        text = served.client.get("/metrics").text
        found = re.search(r'kilonet_requests_total{path="none",status="431"} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = count()
    answer = ask(served.port, request("/healthz", "x: " + "y" * LIMITS.head, method="GET"))
    assert answer.status == 431
    for head in (answer.head, ask(served.port, request("/healthz", method="GET")).head):
        assert len(re.findall(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", head)) == 1
    assert count() == before + 1


def test_blanks_around_a_name_are_none_of_it(served: Served) -> None:
    content = b"GET /healthz HTTP/1.1\r\nhost: \t localhost:80 \t\r\n\r\n"
    assert ask(served.port, content).status == 200


def test_headers_are_counted_however_they_are_sent(served: Served) -> None:
    for lines in (["x: " + "y" * (LIMITS.head - 100)], ["a: b"] * (LIMITS.head // 6 + 10)):
        refused_at_once = len(lines) > 1
        content = request("/healthz", *lines, method="GET")
        for step in (1000, len(content)):
            with connect(served.port) as connection:
                for at in range(0, len(content), step):
                    connection.sendall(content[at : at + step])
                assert read(connection).status == (431 if refused_at_once else 200)
