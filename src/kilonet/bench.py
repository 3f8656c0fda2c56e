"""Races timed on this machine: ratios, operations a second, memory, and the conditions they were measured under."""

from __future__ import annotations

import platform
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch

from kilonet import peers, sources, world
from kilonet.engines import native
from kilonet.images import split
from kilonet.races import RACES, REST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kilonet.images import Splits
    from kilonet.races import Race


def compare(
    source: str, repeats: int, count: int, tell: Callable[[str], None], with_peers: bool = False
) -> dict[str, Any]:
    """Time the tutorial's loop, PyTorch and the native engine at the same work, side by side.

    Args:
        source: 28x28 grey images of ten classes.
        repeats: timed rounds of each race.
        count: epochs of the tutorial's trainings.
        tell: told what goes on.
        with_peers: race the tutorial's trainings against JAX and `torch.compile`, too.

    Raises:
        ConfigError: if there are no native kernels here.
    """
    splits = split(sources.load(source), "tutorial")
    variant = native.library().variant
    threads = torch.get_num_threads()
    peaks = {n: native.peak(n) / 1e9 for n in sorted({1, threads, 2})}
    results = []
    for index, make in enumerate(_makers(with_peers)):
        race = make(splits, count)
        tell(f"{race.name}: {repeats} round{'s' * (repeats > 1)}, alternating with {race.against}")
        result = race.run(repeats)
        result["share_of_peak"] = result["gflops"] / peaks[race.threads]
        result["memory"] = [memory_alone(source, index, side, with_peers) for side in (0, 1)]
        results.append(result)
    return {
        "conditions": {
            "data": splits.train.origin,
            "train": len(splits.train),
            "val": 0 if splits.val is None else len(splits.val),
            "threads": threads,
            "machine": platform.machine(),
            "processor": processor(),
            "kernels": variant,
            "peak": ", ".join(f"{peak:.0f} GFLOP/s on {n}" for n, peak in peaks.items()) + " (a bare loop, float32)",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timed": f"median of {repeats} rounds, alternating, one before not counted",
            "rest": f"{1000 * REST:.0f} ms before each",
            "MB": _memory_in_words([memory for result in results for memory in result["memory"] if memory is not None]),
        },
        "results": results,
    }


def memory_alone(source: str, index: int, side: int, with_peers: bool = False) -> dict[str, float] | None:
    """Memory of a process of its own that does one side of a race, MB; None where the system does not tell.

    Returns:
        What it has at its `start`, with the interpreter and the libraries; with the `data` opened, which is mapped from
        a file and counts as it is read; and at its `peak`.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_memory, source, index, side, torch.get_num_threads(), with_peers).result()


def _memory(source: str, index: int, side: int, threads: int, with_peers: bool) -> dict[str, float] | None:
    world.set_threads(threads)
    make = _makers(with_peers)[index]
    start = world.memory()
    splits = split(sources.load(source), "tutorial")
    data = world.memory()
    make(splits, 1).ways[side]()()
    peak = world.memory(peak=True)
    if start is None or data is None or peak is None:
        return None
    return {"start": start / 1e6, "data": data / 1e6, "peak": peak / 1e6}


def _memory_in_words(found: Sequence[dict[str, float]]) -> str:
    if not found:
        return "this system does not tell"
    start = statistics.median(memory["start"] for memory in found)
    data = statistics.median(memory["data"] - memory["start"] for memory in found)
    return (
        f"peak of a new process that does one side, an epoch of it, less the {start:.0f} that it began with "
        f"(interpreter, libraries); the data, once opened, are {data:.0f} of what is left"
    )


def _makers(with_peers: bool) -> list[Callable[[Splits, int], Race]]:
    return [*RACES, *peers.races()] if with_peers else RACES


def processor() -> str:
    """Its name."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((text.split(":")[1].strip() for text in file if text.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
