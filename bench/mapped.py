"""Data larger than memory, the figures of docs/large.md: rate, memory and what mixing in blocks costs.

    python bench/deformed.py --images 6000000 --to FOLDER
    python bench/mapped.py FOLDER [PART ...] [--models MODEL ...] [--images 1000000] [--repeats 3] [--seeds 5]

    rate       an epoch over the first `--images` of the folder, as they lie in their file and copied into memory, in
               turn `--repeats` times, each time the second of two: medians, and the ratio of each round; the clock's
               seconds need a machine with nothing else to do, the processor's only `--threads 1`
    memory     `kilonet train FOLDER --epochs 1`, and `kilonet evaluate` of that run on all of the folder, each in a
               process of its own, looked at twenty times a second: the most it had of its own memory (RssAnon), and of
               that with the pages of the file (VmHWM)
    accuracy   full MNIST, 50,000 / 10,000, last weights on the validation images, `--seeds` seeds each: in any order,
               in blocks, and in blocks with the images in class order; blocks and windows are as small as Kilonet makes
               them, far less than those of large files

Without a part, all of them. Accuracies train as many seeds side by side as there are cores, with one thread each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_ind

import kilonet as kn
from kilonet import world
from kilonet.batches import BlockOrder
from kilonet.doctor import machine
from kilonet.images import Splits
from kilonet.metrics import over_seeds

PARTS = ("rate", "memory", "accuracy")
ORDERS = ("seeded", "blocks", "blocks, in class order")
GOAL = 0.9
MOST = 1.5e9
"""Bytes of a process's own memory that training may take."""


def epoch_seconds(data: kn.ImageSet, model: str, threads: int) -> tuple[float, float]:
    """Seconds of a second epoch over all images, by the clock and of the processor; there is no validation."""
    training = replace(kn.recipe(model, epochs=2), threads=threads)
    net = kn.build(model, data.take(slice(0, 10_000)))
    epochs = kn.epochs(net, Splits(data, None, None, "all"), training)
    next(epochs)
    before = time.process_time()
    return next(epochs).seconds, time.process_time() - before


def rate(folder: Path, model: str, images: int, repeats: int, threads: int) -> None:
    """Print how fast training is on mapped images and on the same ones in memory."""
    mapped = kn.load(folder).take(slice(0, images))
    if not mapped.is_large:
        raise SystemExit(f"{len(mapped):,} images are copied into memory anyhow: give more")
    resident = replace(mapped, images=mapped.pixels)
    rounds = [[epoch_seconds(one, model, threads) for one in (mapped, resident)] for _ in range(repeats)]
    print(
        f"rate      {model}, {len(mapped):,} images, {mapped.images.nbytes / 1e9:.1f} GB, threads: {threads}; "
        f"goal {GOAL}"
    )
    for what, of in (("by the clock", 0), ("of the processor", 1)):
        here, there = (statistics.median(one[side][of] for one in rounds) / len(mapped) for side in (0, 1))
        ratios = [one[1][of] / one[0][of] for one in rounds]
        print(
            f"          {what}: {1e6 * here:.2f} us an image mapped, {1e6 * there:.2f} in memory: "
            f"{statistics.median(ratios):.3f} of the rate ({', '.join(f'{one:.3f}' for one in ratios)})",
            flush=True,
        )


def memory(folder: Path, model: str) -> None:
    """Print how much memory a training takes, and a measurement of it on all images, as the system tells it."""
    data = kn.load(folder)
    with tempfile.TemporaryDirectory() as project:
        training = ["train", str(folder), "--model", model, "--epochs", "1", "--project", project]
        for words in (training, ["evaluate", f"{project}/train", "--data", str(folder)]):
            most, seconds = most_of(words)
            print(
                f"memory    {words[0]}, {model}, {len(data):,} images, {data.images.nbytes / 1e9:.1f} GB: at most "
                f"{most['RssAnon'] / 1e6:,.0f} MB of its own (goal {MOST / 1e6:,.0f}), {most['VmHWM'] / 1e6:,.0f} MB "
                f"with pages of the file; all in all {seconds:.0f} s",
                flush=True,
            )


def most_of(words: list[str]) -> tuple[dict[str, int], float]:
    """The most memory, in bytes, that a command of Kilonet had, as `sample` names it; and the seconds that it took."""
    start, most = time.perf_counter(), {"RssAnon": 0, "VmHWM": 0}
    command = [sys.executable, "-m", "kilonet", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as it:
        while it.poll() is None:
            now = sample(it.pid)
            most = {name: max(known, now[name]) for name, known in most.items()}
            time.sleep(0.05)
    if it.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return most, time.perf_counter() - start


def sample(pid: int) -> dict[str, int]:
    """Bytes of memory that a process has: of its own, and the most so far with pages of files."""
    found = {"RssAnon": 0, "VmHWM": 0}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = 1024 * int(value.split()[0])
    except OSError:
        pass
    return found


def last_accuracy(model: str, order: str, seed: int) -> float:
    """Validation accuracy of the last weights on full MNIST."""
    torch.set_num_threads(1)
    splits = kn.load("mnist").split()
    if order == ORDERS[2]:
        splits = replace(splits, train=splits.train.take(np.argsort(splits.train.labels, kind="stable")))
    training: Any = {"seed": seed, "threads": 1, "batch_order": order.split(",")[0]}
    net = kn.build(model, splits.train, seed)
    *_, last = kn.epochs(net, splits, kn.recipe(model, epochs=15, **training))
    assert last.val_accuracy is not None
    return last.val_accuracy


def accuracy(model: str, seeds: int, beside: ProcessPoolExecutor) -> None:
    """Print what each order of the images comes to."""
    asked = [(order, seed) for order in ORDERS for seed in range(seeds)]
    found = list(beside.map(partial(last_accuracy, model), *zip(*asked, strict=True)))
    by_order = {order: found[i * seeds : (i + 1) * seeds] for i, order in enumerate(ORDERS)}
    for order, values in by_order.items():
        told = over_seeds(values)
        low, high = told["interval"] or (told["mean"], told["mean"])
        p = (
            f", Welch p = {ttest_ind(by_order['seeded'], values, equal_var=False).pvalue:.2f}"
            if order != "seeded"
            else ""
        )
        print(
            f"accuracy  {model}, {order}: {100 * told['mean']:.3f} % ± {100 * (told['std'] or 0):.3f}, "
            f"95 % interval {100 * low:.3f} to {100 * high:.3f}{p} (n = {seeds})",
            flush=True,
        )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--models", nargs="+", default=["kilo-4k", "tutorial-cnn"])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=world.cores(), help="of the rates")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()}: expected {', '.join(PARTS)}")
    about = machine.describe()
    torch_version = about["versions"]["torch"]
    print(f"{about['system']}; {about['threads']}; kernels {about['kernels']}; torch {torch_version}")
    parts = asked.parts or PARTS
    for model in asked.models:
        if "rate" in parts:
            rate(asked.folder, model, asked.images, asked.repeats, asked.threads)
        if "memory" in parts:
            memory(asked.folder, model)
    if "accuracy" in parts:
        order = BlockOrder.over(50_000, 0, 784, 64)
        print(f"accuracy  windows of {order.window:,} images, blocks of {order.block}")
        with ProcessPoolExecutor(world.cores(), get_context("spawn")) as beside:
            for model in asked.models:
                accuracy(model, asked.seeds, beside)


if __name__ == "__main__":
    main()
