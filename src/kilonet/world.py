"""The machine that a run computes on: its device and its threads."""

from __future__ import annotations

import torch

from kilonet.errors import ConfigError


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
