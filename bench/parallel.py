"""Time a training step over one and two ranks on this machine, and say by a model what more would bring.

python bench/parallel.py [--steps 100] [--repeats 5] [--to parallel.json]

One thread a rank; the runs alternate, medians are printed. The model takes its compute times and the loopback's latency
and bandwidth from these measurements; what it assumes of other networks is printed with it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import kilonet as kn
from kilonet import engines, ranks
from kilonet.augment import OFF
from kilonet.batches import Resident
from kilonet.models import Classifier, build
from kilonet.optimizers import optimizer

MODELS = ("tutorial-cnn", "kilo-16k", "kilo-100k")
BATCHES = (64, 512)
SMALL = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BYTES = (8, 1_000, 10_000, 100_000, 1_000_000)
NETWORKS = {"loopback": None, "10 GbE": (50e-6, 1.1e9, "ring"), "NCCL-class": (8e-6, 20e9, "tree")}
"""Seconds a message takes to the next rank, bytes a second, and how sums are formed; None: as measured."""
RANKS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)


def resident(images: int) -> tuple[kn.ImageSet, Resident]:
    data = kn.load("mnist-5k")
    rows = torch.arange(images).numpy() % len(data)
    few = data.take(rows)
    return few, Resident.of(few, torch.device("cpu"))


def step_time(name: str, batch: int, steps: int, engine: str) -> tuple[float, float]:
    """Milliseconds a step, and of these in messages, waiting for the other rank included."""
    data, images = resident(5000)
    model = build(name, data)
    computes = engines.choose(engine, model)
    training = kn.recipe(name, batch_size=batch, epochs=1, **OFF)
    rates, rows = [1e-4] * steps, torch.arange(batch * steps) % 5000
    update = optimizer(model, training)
    for _ in computes.steps(model, update, images, rows[: 5 * batch], training, rates[:5], None):
        pass
    with Messages() as messages:
        start = time.perf_counter()
        for _ in computes.steps(model, update, images, rows, training, rates, None):
            pass
        spent = time.perf_counter() - start
    return 1e3 * spent / steps, 1e3 * messages.spent / steps


class Messages:
    """The time that is spent in messages while it is open."""

    def __enter__(self) -> Messages:
        self.spent, self.before = 0.0, {"total": ranks.total, "collected": ranks.collected}
        for name, send in self.before.items():
            setattr(ranks, name, self.timed(send))
        return self

    def __exit__(self, *_: object) -> None:
        for name, send in self.before.items():
            setattr(ranks, name, send)

    def timed(self, send: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def sent(tensor: torch.Tensor) -> torch.Tensor:
            start = time.perf_counter()
            found = send(tensor)
            self.spent += time.perf_counter() - start
            return found

        return sent


def message_time(size: int) -> float:
    """Seconds that a sum over the ranks takes, the median of many."""
    tensor, took = torch.zeros(max(size // 4, 1)), []
    for _ in range(200):
        start = time.perf_counter()
        ranks.total(tensor)
        took.append(time.perf_counter() - start)
    return statistics.median(took[20:])


def work(task: list[Any], to: Path) -> None:
    """What a rank does of a task; rank 0 writes what came of it."""
    torch.set_num_threads(1)
    with ranks.joined() as number:
        kind, *rest = task
        found: Any = [message_time(size) for size in BYTES] if kind == "messages" else step_time(*rest)
        if number == 0:
            to.write_text(json.dumps(found))


def on_ranks(n: int, task: list[Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "found.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)] if n > 1 else []
        words = [sys.executable, *launcher, __file__, "--task", json.dumps(task), "--to", str(to)]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return json.loads(to.read_text())


def measure(steps: int, repeats: int) -> dict[str, Any]:
    found: dict[str, Any] = {"steps": {}, "compute": {}}
    for name in MODELS:
        for batch in BATCHES:
            count = max(10, steps * 64 // batch)
            sides = {"one rank": (1, "torch"), "two ranks": (2, "torch"), "native, one thread": (1, "native")}
            took: dict[str, list[list[float]]] = {side: [] for side in sides}
            for _ in range(repeats):
                for side, (n, engine) in sides.items():
                    took[side].append(on_ranks(n, ["step", name, batch, count, engine]))
            medians = {side: [statistics.median(column) for column in zip(*times, strict=True)]
                       for side, times in took.items()}  # fmt: skip
            found["steps"][f"{name} {batch}"] = medians
            one, two = medians["one rank"][0], medians["two ranks"]
            print(f"{name:13} batch {batch:4}: one rank {one:7.2f} ms a step, two {two[0]:7.2f} "
                  f"({one / two[0]:.2f} times, {100 * two[1] / two[0]:.0f} % of it in messages), "
                  f"native in one thread {medians['native, one thread'][0]:7.2f}", flush=True)  # fmt: skip
        times = {}
        for images in SMALL:
            count = max(10, min(steps, steps * 64 // images))
            times[images] = min(on_ranks(1, ["step", name, images, count, "torch"])[0] for _ in range(2))
        found["compute"][name] = times
    found["messages"] = on_ranks(2, ["messages"])
    return found


def line(measured: list[float]) -> tuple[float, float]:
    """Latency and bandwidth of one hop between two ranks: a sum over two takes 2 hops, each with half of its bytes."""
    latency = measured[0] / 2
    return latency, BYTES[-1] / max(measured[-1] - measured[0], 1e-9)


def sum_time(n: int, size: float, network: tuple[float, float, str]) -> float:
    """Seconds of an all-reduce: a ring passes every share of it on 2 (n - 1) times, a tree goes up and down."""
    latency, bandwidth, form = network
    hops = 2 * (n - 1) if form == "ring" else 2 * math.ceil(math.log2(n))
    return hops * latency + 2 * size * (n - 1) / n / bandwidth if n > 1 else 0.0


def gather_time(n: int, size: float, network: tuple[float, float, str]) -> float:
    latency, bandwidth, form = network
    hops = n - 1 if form == "ring" else math.ceil(math.log2(n))
    return hops * latency + size * (n - 1) / bandwidth if n > 1 else 0.0


def exchange(model: Classifier, n: int, network: tuple[float, float, str]) -> float:
    """Seconds of a step's messages: two a batch norm, and the gradients."""
    norms = [m.num_features for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    of_norms = sum(gather_time(n, 8 * (2 * c + 1), network) + sum_time(n, 16 * c, network) for c in norms)
    return of_norms + sum_time(n, 4.0 * model.parameter_count(), network)


def compute(times: dict[int, float], images: float) -> float:
    """Seconds of a step over so many images, between those measured; below one image it is that of one."""
    known = sorted((int(size), spent / 1e3) for size, spent in times.items())
    if images <= known[0][0]:
        return known[0][1]
    for (a, of_a), (b, of_b) in pairwise(known):
        if images <= b:
            return of_a + (of_b - of_a) * (images - a) / (b - a)
    return known[-1][1] * images / known[-1][0]


def model_of(found: dict[str, Any]) -> dict[str, Any]:
    data, _ = resident(100)
    measured = (*line(found["messages"]), "ring")
    print(f"\nloopback: {1e6 * measured[0]:.0f} us a hop, {measured[1] / 1e9:.2f} GB/s (measured)")
    told: dict[str, Any] = {}
    for name in MODELS:
        model, times = build(name, data), found["compute"][name]
        for network, assumed in NETWORKS.items():
            about = assumed or measured
            for kind, images in (("strong, 512 images in all", 512.0), ("weak, 64 images a rank", 0.0)):
                row = {}
                for n in RANKS:
                    step = compute(times, images / n if images else 64) + exchange(model, n, about)
                    row[n] = (images or 64 * n) / step / ((images or 64) / compute(times, images or 64))
                told[f"{name}, {network}, {kind}"] = row
                print(f"{name:13} {network:11} {kind:26} speed-up " +
                      "  ".join(f"{n}: {gain:.3g}" for n, gain in row.items()))  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--task", type=json.loads)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    if given.task is not None:
        work(given.task, given.to)
        return
    print(f"PyTorch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one thread a rank")
    found = measure(given.steps, given.repeats)
    found["model"] = model_of(found)
    if given.to:
        given.to.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
