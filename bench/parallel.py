"""Time a training step over one and two ranks on this machine, and say by a model what more would bring.

python bench/parallel.py [--seconds 1] [--repeats 5] [--to parallel.json]

One thread a rank; one rank and two take turns, medians are printed. The model takes its compute times and the
loopback's latency and bandwidth from these measurements; what it assumes of other networks stands in NETWORKS.
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
from pathlib import Path
from typing import Any

import numpy as np
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


def step_time(name: str, batch: int, seconds: float, engine: str) -> tuple[float, float]:
    """Milliseconds a step, and of these in messages, waiting for the other rank included."""
    data, images = resident(5000)
    model = build(name, data)
    computes = engines.choose(engine, model)
    training = kn.recipe(name, batch_size=batch, epochs=1, **OFF)
    update = optimizer(model, training)

    def take(steps: int) -> tuple[float, float]:
        rows = torch.arange(batch * steps) % 5000
        with Messages() as messages:
            start = time.perf_counter()
            for _ in computes.steps(model, update, images, rows, training, [1e-4] * steps, None):
                pass
            return time.perf_counter() - start, messages.spent

    take(2)
    steps = ranks.tell(max(3, int(seconds / (take(3)[0] / 3))))
    spent, sent = take(steps)
    return 1e3 * spent / steps, 1e3 * sent / steps


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


def work(tasks: list[list[Any]], to: Path) -> None:
    """What a rank does of some tasks; rank 0 writes what came of them."""
    torch.set_num_threads(1)
    with ranks.joined() as number:
        found = [[message_time(size) for size in BYTES] if task == ["messages"] else step_time(*task) for task in tasks]
        if number == 0:
            to.write_text(json.dumps(found))


def on_ranks(n: int, tasks: list[list[Any]]) -> list[list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "found.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)] if n > 1 else []
        words = [sys.executable, *launcher, __file__, "--tasks", json.dumps(tasks), "--to", str(to)]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found: list[list[float]] = json.loads(to.read_text())
        return found


def measure(seconds: float, repeats: int) -> dict[str, Any]:
    cases = [(name, batch) for name in MODELS for batch in BATCHES]
    torch_tasks = [[*case, seconds, "torch"] for case in cases]
    native_tasks = [[*case, seconds, "native"] for case in cases]
    rounds = []
    for _ in range(repeats):
        alone = on_ranks(1, [*torch_tasks, *native_tasks])
        rounds.append((alone[: len(cases)], on_ranks(2, torch_tasks), alone[len(cases) :]))
    found: dict[str, Any] = {"steps": {}}
    for i, (name, batch) in enumerate(cases):
        one, two, native = ([statistics.median(side[i][j] for side in sides) for j in (0, 1)]
                            for sides in zip(*rounds, strict=True))  # fmt: skip
        found["steps"][f"{name} {batch}"] = {"one rank": one, "two ranks": two, "native": native}
        print(f"{name:13} batch {batch:4}: one rank {one[0]:7.2f} ms a step, two {two[0]:7.2f} "
              f"({one[0] / two[0]:.2f} times, {100 * two[1] / two[0]:.0f} % of it in messages), "
              f"native in one thread {native[0]:7.2f}", flush=True)  # fmt: skip
    small = [[name, images, seconds / 2, "torch"] for name in MODELS for images in SMALL]
    times = [step for step, _ in on_ranks(1, small)]
    found["compute"] = {name: dict(zip(SMALL, times[i * len(SMALL) :], strict=False)) for i, name in enumerate(MODELS)}
    (found["messages"],) = on_ranks(2, [["messages"]])
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


def norms(model: Classifier) -> list[int]:
    """The channels of its batch norms."""
    return [m.num_features for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def messages(model: Classifier) -> str:
    size = 4 * model.parameter_count()
    return f"{1 + 2 * len(norms(model))} messages a step, {size:,} bytes of gradients"


def exchange(model: Classifier, n: int, network: tuple[float, float, str]) -> float:
    """Seconds of a step's messages: two a batch norm, and the gradients."""
    of_norms = sum(gather_time(n, 8 * (2 * c + 1), network) + sum_time(n, 16 * c, network) for c in norms(model))
    return of_norms + sum_time(n, 4.0 * model.parameter_count(), network)


def compute(times: dict[int, float]) -> tuple[float, float]:
    """Seconds that a step takes whatever its batch, and more an image: the line with the least relative squares."""
    images, took = np.array([int(n) for n in times]), np.array([*times.values()]) / 1e3
    rows = np.stack([1 / took, images / took], 1)
    base, more = np.linalg.lstsq(rows, np.ones(len(took)), rcond=None)[0]
    return max(float(base), 0.0), float(more)


def model_of(found: dict[str, Any]) -> dict[str, Any]:
    data, _ = resident(100)
    measured = (*line(found["messages"]), "ring")
    print(f"\nloopback: {1e6 * measured[0]:.0f} us a hop, {measured[1] / 1e9:.2f} GB/s (measured)")
    told: dict[str, Any] = {}
    for name in MODELS:
        model, (base, more) = build(name, data), compute(found["compute"][name])
        print(f"{name}: {1e3 * base:.2f} ms a step and {1e6 * more:.0f} us an image; {messages(model)}")
        for network, assumed in NETWORKS.items():
            about = assumed or measured
            for kind, images in (("strong, 512 images in all", 512.0), ("weak, 64 images a rank", 0.0)):
                row = {}
                for n in RANKS:
                    step = base + more * max(images / n if images else 64, 1) + exchange(model, n, about)
                    alone = (base + more * (images or 64)) / (images or 64)
                    row[n] = (images or 64 * n) / step * alone
                told[f"{name}, {network}, {kind}"] = row
                print(f"{name:13} {network:11} {kind:26} speed-up " +
                      "  ".join(f"{n}: {gain:.3g}" for n, gain in row.items()))  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tasks", type=json.loads)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    if given.tasks is not None:
        work(given.tasks, given.to)
        return
    print(f"PyTorch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one thread a rank")
    found = measure(given.seconds, given.repeats)
    found["model"] = model_of(found)
    if given.to:
        given.to.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
