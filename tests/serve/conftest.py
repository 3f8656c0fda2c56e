"""A server in a process of its own, with an untrained net behind it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import kilonet as kn
from kilonet import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kilonet.models import Classifier


class Served:
    """A running server.

    Attributes:
        process: its process.
        port: that it listens on.
        model: that it serves.
        weights: the model's weight file.
        client: asks it.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, model: Classifier, weights: Path) -> None:
        self.process, self.port, self.model, self.weights = process, port, model, weights
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)

    def memory(self) -> float:
        """The resident memory of the server and the processes it has started, MB, shared pages counted each time."""
        of = [str(self.process.pid), *children(self.process.pid)]
        return sum(_status(pid, "VmRSS") for pid in of)

    def forget_peak(self) -> None:
        """Have the most memory that the server's own process has used counted anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """That, MB."""
        return _status(str(self.process.pid), "VmHWM")


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _status(pid: str, key: str) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def weight_file(model: Classifier, folder: Path) -> Path:
    path = folder / "weights" / "best.safetensors"
    path.parent.mkdir(parents=True)
    checkpoint.save_model(model, path)
    return path


@contextmanager
def serving(model: Classifier, *flags: str, before: str = "") -> Iterator[Served]:
    """Serve a model on a free port; `before` is Python that runs in the server's process first."""
    with tempfile.TemporaryDirectory() as folder:
        weights = weight_file(model, Path(folder))
        code = f"{before}\nfrom kilonet import cli\nif __name__ == '__main__':\n    cli.main()\n"
        script = Path(folder) / "served.py"
        script.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(script), "serve", str(weights), "--port", "0", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"kilonet serve: http://[^ ]+:(\d+)  \(Ctrl-C stops it\)\n", line)
            assert found, line + process.stdout.read()
            served = Served(process, int(found[1]), model, weights)
            with served.client:
                yield served
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()
                process.stdout.close()


@pytest.fixture(scope="session")
def digits_model() -> Classifier:
    return kn.build("kilo-4k", kn.load("mnist-5k"), seed=0).eval()


@pytest.fixture(scope="session")
def served(digits_model: Classifier) -> Iterator[Served]:
    with serving(digits_model) as found:
        yield found
