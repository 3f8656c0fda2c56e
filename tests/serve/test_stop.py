"""How the server ends: what was begun is finished, nothing new is taken, and the status is 0."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from serve.conftest import children, serving
from serve.talking import connect, read, request

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.models import Classifier

HEAD = request("/v1/predict", "content-type: application/octet-stream", "content-length: 784")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_was_begun_is_finished(digits_model: Classifier, number: signal.Signals) -> None:
    with serving(digits_model) as served, connect(served.port) as begun, connect(served.port) as idle:
        begun.sendall(HEAD + bytes(400))
        idle.sendall(request("/healthz", method="GET"))
        assert read(idle).status == 200
        readers = children(served.process.pid)
        assert readers
        served.process.send_signal(number)
        assert idle.recv(1) == b""
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", served.port), 5) as late:  # noqa: PT012
            late.sendall(request("/healthz", method="GET"))
            if not late.recv(1):
                raise OSError
        time.sleep(1)
        assert served.process.poll() is None
        begun.sendall(bytes(384))
        answer = read(begun)
        assert answer.status == 200
        assert b"connection: close" in answer.head
        assert len(answer.json()["predictions"]) == 1
        assert served.process.wait(30) == 0
        assert served.process.stdout is not None
        assert served.process.stdout.read() == "kilonet serve: stopped\n"
        assert not [pid for pid in readers if alive(pid)]


def alive(pid: str) -> bool:
    from pathlib import Path

    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            return False
        time.sleep(0.1)
    return True


def test_a_second_signal_ends_it_on_the_spot(digits_model: Classifier) -> None:
    with serving(digits_model) as served, connect(served.port) as begun:
        begun.sendall(HEAD)
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            begun.settimeout(1)
            begun.recv(1)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) == 0
        assert served.process.stdout is not None
        assert served.process.stdout.read() == "kilonet serve: stopped\n"


def test_nor_does_it_wait_for_who_fetches_nothing(digits_model: Classifier) -> None:
    many = request("/v1/predict", "content-type: application/octet-stream", f"content-length: {2000 * 784}")
    with serving(digits_model) as served, socket.socket() as begun:
        begun.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        begun.connect(("127.0.0.1", served.port))
        begun.settimeout(1)
        with suppress(TimeoutError):
            for _ in range(40):
                begun.sendall(many + bytes(2000 * 784))
        for _ in range(2):
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert served.process.wait(10) == 0
        assert served.process.stdout is not None
        assert "Traceback" not in served.process.stdout.read()


def test_a_stop_of_the_whole_group_leaves_the_readers_to_the_server(digits_model: Classifier) -> None:
    from serve.test_api import drawing

    content = drawing()
    head = request("/v1/predict", "content-type: image/png", f"content-length: {len(content)}")
    with serving(digits_model) as served, connect(served.port) as begun:
        begun.sendall(head + content[:-10])
        time.sleep(0.3)
        for pid in (*children(served.process.pid), str(served.process.pid)):
            os.kill(int(pid), signal.SIGTERM)
        time.sleep(0.5)
        begun.sendall(content[-10:])
        assert read(begun).status == 200
        assert served.process.wait(30) == 0


HURRY = """
import functools, kilonet.serve.limits as l
l.Limits = functools.partial(l.Limits, seconds=3.0)
import kilonet.serve.server as s
s.FINISH = 1
"""


def test_what_cant_be_finished_is_refused(digits_model: Classifier) -> None:
    with serving(digits_model, before=HURRY) as served, connect(served.port) as begun:
        begun.sendall(HEAD)
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        answer = read(begun)
        assert (answer.status, set(answer.json())) == (408, {"error", "hint"})
        assert b"connection: close" in answer.head
        assert served.process.wait(10) == 0
        assert served.process.stdout is not None
        assert "Traceback" not in served.process.stdout.read()


def test_readers_end_with_a_server_that_is_killed(digits_model: Classifier) -> None:
    with serving(digits_model) as served:
        readers = children(served.process.pid)
        served.process.kill()
        served.process.wait(10)
        assert readers
        assert not [pid for pid in readers if alive(pid)]


def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "kilonet", "serve", "nothing", "--port", "0", "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no run nothing\n")
