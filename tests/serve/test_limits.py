"""Each limit, met by what goes beyond it: an answer of its own, no memory, no hang."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import struct
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from kilonet.serve.limits import Held, Limits, RefusedError, Room, read_body
from serve.conftest import children, serving
from serve.talking import ask, connect, read, request
from serve.test_api import RAW, drawing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kilonet.models import Classifier
    from serve.conftest import Served

LIMITS = Limits()
SHORT = (
    "import functools, kilonet.serve.limits as l\nl.Limits = functools.partial(l.Limits, seconds=1.0, connections=20)"
)


@pytest.fixture(scope="module")
def hasty(digits_model: Classifier) -> Iterator[Served]:
    """A server that waits for a second and takes 20 connections."""
    with serving(digits_model, before=SHORT) as found:
        yield found


def refused(answer: object, status: int) -> str:
    assert getattr(answer, "status", None) == status or getattr(answer, "status_code", None) == status, answer
    found = answer.json()  # type: ignore[attr-defined]
    assert set(found) == {"error", "hint"}
    assert "Traceback" not in str(found)
    assert "/work" not in str(found)
    return str(found["error"])


def test_a_body_that_says_it_is_too_long(served: Served) -> None:
    kind = "content-type: application/octet-stream"
    refused(ask(served.port, request("/v1/predict", kind, f"content-length: {LIMITS.body + 1}")), 413)


def test_a_body_too_long_is_answered_though_it_is_still_being_sent(served: Served) -> None:
    answer = served.client.post("/v1/predict", content=bytes(3 * LIMITS.body), headers=RAW)
    refused(answer, 413)


def test_a_body_without_a_length_is_held_only_up_to_the_limit(served: Served) -> None:
    before = served.memory()

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 20)

    refused(served.client.post("/v1/predict", content=endless(), headers=RAW), 413)
    assert served.memory() - before < 3 * LIMITS.body / 1e6


def test_too_many_images(served: Served) -> None:
    many = LIMITS.images + 1
    refused(served.client.post("/v1/predict", content=bytes(many * 784), headers=RAW), 413)
    array = b"[" + b",".join([b"[" + b",".join([b"[" + b",".join([b"0"] * 28) + b"]"] * 28) + b"]"] * many) + b"]"
    assert len(array) < LIMITS.body
    refused(served.client.post("/v1/predict", content=array, headers={"content-type": "application/json"}), 413)
    part = b'--x\r\ncontent-disposition: form-data; name="f"\r\n\r\na\r\n'
    form = {"content-type": "multipart/form-data; boundary=x"}
    refused(served.client.post("/v1/predict", content=part * many + b"--x--", headers=form), 413)


def png(width: int, height: int) -> bytes:
    """A picture of zeros that takes a thousandth of its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(width + 1)) for _ in range(height)) + squeezer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_too_many_pixels(served: Served) -> None:
    before = served.memory()
    kind = {"content-type": "image/png"}
    assert "20000 x 20000" in refused(served.client.post("/v1/predict", content=png(20000, 20000), headers=kind), 413)
    side = int((0.6 * LIMITS.pixels) ** 0.5)
    assert served.client.post("/v1/predict", content=png(side, side), headers=kind).status_code == 200
    both = [("file", ("a.png", png(side, side), "image/png"))] * 2
    assert "together" in refused(served.client.post("/v1/predict", files=both), 413)
    assert served.memory() - before < 100


def test_a_jpeg_of_very_many_scans(served: Served) -> None:
    file = io.BytesIO()
    Image.new("L", (2500, 2500), 200).save(file, "JPEG", progressive=True)
    content = file.getvalue().replace(b"\xff\xd9", b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 90 + b"\xff\xd9")
    kind = {"content-type": "image/jpeg"}
    refused(served.client.post("/v1/predict", content=content, headers=kind), 413)


def test_pictures_that_take_much_to_read(served: Served) -> None:
    kind = {"content-type": "image/x-portable-anymap"}
    for plain in (b"P1\n9 9\n" + b"1 " * 81, b"P2 9 9 9\n" + b"1 " * 81, b"P3 9 9 9\n" + b"1 " * 243):
        assert "plain" in refused(served.client.post("/v1/predict", content=plain, headers=kind), 422)
    for width, height in ((650, 10), (10, 650), (70_000, 100)):
        content = b"P5 %d %d 255\n" % (width, height) + bytes(width * height)
        assert "64 times" in refused(served.client.post("/v1/predict", content=content, headers=kind), 422)
    file = io.BytesIO()
    Image.new("L", (2300, 2300), 200).save(file, "WEBP", quality=1)
    assert "4,000,000" in refused(served.client.post("/v1/predict", content=file.getvalue(), headers=kind), 413)
    content = b"P5 640 10 255\n" + bytes(6400)
    assert served.client.post("/v1/predict", content=content, headers=kind).status_code == 200


def test_large_arrays_take_little_memory(served: Served) -> None:
    row = b"[" + b",".join([b"0.0"] * 28) + b"]"
    image = b"[" + b",".join([row] * 28) + b"]"
    content = b"[" + b",".join([image] * LIMITS.images) + b"]"
    kind = {"content-type": "application/json"}
    served.client.post("/v1/predict", content=image, headers=kind)
    served.forget_peak()
    before = served.peak()
    answer = served.client.post("/v1/predict?probabilities=false", content=content, headers=kind)
    assert len(answer.json()["predictions"]) == LIMITS.images
    assert served.peak() - before < 100


def test_a_picture_of_ten_thousand_frames(served: Served) -> None:
    file = io.BytesIO()
    frames = [Image.new("L", (28, 28), i % 2) for i in range(300)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=10)
    whole = file.getvalue()
    content = whole[:-1] + whole[800:-1] * 33 + b";"
    answer = served.client.post("/v1/predict", content=content, headers={"content-type": "image/gif"})
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("kind", ["text/plain", "", "application/jsonx", "image/svg+xml", "video/mp4", "image/*"])
def test_other_content_types(served: Served, kind: str) -> None:
    refused(served.client.post("/v1/predict", content=bytes(784), headers={"content-type": kind}), 415)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "x"])
def test_compressed_bodies(served: Served, coding: str) -> None:
    refused(served.client.post("/v1/predict", content=bytes(784), headers=RAW | {"content-encoding": coding}), 415)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[", 400), (b"nothing", 400), (b"[NaN]", 400), (b"[Infinity]", 400), (b"[1e999]", 422),
        (b"[" * 100_000, 413), (b"[" * 9_000 + b"]" * 9_000, 400), (b"[true]", 422), (b"[[true, 1]]", 422),
        (b"{}", 422), (b"[]", 422),
        (b'{"images": 5}', 422), (b'{"images": []}', 422), (b'{"images": [1], "images": [2]}', 422), (b"5", 422),
        (b"[" + b"9" * 5000 + b"]", 400), (b"[" + b"9" * 400 + b"]", 422), (b"[[1, 2], [3]]", 422), (b'"images"', 422),
        (b"\xff\xfe[\x001\x00]\x00", 400), (b"[1, 2, 3]", 422), (b"null", 422), (b"[-1]", 422), (b"[256]", 422),
        (b"[0.5]", 422), (b'{"imaegs": [1]}', 422), (b'[{"images": [1]}]', 422),
    ],
)  # fmt: skip
def test_json_that_is_no_image(served: Served, body: bytes, status: int) -> None:
    refused(served.client.post("/v1/predict", content=body, headers={"content-type": "application/json"}), status)


@pytest.mark.parametrize("value", ["-1", "256", "0.5", "1e9", "-0.1", "1" * 40])
def test_one_number_that_is_no_pixel(served: Served, value: str) -> None:
    array = "[" + ",".join(["[" + ",".join(["0"] * 28) + "]"] * 28) + "]"
    content = array.replace("0", value, 1).encode()
    refused(served.client.post("/v1/predict", content=content, headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"no boundary", 400),
        ("multipart/form-data; boundary=" + "x" * 300, b"--" + b"x" * 300 + b"\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x--", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nabc\r\n--x--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\na: " + b"b" * 20_000 + b"\r\n\r\nabc\r\n--x--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc\r\n--x", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc\r\n--xy\r\n\r\n--x--", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc\r\n--x--", 422),
    ],
)
def test_malformed_forms(served: Served, kind: str, body: bytes, status: int) -> None:
    refused(served.client.post("/v1/predict", content=body, headers={"content-type": kind}), status)


@pytest.mark.parametrize("query", ["probabilities=x", "probabilities=", "probabilities=true&probabilities=false"])
def test_queries_that_wont_do(served: Served, query: str) -> None:
    refused(served.client.post(f"/v1/predict?{query}", content=bytes(784), headers=RAW), 422)


def test_clients_that_leave_do_no_harm(served: Served) -> None:
    kind = "content-type: application/octet-stream"
    for sent in (10, 784 * 1000):
        for _ in range(20):
            with connect(served.port) as connection:
                connection.sendall(request("/v1/predict", kind, "content-length: 784000", body=bytes(sent)))
    assert served.client.get("/healthz").status_code == 200


def test_a_reader_that_dies_is_replaced(served: Served) -> None:
    readers = children(served.process.pid)
    for pid in readers:
        os.kill(int(pid), signal.SIGKILL)
    kind = {"content-type": "image/png"}
    statuses = [served.client.post("/v1/predict", content=drawing(), headers=kind).status_code for _ in range(4)]
    assert statuses == [200] * 4
    assert len(children(served.process.pid)) == len(readers)


def test_uploads_that_are_only_announced_keep_no_other_out(served: Served) -> None:
    kind = "content-type: application/octet-stream"
    with contextlib.ExitStack() as stack:
        for length in ("transfer-encoding: chunked", f"content-length: {LIMITS.body}") * 2:
            idle = stack.enter_context(connect(served.port))
            idle.sendall(request("/v1/predict", kind, length) + b"1\r\nx\r\n")
        time.sleep(0.2)
        answer = served.client.post("/v1/predict", content=bytes(784 * 1000), headers=RAW, timeout=5)
        assert answer.status_code == 200


def test_bodies_that_fill_the_room_are_refused_or_answered(hasty: Served) -> None:
    kind, before = "content-type: application/octet-stream", hasty.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            held = stack.enter_context(connect(hasty.port))
            held.sendall(request("/v1/predict", kind, f"content-length: {LIMITS.body}"))
            held.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                held.send(bytes(LIMITS.body - 1))
        answer = hasty.client.post("/v1/predict", content=bytes(784 * 1000), headers=RAW)
        assert answer.status_code in (200, 429)
        assert hasty.memory() - before < 60
    time.sleep(0.3)
    assert hasty.client.post("/v1/predict", content=bytes(784 * 1000), headers=RAW).status_code == 200


def test_bodies_that_grow_beside_each_other_all_get_whole() -> None:
    limits = Limits(body=1 << 20, bodies=2 << 20, seconds=5)
    room, whole, most = Room(limits), [], 0
    coming: dict[int, int] = {}

    async def one(number: int) -> None:
        nonlocal most

        async def receive() -> dict[str, object]:
            nonlocal most
            await asyncio.sleep(0)
            coming[number] = coming.get(number, 0) + (1 << 17)
            most = max(most, sum(coming.values()))
            return {"type": "http.request", "body": bytes(1 << 17), "more_body": coming[number] < limits.body}

        with Held(room) as held:
            whole.append(len(await read_body(receive, limits, held)))
            await asyncio.sleep(0)
            del coming[number]

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(8)))

    asyncio.run(all_of_them())
    assert whole == [limits.body] * 8
    assert most <= limits.bodies + 8 * (1 << 17)
    assert (room.left, room.last_taken) == (limits.bodies - limits.body, False)


def test_a_slow_body(hasty: Served) -> None:
    kind = "content-type: application/octet-stream"
    for head in ("content-length: 784", "transfer-encoding: chunked"):
        with connect(hasty.port, 10) as connection:
            connection.sendall(request("/v1/predict", kind, head))
            for _ in range(7):
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"1\r\nx\r\n" if "chunked" in head else b"x")
                time.sleep(0.2)
            refused(read(connection), 408)


def test_a_body_has_its_time_once() -> None:
    limits, parts = Limits(seconds=0.3), [True, False]

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.2)
        return {"type": "http.request", "body": b"x", "more_body": parts.pop(0)}

    async def read_it() -> bytes:
        with Held(Room(limits)) as held:
            return await read_body(receive, limits, held)

    with pytest.raises(RefusedError) as refusal:
        asyncio.run(read_it())
    assert refusal.value.status == 408


def test_slow_headers(hasty: Served) -> None:
    for begun in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: localhost\r\n"):
        with connect(hasty.port, 10) as connection:
            for _ in range(3):
                connection.sendall(begun)
                time.sleep(0.2)
                begun = b"a: b\r\n" if begun.endswith(b"\n") else begun[:0]
            refused(read(connection), 408)
    with connect(hasty.port, 10) as connection:
        connection.sendall(request("/healthz", method="GET"))
        assert read(connection).status == 200
        connection.sendall(b"GET /healthz HT")
        refused(read(connection), 408)


def test_a_client_that_does_not_fetch_its_answers(hasty: Served) -> None:
    kind = "content-type: application/octet-stream"
    many = request("/v1/predict", kind, f"content-length: {2000 * 784}", body=bytes(2000 * 784))
    with connect(hasty.port, 20) as connection:
        for _ in range(40):
            try:
                connection.sendall(many)
            except (ConnectionError, TimeoutError):
                break
        time.sleep(1.5)
        assert hasty.memory() < 300
    assert hasty.client.get("/healthz").status_code == 200


def test_too_many_connections(hasty: Served) -> None:
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(connect(hasty.port, 10)) for _ in range(30)]
        last = read(open_ones[-1])
        refused(last, 429)
        with connect(hasty.port, 10) as another:
            content = request("/v1/predict", "content-length: 20000", body=bytes(20_000))
            for at in range(0, len(content), 100):
                another.sendall(content[at : at + 100])
                time.sleep(0.001)
            refused(read(another), 429)
    time.sleep(0.3)
    assert hasty.client.get("/healthz").status_code == 200
