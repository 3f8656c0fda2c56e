"""The server under load, from a second process on the loopback, beside the same model served the usual way.

    python bench/serving.py RUN [--seconds 60] [--repeats 1] [--connections 16] [--only LOAD ...] [--to FILE]

    single   one raw image a request
    png      one picture of 280 x 280 a request, a PNG in multipart/form-data
    batch    1,000 raw images a request

Each load runs for `--seconds` against `kilonet serve RUN`, then against `serving_plain.py`, both with every connection
sending its next request once it has its answer, and so `--repeats` times in turn. The latency is from the first byte
sent to the last one read. Memory is the resident set before a load, after it, and at its highest, of the server and
the processes it has started, what they share counted for each; processor time is theirs together. One answer of each
load is looked at.

`--rate N` has `kilonet serve` asked for N requests a second instead of as many as it answers.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import kilonet as kn
from kilonet.bench import processor
from serving_load import load, post  # type: ignore[import-not-found]  # a script beside this one

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADS = ("single", "png", "batch")
RAW = "application/octet-stream"


def requests(kind: str, ours: bool) -> tuple[list[bytes], int]:
    """Some tens of requests of a kind, whole, and the images in each."""
    digits = kn.load("mnist-5k").images[::50][:64]
    if kind == "single":
        return [post("/v1/predict" if ours else "/raw", RAW, image.tobytes()) for image in digits], 1
    if kind == "batch":
        many = np.resize(digits, (1000, *digits.shape[1:]))
        return [post("/v1/predict" if ours else "/raw", RAW, np.roll(many, i, 0).tobytes()) for i in range(4)], 1000
    return [_upload("/v1/predict" if ours else "/predict", _png(image[0])) for image in digits], 1


def _png(image: np.ndarray[Any, Any]) -> bytes:
    """A digit as a picture of 280 x 280, dark on white, as one would draw it."""
    file = io.BytesIO()
    drawn = Image.fromarray(255 - image).resize((280, 280), Image.Resampling.BICUBIC)
    drawn.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _upload(path: str, picture: bytes) -> bytes:
    head = (
        b'--limit\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\ncontent-type: image/png\r\n\r\n'
    )
    whole: bytes = post(path, "multipart/form-data; boundary=limit", head + picture + b"\r\n--limit--\r\n")
    return whole


@contextmanager
def served(command: list[str], port: int) -> Iterator[int]:
    """A server in a process of its own; its process id."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await_port(port, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers a request, whatever it says."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                if connection.recv(1):
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and those it has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [pid, *(int(child) for task in tasks for child in (task / "children").read_text().split())]


def memory(pid: int, what: str) -> float:
    """`VmRSS` or `VmHWM` of a process and those it has started, MB."""
    found = 0
    for one in family(pid):
        line = next(x for x in Path(f"/proc/{one}/status").read_text().splitlines() if x.startswith(what))
        found += int(line.split()[1])
    return found * 1024 / 1e6


def cpu(pid: int) -> float:
    """Seconds of processor time that a process and those it has started have used, all their threads together."""
    ticks = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def check(answer: bytes, images: int) -> None:
    """Make sure that an answer says something of each image, with probabilities that add up to one."""
    found = json.loads(answer)
    found = found.get("predictions", found) if isinstance(found, dict) else found
    each = found if isinstance(found, list) else [found]
    sums = [sum(one["probabilities"].values()) for one in each]
    if len(each) != images or any(abs(total - 1) > 1e-4 for total in sums):
        raise SystemExit(f"an answer that is none, of {len(each)} images for {images}: {answer[:200]!r}")


def measure(kind: str, run: str, ours: bool, asked: argparse.Namespace) -> dict[str, Any]:
    """One load on one server, freshly started."""
    port, here = free_port(), Path(__file__).parent
    command = (
        [sys.executable, "-m", "kilonet", "serve", run, "--port", str(port)] if ours
        else [sys.executable, str(here / "serving_plain.py"), run, str(port)]
    )  # fmt: skip
    bodies, images = requests(kind, ours)
    with served(command, port) as pid:
        load(port, bodies, asked.connections, min(2.0, asked.seconds))
        before, used = memory(pid, "VmRSS"), cpu(pid)
        found = load(port, bodies, asked.connections, asked.seconds, asked.rate if ours else None)
        used = cpu(pid) - used
        check(found.example, images)
        after, peak = memory(pid, "VmRSS"), memory(pid, "VmHWM")
    n = len(found.latencies)
    return {
        "load": kind, "server": "kilonet serve" if ours else "plain", "seconds": round(found.seconds, 2),
        "requests": n, "requests_s": round(n / found.seconds, 1), "images_s": round(n * images / found.seconds, 1),
        "p50_ms": round(1000 * found.percentile(0.5), 2), "p99_ms": round(1000 * found.percentile(0.99), 2),
        "errors": found.errors, "cpu_us": round(1e6 * used / max(1, n)),
        "before_mb": round(before, 1), "after_mb": round(after, 1), "peak_mb": round(peak, 1),
    }  # fmt: skip


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """What the figures were measured under."""
    return {
        "processor": processor(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
        "run": Path(asked.run).name, "connections": asked.connections, "rate": asked.rate,
        "started": time.strftime("%Y-%m-%d %H:%M"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--only", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--alone", action="store_true", help="without the plain server")
    parser.add_argument("--to", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(json.dumps(conditions(asked)))
    for kind in asked.only:
        for _ in range(asked.repeats):
            for ours in (True,) if asked.alone else (True, False):
                rows.append(measure(kind, asked.run, ours, asked))
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
                if asked.to:
                    asked.to.write_text(json.dumps({"conditions": conditions(asked), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
