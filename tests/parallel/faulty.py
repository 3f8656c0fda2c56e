"""The command line with a fault planted in one rank: `torchrun ... faulty.py FAULT train ...`."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kilonet import cli, files, images, measuring, ranks, stock, together

RANK = int(os.environ["RANK"])


def put(module: ModuleType, name: str, value: Any) -> None:
    setattr(module, name, value)


def another_version() -> None:
    put(together, "version", lambda _: "9.9")


def another_code() -> None:
    put(together, "_code", lambda: "0123456789abcdef")


def another_image() -> None:
    before = images.split

    def split(data: images.ImageSet, how: str = "standard", seed: int = 0) -> images.Splits:
        data.pixels[:, 0, 3, 3] = np.minimum(data.pixels[:, 0, 3, 3], 200)
        return before(data, how, seed)

    put(stock, "split", split)


def another_net() -> None:
    put(together, "file_checksum", lambda _: "0" * 64)


def another_batch_size() -> None:
    sys.argv += ["--batch-size", "32"]


def no_data() -> None:
    sys.argv[sys.argv.index("digits")] = "nowhere"


def full_disk() -> None:
    before = files.write

    def write(path: Path, content: bytes | str, *rest: Any) -> None:
        if path.name == "results.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        before(path, content, *rest)

    put(files, "write", write)


def killed_once() -> None:
    before = measuring.write_metrics

    def write(*given: Any, **more: Any) -> None:
        if not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        before(*given, **more)

    put(measuring, "write_metrics", write)


def slow_to_speak() -> None:
    before = ranks.speaks

    def speaks() -> bool:
        time.sleep(3)  # torchrun has asked all to stop by then
        return before()

    put(ranks, "speaks", speaks)


def left_behind() -> None:
    """Rank 0 measures for longer than the others wait for it."""
    ranks.LOADING = 4.0
    before = measuring.write_metrics

    def write(*given: Any, **more: Any) -> None:
        time.sleep(8)
        before(*given, **more)

    put(measuring, "write_metrics", write)


def soon() -> None:
    ranks.ANSWER = 12.0


FAULTS = {
    "other-version": (1, another_version),
    "other-code": (1, another_code),
    "other-data": (1, another_image),
    "other-net": (1, another_net),
    "other-settings": (1, another_batch_size),
    "no-data": (1, no_data),
    "full-disk": (0, full_disk),
    "killed-measuring": (0, killed_once),
    "slow-to-speak": (None, slow_to_speak),
    "left-behind": (None, left_behind),
    "impatient": (None, soon),
}


if __name__ == "__main__":
    rank, plant = FAULTS[sys.argv.pop(1)]
    if rank is None or rank == RANK:
        plant()
    cli.main()
