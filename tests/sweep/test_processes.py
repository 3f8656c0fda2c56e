"""Sweeps whose processes are killed at some moment: as many trials in the end, each done once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kilonet.sweep.database import sqlite_url
from sweep.commands import WORDS, finished, repeated, running, trials, until
from sweep.making import alone, begun, work

N = 10
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc"),
    pytest.mark.usefixtures("alone"),
]
__all__ = ["alone"]
SETTINGS = ("lr=1e-4..1e-1:log", "batch-size=16,32,64")


def goes_on(project: Path) -> None:
    """What the command does when it is given again, in this process."""
    work(begun(project, *SETTINGS, training={"epochs": 60}), N)


def some(url: str, least: int) -> bool:
    return Path(url.removeprefix("sqlite:///")).exists() and len(finished(url)) >= least


def test_a_worker_that_is_killed_costs_its_trial_a_second_attempt_and_nothing_else(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "runs" / "s" / "study.db")
    with running(tmp_path, *WORDS, "--trials", str(N), "--workers", "2") as command:
        until(lambda: some(url, 2))
        os.kill(command.workers()[0], signal.SIGKILL)
        assert command.ended() == 0, command.said
        assert "its process was killed by SIGKILL" in command.said
    assert finished(url) == dict.fromkeys(range(N), 1)
    assert len(repeated(url)) <= 1
    assert len((tmp_path / "runs" / "s" / "trials.csv").read_text().splitlines()) == 1 + N


def test_after_ctrl_c_nothing_runs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "runs" / "s" / "study.db")
    words = (*WORDS, "--trials", str(N), "--workers", "2")
    with running(tmp_path, *words) as command:
        until(lambda: some(url, 3))
        command.process.send_signal(signal.SIGINT)
        assert command.ended() == 130
        assert command.said == "error: interrupted\nhint: go on: kilonet sweep --name s\n"
        assert command.workers() == []
    assert 3 <= len(finished(url)) < N
    assert [trial.number for trial in trials(url) if trial.state.name == "RUNNING"] == []
    goes_on(tmp_path / "runs")
    assert finished(url) == dict.fromkeys(range(N), 1)


def test_after_a_kill_of_the_command_its_workers_end_and_the_same_command_goes_on_at_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "runs" / "s" / "study.db")
    words = (*WORDS, "--trials", str(N), "--workers", "2")
    with running(tmp_path, *words) as command:
        until(lambda: some(url, 2))
        workers = command.workers()
        time.sleep(random.random())
        command.process.kill()
        command.process.wait()
        until(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers))
    goes_on(tmp_path / "runs")
    assert finished(url) == dict.fromkeys(range(N), 1)
    assert len(repeated(url)) <= 2


def test_a_disk_that_is_full_is_said_in_a_line_and_the_sweep_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be made: {mounted.stderr.decode()}")
    try:
        words = (*WORDS, "--trials", str(N), "--workers", "1", "--project", str(disk))
        url = sqlite_url(disk / "s" / "study.db")
        with running(tmp_path, *words) as command:
            until(lambda: some(url, 2))
            with pytest.raises(OSError, match="No space"):
                (disk / "filler").write_bytes(bytes(10**6))
            assert command.ended() == 1
            assert "Traceback" not in command.said
            assert "no room in sqlite:" in command.said
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        goes_on(disk)
        assert finished(url) == dict.fromkeys(range(N), 1)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
