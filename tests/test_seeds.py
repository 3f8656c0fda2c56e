"""Seeds side by side: the same bits as one after another, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kilonet as kn
from kilonet import config, rundir, seeds, world
from kilonet.rundir import Run

SEVERAL = config.resolve(
    {"source": "digits", "model": "tutorial-cnn", "seeds": 3, "save_every": 0.0},
    {"epochs": 3, "engine": "native", "threads": 2},
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "cores", lambda: 2)


def results(run: Run) -> list[bytes]:
    """The weights of all seeds, and what they were summed up to."""
    files = sorted(run.path.glob("seed-*/weights/last.safetensors"))
    return [*(path.read_bytes() for path in files), (run.path / "summary.json").read_bytes()]


def test_side_by_side_gives_the_same_bits(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    one_by_one = seeds.start_seeds(SEVERAL, project)
    seeds.finish_seeds(one_by_one)
    beside, told = seeds.start_seeds(SEVERAL, project), list[tuple[int, int]]()
    seeds.finish_seeds(beside, beside=lambda seed, record: told.append((seed, record.epoch)))
    assert len(results(beside)) == 4
    assert results(beside) == results(one_by_one)
    assert sorted(told) == [(seed, epoch) for seed in range(3) for epoch in (1, 2, 3)]
    assert Run(beside.path / "seed-0").config.training.threads == 1


def test_only_the_native_engine_goes_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    assert seeds.at_once(SEVERAL) == 2
    assert seeds.at_once(replace(SEVERAL, training=replace(SEVERAL.training, threads=1))) == 1
    assert seeds.at_once(replace(SEVERAL, training=replace(SEVERAL.training, engine="torch"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_all_seeds_down(number: int, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    long = replace(SEVERAL, training=replace(SEVERAL.training, epochs=2000))
    found = seeds.start_seeds(long, project)

    def told(_: int, __: Any) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(kn.Interrupted) as interrupted:
        seeds.finish_seeds(found, beside=told)
    assert interrupted.value.hint == f"go on: kilonet resume {found.path}"
    for inside in found.path.glob("seed-*"):
        with rundir.held(Run(inside)):
            assert Run(inside).path.joinpath("state").is_dir()


def test_a_seed_whose_process_was_killed_goes_on_in_another(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    expected = seeds.start_seeds(SEVERAL, project)
    seeds.finish_seeds(expected)
    found, said = seeds.start_seeds(SEVERAL, project), list[str]()
    monkeypatch.setattr(seeds, "_part", killed_once)
    seeds.finish_seeds(found, say=said.append, beside=lambda _, __: None)
    assert results(found) == results(expected)
    assert next(line for line in said if "killed by SIGKILL" in line).startswith("seed-1: its process was killed")


def killed_once(path: Path, config: Any, model_file: str | None, seed: int, tell: Any) -> bool:
    """As `seeds._part`, but that seed 1 is killed in the middle of its first time."""

    def told(value: Any) -> None:
        if seed == 1 and getattr(value, "epoch", 0) == 2 and not (path / "killed").exists():
            (path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        tell(value)

    return seeds._part(path, config, model_file, seed, told)
