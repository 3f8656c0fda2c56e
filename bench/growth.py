"""How cost grows, the tables and the picture of docs/engines.md: time and memory of training, native against torch.

    python bench/growth.py [PART ...] [--repeats 3] [--seconds 1] [--to FILE] [--from FILE] [--picture FILE]

    images       5,000 to 600,000 of them: an epoch, and memory, each time in a process of its own
    batch        16 to 4,096 images a step
    parameters   about 1,000 to 1,000,000, in convolutional and in linear nets of one form each
    threads      one, two, four ... all that the machine has

Both engines train in turn, `--repeats` times; of each cell the median counts. A cell is a fixed number of steps after a
warm-up, as many as take about `--seconds`, given as microseconds an image; only the native engine's epochs over all
the images are whole. The images are mnist-5k's and, behind these, the same deformed anew, raw uint8. Freed memory
is kept for the next step (see `keep_memory`): torch is shown at its better.

`--to` writes the results after each part. `--from` begins with results that were written so: without a part nothing is
measured, and tables and picture come from the file; with parts, these are measured anew.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import kilonet as kn
from growth_picture import draw  # type: ignore[import-not-found]  # a script beside this one
from kilonet import bench, config, engines, optimizers, plots, world
from kilonet.augment import OFF, SIDE, warp, warps
from kilonet.batches import Resident
from kilonet.engines import native
from kilonet.models import Classifier, adopt

Row = dict[str, Any]

ENGINES = ("native", "torch")
IMAGES = (5_000, 20_000, 60_000, 200_000, 600_000)
BATCHES = (16, 64, 256, 1024, 4096)
PARAMETERS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
RESIDENT = 60_000
"""Images that are trained on where their number is not what varies: MNIST's."""
RATE = 1e-4
"""Small enough for every net: what is timed does not depend on it."""


def enlarge(images: np.ndarray[Any, np.dtype[np.uint8]]) -> kn.ImageSet:
    """Fill an array, uint8, (N, 1, 28, 28), a few thousand images at a time, and label it."""
    few = kn.load("mnist-5k")
    bounds = config.Training(shift=2.0, rotate=10.0, zoom=0.1, shear=5.0)
    for again, start in enumerate(range(0, len(images), len(few))):
        part = torch.from_numpy(few.images[: len(images) - start].copy())
        by = warps(bounds, len(part), SIDE, again)
        images[start : start + len(part)] = (warp(part, by).round() if again and by is not None else part).numpy()
    return replace(few, images=images, labels=np.resize(few.labels, len(images)))


def convolutional(width: int) -> nn.Module:
    """Three 3x3 convolutions, the first two with a pool behind, the mean of each map, a linear layer."""
    w = width
    return nn.Sequential(
        nn.Conv2d(1, w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * w, 10),
    )  # fmt: skip


def linear(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


FAMILIES: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], int]]] = {
    "convolutional": (convolutional, lambda w: 90 * w * w + 56 * w + 10),
    "linear": (linear, lambda w: 795 * w + 10),
}
"""Nets of one form: by their width, and how many parameters that makes."""


def width_for(parameters: int, count: Callable[[int], int]) -> int:
    """The width that comes nearest to so many parameters, by their ratio."""
    return min(range(1, parameters // 700 + 3), key=lambda width: abs(math.log(count(width) / parameters)))


def train(
    engine: str, model: Classifier, update: Any, data: Resident, rows: Tensor, training: config.Training
) -> float:
    """Train on some rows, once; microseconds an image."""
    rates = [RATE] * math.ceil(len(rows) / training.batch_size)
    steps = engines.choose(engine, model).steps
    start = time.perf_counter()
    losses = [loss for some in steps(model, update, data, rows, training, rates, None) for loss in some]
    taken = time.perf_counter() - start
    if len(losses) != len(rates) or not np.isfinite(losses).all():
        raise SystemExit(f"{model.name} diverged: its time would say nothing")
    return 1e6 * taken / len(rows)


class Way:
    """One engine at one work; called, it gives microseconds an image over the same number of steps each time."""

    def __init__(
        self, engine: str, model: Classifier, data: Resident, training: config.Training, seconds: float
    ) -> None:
        self.update = optimizers.optimizer(model, training)
        self.given = engine, model, data, training
        self.take(2)
        steps, taken = 1, 0.0
        while taken < seconds / 10:
            steps *= 2
            taken = self.take(steps) * steps * training.batch_size / 1e6
        self.steps = max(2, int(steps * seconds / taken))

    def __call__(self) -> float:
        self.take(1)
        return self.take(self.steps)

    def take(self, steps: int) -> float:
        engine, model, data, training = self.given
        with world.one_thread():
            rows = torch.randint(len(data), (steps * training.batch_size,))
        return train(engine, model, self.update, data, rows, training)


def compare(
    make: Callable[[], Classifier], data: Resident, training: config.Training, options: argparse.Namespace
) -> Row:
    """Both engines in turn, each with a model of its own."""
    ways = {engine: Way(engine, make(), data, training, options.seconds) for engine in ENGINES}
    found: Row = {engine: [] for engine in ENGINES}
    for _ in range(options.repeats):
        for engine, way in ways.items():
            found[engine].append(way())
    return found


def keep_memory() -> None:
    """Let glibc keep what is freed, up to 64 MB, as it does by itself once a piece of 16 to 32 MB has been freed.

    Else it may give each step's maps back to the system and fetch them anew: some 900 page faults a step of 64 images
    of `tutorial-cnn`, with which the torch engine takes twice as long. Whether it does depends on what a process freed
    before.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 64 << 20)
        libc.mallopt(mmap_threshold, 32 << 20)


def used(peak: bool = False) -> int:
    """Bytes of memory that this process has, or had at most."""
    found = world.memory(peak)
    if found is None:
        raise SystemExit("memory can't be measured here: expected Linux's /proc")
    return found


def alone(engine: str, folder: Path, n: int, seconds: float) -> tuple[float, int]:
    """Train on so many images, mapped from a file as a cached source's are; microseconds an image, and bytes.

    The bytes are the peak of the process less what it had before it opened the data.
    """
    keep_memory()
    before = used()
    images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r")[:n] for name in ("images", "labels"))
    data = kn.ImageSet(images, np.array(labels), tuple("0123456789"))
    training = config.recipe("tutorial-cnn")
    model = kn.build("tutorial-cnn", data)
    update = optimizers.optimizer(model, training)
    resident = Resident.of(data, torch.device("cpu"))
    with world.one_thread():
        rows = torch.randperm(n)
    some = rows[: 20 * training.batch_size]
    train(engine, model, update, resident, some, training)
    if engine == "torch":
        pace = train(engine, model, update, resident, some, training)
        rows = rows[: max(len(some), int(1e6 * seconds / pace))]
    return train(engine, model, update, resident, rows, training), used(peak=True) - before


def images_part(options: argparse.Namespace) -> Iterator[Row]:
    largest = max(n for n in IMAGES if n <= options.most)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = (largest, 1, 28, 28)
        array = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        np.save(folder / "labels.npy", enlarge(array).labels)
        array.flush()
        for n in (n for n in IMAGES if n <= largest):
            found: Row = {"model": "tutorial-cnn", "at": n, "bytes": n * 784}
            for engine in ENGINES * options.repeats:
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    pace, peak = process.submit(alone, engine, folder, n, options.seconds).result()
                found.setdefault(engine, []).append(pace)
                found.setdefault(f"{engine} bytes", []).append(peak)
            yield found


def resident(options: argparse.Namespace) -> tuple[kn.ImageSet, Resident]:
    data = enlarge(np.empty((min(RESIDENT, options.most), 1, 28, 28), np.uint8))
    return data, Resident.of(data, torch.device("cpu"))


def batch_part(options: argparse.Namespace) -> Iterator[Row]:
    data, there = resident(options)
    for model in ("tutorial-cnn", "kilo-4k"):
        for size in BATCHES:
            training = config.recipe(model, batch_size=size, **OFF)
            yield {"model": model, "at": size, **compare(partial(kn.build, model, data), there, training, options)}


def parameters_part(options: argparse.Namespace) -> Iterator[Row]:
    data, there = resident(options)
    for family, (make, count) in FAMILIES.items():
        for wanted in (n for n in PARAMETERS if n <= options.most):
            width = width_for(wanted, count)
            model = adopt(make(width), data)
            row = {"model": family, "at": model.parameter_count(), "width": width}
            row["auto"] = engines.choose("auto", model).name
            yield {**row, **compare(partial(deepcopy, model), there, config.Training(batch_size=64), options)}


def threads_part(options: argparse.Namespace) -> Iterator[Row]:
    data, there = resident(options)
    every = torch.get_num_threads()
    counts = sorted({*(2**i for i in range(every.bit_length()) if 2**i <= every), every})
    for model in ("tutorial-cnn", "kilo-16k"):
        for threads in counts:
            world.set_threads(threads)
            found = compare(partial(kn.build, model, data), there, config.recipe(model, **OFF), options)
            yield {"model": model, "at": threads, **found}
    world.set_threads(every)


PARTS = {"images": images_part, "batch": batch_part, "parameters": parameters_part, "threads": threads_part}


def conditions(options: argparse.Namespace) -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"{bench.processor()}, {cores} cores, {torch.get_num_threads()} threads, {native.library().variant} kernels, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}; median of {options.repeats}, "
        f"alternating, {options.seconds:g} s each"
    )


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def cells(part: str, row: Row) -> dict[str, str]:
    """A row of a part's table, by column."""
    ours, torchs = (statistics.median(row[engine]) for engine in ENGINES)
    at = f"{row['at']:,}"
    start = {
        "images": {"images": at, "native, an epoch, s": figure(ours * row["at"] / 1e6)},
        "batch": {"model": row["model"], "batch": at},
        "parameters": {"nets": row["model"], "width": f"{row.get('width')}", "parameters": at},
        "threads": {"model": row["model"], "threads": at},
    }[part]
    found = {
        **start,
        "native, µs an image": figure(ours),
        "torch, µs an image": figure(torchs),
        "torch / native": figure(torchs / ours),
    }
    if part == "parameters":
        faster = "native" if ours <= torchs else "torch"
        found["`auto` takes"] = row["auto"] + ("" if row["auto"] == faster else ", the slower")
    if part == "images":
        found["the images, MB"] = figure(row["bytes"] / 1e6)
        found |= {f"{e}, peak MB": figure(statistics.median(row[f"{e} bytes"]) / 1e6) for e in ENGINES}
    return found


def crossings(rows: list[Row]) -> list[float]:
    """Where one engine overtakes the other, between two sizes by a straight line through the logarithms."""
    points = [(math.log(row["at"]), math.log(statistics.median(row["torch"]) / statistics.median(row["native"])))
              for row in rows]  # fmt: skip
    return [
        math.exp(x + (following - x) * ratio / (ratio - after))
        for (x, ratio), (following, after) in pairwise(points)
        if (ratio > 0) != (after > 0)
    ]


def table(part: str, rows: list[Row]) -> str:
    """Markdown, with what follows from it underneath."""
    lines = [cells(part, row) for row in rows]
    heads = list(lines[0])
    aligned = [":--" if head in {"model", "nets", "`auto` takes"} else "--:" for head in heads]
    text = [f"| {' | '.join(line)} |" for line in (heads, aligned, *(line.values() for line in lines))]
    spread = max(max(row[engine]) / min(row[engine]) - 1 for row in rows for engine in ENGINES)
    text += ["", f"The slowest of a cell's measurements took at most {100 * spread:.0f} % longer than the fastest."]
    for family in FAMILIES if part == "parameters" else ():
        of_family = [row for row in rows if row["model"] == family]
        smallest = of_family[0]
        faster = min(ENGINES, key=lambda engine: statistics.median(smallest[engine]))
        where = " and ".join(f"{float(f'{x:.1g}'):,.0f}" for x in crossings(of_family))
        crossing = f"at {smallest['at']:,} parameters; the engines cross at about {where}" if where else "at every size"
        text.append(f"Of the {family} nets, {faster} is the faster {crossing}.")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of training that a measurement takes, about")
    parser.add_argument("--most", type=int, default=1_000_000, help="images and parameters, for a short trial")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--from", type=Path, dest="begin")
    picture = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
    parser.add_argument("--picture", type=Path, default=picture)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}: expected {', '.join(PARTS)}")
    keep_memory()
    results: dict[str, Any] = json.loads(options.begin.read_text()) if options.begin else {}
    for part in options.parts or ([] if options.begin else PARTS):
        start = time.perf_counter()
        rows = list(PARTS[part](options))
        results[part] = {"conditions": conditions(options), "rows": rows}
        print(f"{part}: {len(rows)} rows in {time.perf_counter() - start:.0f} s", flush=True)
        if options.to:
            options.to.write_text(json.dumps(results, indent=1))
    for part in (part for part in PARTS if part in results):
        print(f"\n### {part.capitalize()}\n\n{results[part]['conditions']}.\n\n{table(part, results[part]['rows'])}")
    plots.save(draw({part: found["rows"] for part, found in results.items()}), options.picture)
    print(f"\n{options.picture}")


if __name__ == "__main__":
    main()
