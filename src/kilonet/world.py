"""The machine that a run computes on: its device, its threads, its random generators."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kilonet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ConfigError: if the name is none, or there is no such device here.
    """
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} is not there: {reason[:160]}", "--device cpu always works") from None
    if found.type == "meta" or (found.type == "cpu" and found.index):
        raise ConfigError(f"device {name!r} is not there", "--device cpu always works")
    if found.type == "cuda":
        torch.backends.cudnn.deterministic = True
    return found


def set_threads(threads: int | None) -> int:
    """Use so many CPU threads, or leave PyTorch's own choice; returns the number in use.

    Raises:
        ConfigError: for a number that is not from 1 to 1024.
    """
    if threads is not None:
        if not 1 <= threads <= 1024:
            raise ConfigError(f"threads = {threads} won't do: expected from 1 to 1024")
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one CPU thread for a while.

    After a parallel loop, its other threads go on spinning for some milliseconds, on the cores that the native engine
    wants next.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory(peak: bool = False) -> int | None:
    """Bytes of memory that this process has, or had at most; None where the system does not tell as Linux does.

    `ru_maxrss` won't do: in a new process it is no less than what its parent had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM" if peak else "VmRSS"))


def generators(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of PyTorch's global generators, uint8, by name: the CPU's, and the device's if it has its own."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def set_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put PyTorch's global generators back into states that `generators` gave.

    Raises:
        KeyError, TypeError, RuntimeError: if they are no such states.
    """
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
