"""Seeds side by side: the same bits as one after another, whoever dies meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kilonet as kn
from kilonet import cli, config, display, run, rundir, seeds, stock, together, world
from kilonet.cli import training
from kilonet.errors import RunError
from kilonet.history import Epoch
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


def results(found: Run) -> list[bytes]:
    """The weights of all seeds, and what they were summed up to."""
    files = sorted(found.path.glob("seed-*/weights/last.safetensors"))
    return [*(path.read_bytes() for path in files), (found.path / "summary.json").read_bytes()]


def test_side_by_side_gives_the_same_bits(project: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    beside, told = seeds.start_seeds(SEVERAL, project), list[tuple[int, Any]]()
    seeds.finish_seeds(beside, beside=lambda *heard: told.append(heard))
    assert len(results(beside)) == 4
    assert results(beside) == results(undisturbed)
    epochs = [(seed, one.epoch) for seed, one in told if isinstance(one, Epoch)]
    assert sorted(epochs) == [(seed, epoch) for seed in range(3) for epoch in (1, 2, 3)]
    assert Run(beside.path / "seed-0").config.training.threads == 1


def test_what_goes_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    torch, alone = ({"engine": "torch"}, {"engine": "torch", "threads": 1})
    for changes, most in (({}, 2), ({"threads": 1}, 1), (torch, 1), (alone, 2), ({**alone, "device": "cuda"}, 1)):
        assert seeds.at_once(replace(SEVERAL, training=replace(SEVERAL.training, **changes))) == most


@pytest.mark.parametrize(("many", "finish"), [("--seeds", "_finish_seeds"), ("--committee", "_finish_committee")])
def test_the_data_is_let_go_before_seeds_load_it(
    many: str, finish: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, made = together.planned, list["weakref.ref[kn.ImageSet]"]()

    def watched(chosen: config.Config) -> run.Plan:
        plan = planned(chosen)
        made.append(weakref.ref(plan.data))
        return plan

    kept = list[object]()
    monkeypatch.setattr(together, "planned", watched)
    monkeypatch.setattr(training, finish, lambda *_, **__: kept.append(made[0]()))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "digits", "--model", "linear", many, "2", "--project", str(project)])
    assert ended.value.code == 0
    assert kept == [None]


WILD = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        self.wild = torch.initial_seed() == 1

    def forward(self, images):
        return super().forward(images.flatten(1)) * (float("nan") if self.wild else 1.0)
"""


@pytest.mark.full
def test_the_torch_engine_on_one_thread_gives_the_same_bits_side_by_side_without_a_seed_that_goes_wrong(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cores(monkeypatch)
    (tmp_path / "wild.py").write_text(WILD)
    few = {"source": "digits", "model": f"{tmp_path / 'wild.py'}:Net", "seeds": 3}
    chosen = config.resolve(few, {"engine": "torch", "threads": 1, "epochs": 2})
    beside, told = seeds.start_seeds(chosen, project), list[tuple[int, Any]]()
    summary = seeds.finish_seeds(beside, beside=lambda *heard: told.append(heard))
    assert summary["why"] == {"seed-1": "it went wrong in epoch 1: its loss was nan"}
    ended = sorted((seed, how.why) for seed, how in told if isinstance(how, seeds.Ended))
    assert ended == [(0, None), (1, summary["why"]["seed-1"]), (2, None)]
    threads = world.set_threads(None)
    try:
        assert results(beside) == results(finished(project, chosen))
    finally:
        world.set_threads(threads)


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


def finished(project: Path, config: Any = SEVERAL) -> Run:
    found = seeds.start_seeds(config, project)
    seeds.finish_seeds(found)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Its seeds were trained one after another, in this process."""
    return finished(tmp_path_factory.mktemp("undisturbed"))


@dataclass(frozen=True, eq=False)
class Killed(seeds._Work):
    """Kills its process in the second epoch of a seed, as often as there are files to take."""

    def __call__(self, seed: int, tell: Any) -> seeds.Ended:
        def told(value: Any) -> None:
            left = sorted(self.path.parent.glob(f"kill-{seed}-*"))
            if getattr(value, "epoch", 0) == 2 and left:
                left[0].unlink()
                (self.path / ".summary.json.abc.part").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            tell(value)

        return super().__call__(seed, told)


def test_a_seed_whose_process_is_killed_goes_on_in_another_and_then_is_left_out(
    project: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cores(monkeypatch)
    found, said, told = seeds.start_seeds(SEVERAL, project), list[str](), list[tuple[int, Any]]()
    monkeypatch.setattr(seeds, "_Work", Killed)
    for name in ("kill-0-first", "kill-1-first", "kill-1-second"):
        (project / name).touch()
    summary = seeds.finish_seeds(found, say=said.append, beside=lambda *heard: told.append(heard))
    monkeypatch.undo()
    why = "its process was killed by SIGKILL, as happens where memory runs out"
    assert (summary["seeds"], summary["failed"], summary["why"]) == ([0, 2], ["seed-1"], {"seed-1": why})
    assert [line for line in said if "SIGKILL" in line and "seed-0" in line] == [f"seed-0: {why}: it is begun again"]
    assert f"seed-1: {why}: it is left out: kilonet resume {found.path} tries it again" in said
    ended = sorted((seed, how.why) for seed, how in told if isinstance(how, seeds.Ended))
    assert ended == [(0, None), (1, why), (2, None)]
    assert (found.path / "distribution.png").exists()
    assert not list(found.path.glob("*.part"))
    kn.resume(found.path)
    assert results(found) == results(undisturbed)


def test_seeds_that_are_all_killed_are_no_summary(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_cores(monkeypatch)
    found = seeds.start_seeds(replace(SEVERAL, seeds=2), project)
    monkeypatch.setattr(seeds, "_Work", Unstartable)
    with pytest.raises(RunError, match=r"no seed of .* was trained to its end: its process .* status 3") as refused:
        seeds.finish_seeds(found, beside=lambda _, __: None)
    assert refused.value.hint == f"try again: kilonet resume {found.path}"


class Unstartable:
    def __init__(self, *_: Any) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_data_is_loaded_once_for_all_seeds_of_a_process(
    project: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, real = list[str](), stock.load

    def load(source: str, how: str, seed: int) -> stock.Stock:
        loaded.append(source)
        return real(source, how, seed)

    monkeypatch.setattr(stock, "load", load)
    finished(project, config.resolve({"source": "digits", "model": "linear", "seeds": 2}, {"epochs": 1}))
    assert loaded == ["digits"]
    alone = run.plan(replace(SEVERAL, seeds=1, split_seed=0, training=replace(SEVERAL.training, seed=2)))
    run.finish(made := run.start(alone, project), alone)
    for name in ("weights/last.safetensors", "state/split.npz", "predictions.npz", "mistakes.png"):
        assert (made.path / name).read_bytes() == (undisturbed.path / "seed-2" / name).read_bytes()


def test_data_that_changed_between_two_seeds_is_refused(project: Path, tmp_path: Path) -> None:
    digits = kn.load("digits")
    np.savez(tmp_path / "data.npz", images=digits.pixels[:, 0], labels=digits.labels)
    few = config.resolve({"source": str(tmp_path / "data.npz"), "model": "linear", "seeds": 2}, {"epochs": 1})
    found = finished(project, few)
    np.savez(tmp_path / "data.npz", images=255 - digits.pixels[:, 0], labels=digits.labels)
    Run(found.path / "seed-1").unseal()
    with pytest.raises(RunError, match=r"has changed since .*seed-1 began"):
        kn.resume(found.path)
    shutil.rmtree(found.path / "seed-1")
    with pytest.raises(RunError, match="its parts are not those of seed-0"):
        kn.resume(found.path)


def test_the_progress_counts_seeds_that_ended_and_those_left_out() -> None:
    shown = display.TrainingDisplay()
    told = shown.beside(SEVERAL)
    (bar,) = shown._progress.tasks
    assert bar.description == "0 of 3 seeds"
    told(0, seeds.Ended())  # it was done before
    for epoch in (1, 2):
        told(1, Epoch(epoch, 1.0, 1.0, 0.5, 1e-3, 1.0))
    assert (bar.description, bar.completed, bar.total) == ("1 of 3 seeds", 3 + 2, 9)
    told(2, Epoch(1, 1.0, 1.0, 0.5, 1e-3, 1.0))
    told(2, seeds.Ended("its loss was nan"))
    told(1, Epoch(3, 1.0, 1.0, 0.5, 1e-3, 1.0))
    told(1, seeds.Ended())
    assert (bar.description, bar.completed) == ("3 of 3 seeds, 1 left out", 9)
