"""Many seeds of the tutorial's CNN against runs of the tutorial's own script, and what the second core is worth.

    KILONET_DATA=... python bench/seeds.py race [--seeds 100] [--scripts 12]
    KILONET_DATA=... python bench/seeds.py cores [--model MODEL] [--seeds 3]

`race` times one `kilonet train mnist --preset tutorial-cnn --seeds N`, start and pictures included, between two halves
of the runs of bench/tutorial_script.py, each a process of its own, and says how 100 runs stand against 12 scripts.
`cores` times some seeds one after another, and twice as many two at once: at full efficiency both take as long. Full
MNIST has to lie in $KILONET_DATA/mnist as gzipped IDX files. All seconds are those of whole commands; nothing else
should run beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from kilonet import world
from kilonet.bench import processor
from kilonet.engines import native
from kilonet.rundir import Run

TUTORIAL = ("--preset", "tutorial-cnn")


def timed(*command: str) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def trained(project: Path, what: tuple[str, ...], seeds: int, workers: int) -> float:
    """Seconds of one command that trains so many seeds; all of them have to come to their end."""
    shutil.rmtree(project / "seeds", ignore_errors=True)
    several = ("--seeds", str(seeds), "--threads", str(workers), "--name", "seeds", "--project", str(project))
    seconds = timed("-m", "kilonet", "train", "mnist", *what, *several)
    summary = Run(project / "seeds").summary()
    if len(summary["runs"]) != seeds:
        raise SystemExit(f"of {seeds} seeds {len(summary['runs'])} came to their end")
    return seconds


def race(project: Path, seeds: int, scripts: int) -> None:
    script = str(Path(__file__).with_name("tutorial_script.py"))
    folder = str(Path(os.environ["KILONET_DATA"]) / "mnist")
    first, workers = -(-scripts // 2), world.cores()
    of_scripts = [timed(script, folder, str(seed)) for seed in range(first)]
    ours = trained(project, TUTORIAL, seeds, workers)
    of_scripts += [timed(script, folder, str(seed)) for seed in range(first, scripts)]
    theirs = sum(of_scripts)
    told = " ".join(f"{seconds:.1f}" for seconds in of_scripts)
    print(f"{scripts} of the tutorial's script: {theirs:.1f} s, {theirs / scripts:.2f} s each ({told})")
    print(f"{seeds} seeds in one command, {workers} at once: {ours:.1f} s, {ours / seeds:.2f} s each")
    ours, theirs = ours / seeds, theirs / scripts
    print(f"100 seeds take {100 * ours / (12 * theirs):.2f} times as long as 12 scripts; a seed is {theirs / ours:.1f}"
          " times as fast as a script")  # fmt: skip


def cores(project: Path, what: tuple[str, ...], seeds: int) -> None:
    one = trained(project, what, seeds, 1)
    two = trained(project, what, 2 * seeds, 2)
    print(f"{' '.join(what)}: {seeds} seeds one after another {one:.1f} s, {2 * seeds} two at once {two:.1f} s")
    print(f"two at once, seeds a second against twice those of one after another: {100 * one / two:.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("race", "cores"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--scripts", type=int, default=12)
    parser.add_argument("--model")
    given = parser.parse_args()
    threads = f"{world.cores()} cores, {torch.get_num_threads()} threads in PyTorch"
    print(f"{processor()}, {threads}, {native.library().variant} kernels")
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, load before {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "race":
            race(Path(folder), given.seeds or 100, given.scripts)
        else:
            cores(Path(folder), ("--model", given.model) if given.model else TUTORIAL, given.seeds or 3)


if __name__ == "__main__":
    main()
