"""Same seed, same machine, same threads: the same bits, for every model and preset, also in another process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
import torch

import kilonet as kn
from kilonet import config
from kilonet.config import PRESETS, RECIPES


def digest(chosen: dict[str, Any], seed: int, threads: int, engine: str = "auto") -> str:
    """A checksum of the weights and records of two epochs on mnist-5k's first split."""
    made = config.resolve(chosen, {"epochs": 2, "seed": seed, "threads": threads, "engine": engine})
    splits = kn.load("mnist-5k").split(made.split, 0)
    model = kn.build(made.model, splits.train, seed)
    history = kn.fit(model, splits, made.training)
    found = hashlib.sha256(repr([(r.train_loss, r.val_loss, r.val_accuracy) for r in history.epochs]).encode())
    for tensor in model.net.state_dict().values():
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


CHOICES: list[dict[str, Any]] = [*({"model": name} for name in RECIPES), *({"preset": name} for name in PRESETS)]


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("chosen", CHOICES, ids=lambda chosen: next(iter(chosen.values())))
def test_equal_seeds_give_equal_bits(chosen: dict[str, Any], engine: str) -> None:
    threads = torch.get_num_threads()
    first = digest(chosen, 3, threads, engine)
    torch.rand(5)
    assert digest(chosen, 3, threads, engine) == first
    assert digest(chosen, 4, threads, engine) != first
    if engine == "native":
        assert digest(chosen, 3, 1, engine) == first


def test_another_process_gives_the_same_bits() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_determinism as t\n"
        "print([t.digest(chosen, 3, 2) for chosen in t.CHOICES])"
    )
    folder = __file__.rpartition("/")[0]
    told = [
        subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert told[0] == told[1]
    assert told[0].count("'") == 2 * len(CHOICES)
