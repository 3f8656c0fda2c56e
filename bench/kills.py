"""The proof that nothing is lost: kill runs at random moments, resume them, compare with one that ran through.

    python bench/kills.py [--kills 50] [--seed 0] [--save-every 0.2] [kilonet train's own arguments]

Every run is killed with SIGKILL at moments drawn over the whole time that the uninterrupted one took, its start and
its figures included, resumed each time, and compared at its end byte for byte: weights, optimizer moments, generators,
records, metrics (times aside), predictions and figures. A line a kill, then the sum; exit status 1 on a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from kilonet import checkpoint
from kilonet.rundir import Run

KILONET = [sys.executable, "-m", "kilonet"]


def results(run: Run) -> dict[str, Any]:
    """All that a finished run holds, times aside."""
    figures, tensors = checkpoint.read(run.path / "state" / "checkpoint.safetensors")
    found: dict[str, Any] = {p.name: p.read_bytes() for p in run.path.rglob("*") if p.suffix in (".png", ".npz")}
    found |= {p.name: p.read_bytes() for p in (run.path / "weights").iterdir()}
    found |= {f"state: {name}": tensor.numpy().tobytes() for name, tensor in tensors.items()}
    found["results.csv"] = [replace(record, seconds=0) for record in run.history().epochs]
    found["metrics.json"] = {**run.metrics(), "seconds": 0}
    found["position"] = {name: figures[name] for name in ("epoch", "step", "images", "loss_sum")}
    found["config.toml"] = (run.path / "config.toml").read_bytes()
    return found


def phase(run: Path) -> str:
    """What a killed run was doing, as its files tell it."""
    if not run.exists():
        return "before there was a run"
    if list(run.rglob(".*.part")):
        return "writing a file"
    if (run / "state" / "finished.json").exists():
        return "after the end"
    if (run / "predictions.npz").exists():
        return "drawing figures"
    if not (run / "state" / "checkpoint.safetensors").exists():
        return "before the first checkpoint"
    figures, _ = checkpoint.read(run / "state" / "checkpoint.safetensors")
    config = Run(run).config
    return "measuring" if figures["epoch"] == config.training.epochs else "training and validating"


def killed_after(command: list[str], seconds: float) -> bool:
    """Run a command, and kill it after so many seconds; false if it ended before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode()}")
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=0.2)
    options, training = parser.parse_known_args()
    training = training or ["mnist-5k", "--model", "kilo-4k", "--epochs", "4", "--threads", "1"]
    rng = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="kilonet-kills-"))
    train = [*KILONET, "train", *training, "--save-every", str(options.save_every), "--project", str(work / "runs")]

    start = time.perf_counter()
    subprocess.run([*train, "--name", "whole"], check=True, stdout=subprocess.DEVNULL)
    taken = time.perf_counter() - start
    expected = results(Run(work / "runs" / "whole"))
    print(f"uninterrupted: {taken:.1f} s; {' '.join(training)}, a checkpoint every {options.save_every:g} s")

    kills, runs, wrong = Counter[str](), 0, 0
    while kills.total() < options.kills:
        run, runs = work / "runs" / f"killed{runs}", runs + 1
        while kills.total() < options.kills:
            begun = run.exists()
            command = [*KILONET, "resume", str(run)] if begun else [*train, "--name", run.name]
            moment = rng.uniform(0, taken)
            if not killed_after(command, moment):
                break
            what = phase(run)
            kills[what] += 1
            print(
                f"kill {kills.total():3}  {run.name}, {'resumed' if begun else 'started'}, {moment:5.2f} s in: {what}"
            )
        subprocess.run([*KILONET, "resume", str(run)] if run.exists() else [*train, "--name", run.name],
                       check=True, capture_output=True)  # fmt: skip
        found = results(Run(run))
        different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        wrong += bool(different)
        print(f"{run.name}: {'the same to the byte' if not different else 'differs in ' + ', '.join(different)}")
    told = {"kills": kills.total(), "runs": runs, "runs that differ": wrong, "while": dict(kills)}
    print(json.dumps(told, indent=2))
    shutil.rmtree(work)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
