"""A run of several ranks, as torchrun starts it: written by rank 0, told in one line, gone on with after kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from kilonet.rundir import Run
from parallel.launching import HERE, KILONET, Launch, finished, launched, on_this_host

ANY = (*KILONET, "train", "digits", "--save-every", "0")
TRAIN = (*ANY, "--model", "kilo-4k")
DROPPING = (*ANY, "--model", f"{HERE / 'nets.py'}:Dropping")


def trained(*words: str, folder: Path, ranks: int = 2) -> Launch:
    launch = finished(ranks, *TRAIN, *words, folder=folder)
    assert launch.process.returncode == 0, launch.said()
    return launch


def weights(folder: Path, run: str = "train") -> bytes:
    return b"".join(
        (folder / "runs" / run / "weights" / f"{name}.safetensors").read_bytes() for name in ("best", "last")
    )


def epochs_done(folder: Path, run: str = "train") -> int:
    path = folder / "runs" / run / "results.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_rank_0_alone_writes_and_speaks(tmp_path: Path) -> None:
    launch = trained("--epochs", "2", "--json", folder=tmp_path)
    told = json.loads(launch.out.read_text())
    assert told["run"] == "runs/train"
    assert told["engine"] == "torch"
    assert launch.said().splitlines().count("note: engine torch, since 2 ranks train together") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.err", "0.out", "runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["train"]
    run = Run(tmp_path / "runs" / "train")
    assert run.finished()
    assert not run.damaged()
    metrics = run.metrics()
    assert [metrics[part]["n"] for part in ("val", "test")] == [270, 269]
    assert metrics["val"]["accuracy"] == run.history().best.val_accuracy
    again = finished(2, *TRAIN, "--name", "train", folder=tmp_path)
    assert again.process.returncode == 1
    assert again.errors() == ["error: runs/train exists already"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--epochs", "x"], "Invalid value for --epochs"),
        (["--lr", "-1"], "lr = -1.0 won't do"),
        (["--engine", "native"], "the native engine trains in one process, not over 2 ranks"),
        (["--seeds", "3"], "2 ranks train one net together, not the 3 of"),
        (["--optimizer", "sgd", "--lr", "1e38"], "the training went wrong in epoch 1"),
    ],
)
def test_what_will_not_do_is_said_once(words: Sequence[str], error: str, tmp_path: Path) -> None:
    launch = finished(2, *TRAIN, *words, folder=tmp_path)
    assert launch.process.returncode == 1
    assert len(launch.errors()) == 1, launch.said()
    assert error in launch.errors()[0]
    assert list(tmp_path.glob("runs/*")) == [] or error.startswith("the training")


@pytest.mark.full
def test_a_sweep_is_not_for_torchrun(tmp_path: Path) -> None:
    launch = finished(2, *KILONET, "sweep", "digits", "--set", "lr=0.1,0.2", folder=tmp_path)
    assert launch.process.returncode == 1
    assert launch.errors() == ["error: kilonet sweep is not for torchrun, which started 2 of it"], launch.said()
    assert not (tmp_path / "runs").exists()


@pytest.mark.full
def test_a_killed_rank_comes_back(tmp_path: Path) -> None:
    """Either of them, killed at once, in mid-epoch, and after that again: the very bits of the undisturbed run."""
    words = (*DROPPING, "--epochs", "12")
    whole = finished(2, *words, "--name", "whole", folder=tmp_path)
    assert whole.process.returncode == 0, whole.said()
    with launched(*on_this_host(2, *words, restarts=3), folder=tmp_path) as launch:
        for rank, epochs in ((1, 2), (0, 6)):
            launch.until(lambda: epochs_done(tmp_path) >= epochs)  # noqa: B023
            killed = launch.ranks()
            os.kill(killed[rank], signal.SIGKILL)
            launch.until(lambda: not set(killed.values()) & set(launch.ranks().values()))  # noqa: B023
        assert launch.wait() == 0, launch.said()
        assert "going on after epoch" in launch.said()
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"whole", "train"}
    assert weights(tmp_path) == weights(tmp_path, "whole")
    assert Run(tmp_path / "runs/train").finished()


@pytest.mark.full
def test_rank_0_killed_while_it_measures_comes_back(tmp_path: Path) -> None:
    words = on_this_host(2, str(HERE / "faulty.py"), "killed-measuring", *TRAIN[2:], "--epochs", "2", restarts=1)
    with launched(*words, folder=tmp_path) as launch:
        assert launch.wait() == 0, launch.said()
    assert launch.errors() == ["error: rank 1 of 2 has lost another one: its connection broke"]
    assert "going on after epoch 2" in launch.said()
    assert Run(tmp_path / "runs" / "train").finished()


@pytest.mark.full
def test_a_rank_killed_before_there_is_a_run_begins_one(tmp_path: Path) -> None:
    """By torchrun's other way of meeting, in which a launch keeps one store over its restarts."""
    words = ("--nproc-per-node", "2", "--max-restarts", "2", "--master-port", "29390", *TRAIN, "--epochs", "2")
    with launched(*words, "--name", "late", folder=tmp_path) as launch:
        launch.until(lambda: len(launch.ranks()) == 2)
        os.kill(launch.ranks()[0], signal.SIGKILL)
        assert launch.wait() == 0, launch.said()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["late"]


@pytest.mark.full
def test_sigterm_saves_and_resume_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    words = (*TRAIN, "--epochs", "8")
    whole = finished(2, *words, "--name", "whole", folder=tmp_path)
    assert whole.process.returncode == 0, whole.said()
    with launched(*on_this_host(2, *words), folder=tmp_path) as launch:
        launch.until(lambda: epochs_done(tmp_path) >= 2)
        os.kill(launch.ranks()[1], signal.SIGTERM)
        assert launch.wait() != 0
        assert len(launch.errors()) == 1, launch.said()
        assert launch.errors()[0].startswith("error: interrupted in epoch")
        assert "hint: go on: torchrun ... -m kilonet resume runs/train" in launch.said()
    again = finished(2, *KILONET, "resume", "train", folder=tmp_path)
    assert again.process.returncode == 0, again.said()
    assert "going on after epoch" in again.said()
    assert weights(tmp_path) == weights(tmp_path, "whole")


@pytest.mark.full
def test_without_restarts_a_lost_rank_ends_all(tmp_path: Path) -> None:
    words = (str(HERE / "faulty.py"), "slow-to-speak", *TRAIN[2:], "--epochs", "400")
    with launched(*on_this_host(2, *words), folder=tmp_path) as launch:
        launch.until(lambda: epochs_done(tmp_path) >= 2)
        os.kill(launch.ranks()[1], signal.SIGKILL)
        assert launch.wait(60) == 1
        assert launch.errors() == ["error: rank 0 of 2 has lost another one: its connection broke"], launch.said()
        assert "hint: go on: torchrun ... -m kilonet resume runs/train" in launch.said()


@pytest.mark.full
def test_ranks_that_have_waited_long_enough_leave_rank_0_to_its_measuring(tmp_path: Path) -> None:
    launch = finished(2, str(HERE / "faulty.py"), "left-behind", *TRAIN[2:], "--epochs", "2", folder=tmp_path)
    assert launch.process.returncode == 0, launch.said()
    assert launch.errors() == []
    assert Run(tmp_path / "runs" / "train").finished()


@pytest.mark.full
def test_a_full_disk_ends_all_with_one_line(tmp_path: Path) -> None:
    launch = finished(2, str(HERE / "faulty.py"), "full-disk", *TRAIN[2:], "--epochs", "5", folder=tmp_path)
    assert launch.process.returncode == 1
    assert len(launch.errors()) == 1, launch.said()
    assert "No space left" in launch.errors()[0]


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("other-version", "rank 1 has another Kilonet version than rank 0: 9.9, not"),
        ("other-code", "rank 1 has another Kilonet code than rank 0"),
        ("other-data", "rank 1 has another train part than rank 0"),
        ("other-net", "rank 1 has another model's file than rank 0: checksum"),
        ("other-settings", "rank 1 has another batch_size than rank 0: 32, not 64"),
        ("no-data", "rank 1: unknown source"),
    ],
)
def test_ranks_that_differ_are_refused_before_the_first_step(fault: str, error: str, tmp_path: Path) -> None:
    launch = finished(2, str(HERE / "faulty.py"), fault, *DROPPING[2:], "--epochs", "2", folder=tmp_path)
    assert launch.process.returncode == 1
    assert len(launch.errors()) == 1, launch.said()
    assert error in launch.errors()[0]
    assert "hint: " in launch.said()
    assert not (tmp_path / "runs").exists()
