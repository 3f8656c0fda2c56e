"""Files are whole or not there: full disks, vanished folders, signals, names asked for at once, kills at any write."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kilonet as kn
from kilonet import cli, files, plots, run, seeds, shelf, sources
from kilonet.config import Config, Training
from kilonet.errors import ConfigError, RunError
from kilonet.rundir import Run
from kilonet.state import State

LINEAR = Config(source="digits", model="linear", training=Training(epochs=3, batch_size=64, threads=1), save_every=0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "save", lambda _, path: files.write(path, b"a figure"))
    return tmp_path / "runs"


def start(project: Path) -> tuple[Run, run.Plan]:
    made = run.plan(LINEAR)
    return run.start(made, project), made


def measured(found: Run) -> dict[str, Any]:
    return {**found.metrics(), "seconds": 0, "epochs": [replace(r, seconds=0) for r in found.history().epochs]}


def test_a_failed_write_leaves_the_target_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept"
    files.write(path, b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as failure:
        files.write(path, b"after", keep=tmp_path / "older")
    assert failure.value.filename == str(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"kept": b"before"}


def test_a_write_keeps_the_file_before_it(tmp_path: Path) -> None:
    for content in (b"1", b"2", b"3"):
        files.write(tmp_path / "new", content, keep=tmp_path / "old")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"new": b"3", "old": b"2"}


@pytest.mark.parametrize("room", [8_000, 30_000, 70_000])
def test_a_full_disk_stops_in_one_line_and_loses_nothing(
    room: int, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real file system that has so many bytes left once the run has begun."""
    project.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(project)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        ballast = project / "ballast"
        found, made = start(project)
        ballast.write_bytes(bytes(os.statvfs(project).f_bavail * os.statvfs(project).f_frsize - room))
        with pytest.raises(RunError, match=r"can't write .*: No space left on device") as failure:
            run.finish(found, made)
        assert f"kilonet resume {found.path}" in (failure.value.hint or "")
        assert not list(project.rglob("*.part"))
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=50m", str(project)], check=True)
        kn.resume(found.path)
        assert measured(found) == measured(finished(tmp_path / "elsewhere"))
    finally:
        monkeypatch.chdir("/")
        subprocess.run(["umount", "-l", str(project)], check=True)


def finished(project: Path) -> Run:
    found, made = start(project)
    run.finish(found, made)
    return found


def test_a_disk_that_is_full_from_the_start_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run.plan(LINEAR)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"can't write into .*runs: No space left"):
        run.start(made, project)
    assert list(project.iterdir()) == []


def test_a_folder_that_vanishes_is_told(project: Path) -> None:
    found, made = start(project)

    def watch(now: object) -> None:
        if isinstance(now, State) and now.step == 5:
            shutil.rmtree(found.path, ignore_errors=True)

    with pytest.raises(RunError, match="has vanished while it was trained"):
        run.finish(found, made, watch)


def test_a_folder_that_can_not_be_written_is_told(project: Path) -> None:
    found, made = start(project)
    shutil.rmtree(found.path / "weights")
    (found.path / "weights").write_text("in the way")
    with pytest.raises(RunError, match=r"can't write .*weights/last\.safetensors: Not a directory"):
        run.finish(found, made)
    (found.path / "weights").unlink()
    (found.path / "weights").mkdir()
    kn.resume(found.path)
    assert found.finished()


def test_names_asked_for_at_once_are_never_shared(tmp_path: Path) -> None:
    def create(i: int) -> Path:
        return shelf.create(tmp_path / "runs", None, {"config.toml": str(i)}).path

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(create, range(64)))
    assert len(set(made)) == 64
    assert sorted((p / "config.toml").read_text() for p in made) == sorted(map(str, range(64)))

    def create_named(i: int) -> bool:
        try:
            shelf.create(tmp_path / "runs", "mine", {"config.toml": str(i)})
        except ConfigError as error:
            assert "exists already" in error.message  # noqa: PT017
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(create_named, range(64))) == 1
    assert not list((tmp_path / "runs").glob(".*"))


NAMES = """
import sys, time
from pathlib import Path
from kilonet import shelf
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    try:
        shelf.create(Path(sys.argv[1]), f"run{i}", {"config.toml": sys.argv[2]})
        print(i)
    except Exception as error:
        assert "exists already" in str(error), error
"""


def test_processes_that_ask_for_one_name_never_share_a_folder(tmp_path: Path) -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", NAMES, str(tmp_path), str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for process in asking:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    got = [process.communicate()[0].split() for process in asking]
    assert sorted(got[0] + got[1], key=int) == [str(i) for i in range(40)]
    for i, names in enumerate(got):
        assert all((tmp_path / f"run{name}" / "config.toml").read_text() == str(i) for name in names)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(number: int, project: Path) -> None:
    command = [sys.executable, "-m", "kilonet", "train", "digits", "--model", "linear", "--epochs", "5000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    path = project / "train"
    while not (path / "results.csv").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    said = err.splitlines()
    assert said[-2].startswith("error: interrupted in epoch ")
    assert said[-2].endswith(", and saved")
    assert said[-1] == "hint: go on: kilonet resume runs/train"
    epochs = len(Run(path).history().epochs)
    assert f"interrupted in epoch {epochs + 1}, step" in said[-2]


def test_ctrl_c_while_figures_are_drawn_loses_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = measured(finished(project))
    monkeypatch.setattr(plots, "save", lambda _, __: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "digits", "--model", "linear", "--epochs", "3", "--batch-size", "64", "--threads", "1"])
    assert ended.value.code == 130
    assert "after the last epoch" in capsys.readouterr().err
    monkeypatch.undo()
    assert measured(kn.resume(project / "train2")) == expected


def signalling(number: int, first: Any = lambda *_: None) -> Any:
    """What does something, and sends this process a signal."""

    def send(*given: Any) -> Any:
        done = first(*given)
        os.kill(os.getpid(), number)
        return done

    return send


def stopped(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines of a command that a signal ends."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--project", "runs"])
    assert ended.value.code == 130
    return capsys.readouterr().err.splitlines()


TRAIN = ["train", "digits", "--model", "linear", "--epochs", "3", "--batch-size", "64", "--threads", "1"]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_a_signal_while_data_is_loaded_ends_on_the_spot(
    number: int, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = start(project)
    monkeypatch.setattr(sources, "load", signalling(number))
    assert stopped(capsys, *TRAIN) == ["error: interrupted"]
    assert stopped(capsys, "resume", "train") == ["error: interrupted", "hint: go on: kilonet resume runs/train"]
    again = "kilonet resume runs/train --epochs 9"
    assert stopped(capsys, "resume", "train", "--epochs", "9") == ["error: interrupted", f"hint: go on: {again}"]
    with pytest.raises(kn.Interrupted) as interrupted:
        kn.resume(found.path)
    assert interrupted.value.hint == f"go on: kilonet resume {found.path}"


@SIGNALS
@pytest.mark.parametrize("seeds", [[], ["--seeds", "2"]])
def test_a_signal_as_the_directory_appears_tells_how_to_go_on(
    number: int, seeds: list[str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shelf, "create", signalling(number, shelf.create))
    assert stopped(capsys, *TRAIN, *seeds)[-2:] == ["error: interrupted", "hint: go on: kilonet resume runs/train"]
    assert (project / "train" / "config.toml").exists()


@SIGNALS
@pytest.mark.parametrize("at", ["seal", "diagnose"])
def test_a_signal_when_the_run_is_whole_says_so(
    number: int, at: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if at == "seal":
        monkeypatch.setattr(Run, "seal", signalling(number, Run.seal))
    else:
        monkeypatch.setattr(run, "diagnose", signalling(number))
    done = "the run is done: kilonet resume runs/train shows it"
    assert stopped(capsys, *TRAIN) == ["error: interrupted", f"hint: {done}"]
    assert Run(project / "train").finished()


@SIGNALS
@pytest.mark.parametrize("at", ["seal", "diagnose", "between", "sum"])
def test_a_signal_ends_a_run_of_seeds_wherever_it_comes(
    number: int, at: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seeds.start_seeds(replace(LINEAR, seeds=2), project)

    def watch(_: object, seed: int) -> Any:
        return signalling(number)() if seed and at == "between" else lambda _: None

    if at == "seal":
        monkeypatch.setattr(Run, "seal", signalling(number, Run.seal))
    elif at == "diagnose":
        monkeypatch.setattr(run, "diagnose", signalling(number))
    elif at == "sum":
        monkeypatch.setattr(seeds, "over_seeds", signalling(number))
    with pytest.raises(kn.Interrupted) as interrupted:
        seeds.finish_seeds(found, watch)
    assert interrupted.value.hint == f"go on: kilonet resume {found.path}"
    begun = sorted(p.name for p in found.path.glob("seed-*"))
    assert begun == (["seed-0"] if at in ("seal", "diagnose") else ["seed-0", "seed-1"])
    assert not found.summary()
    monkeypatch.undo()
    kn.resume(found.path)
    assert found.summary()["seeds"] == [0, 1]


EARLY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
class Finder:
    def find_spec(self, name, *_):
        if name == "cyclopts":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder())
from kilonet.__main__ import main
main()
"""


@SIGNALS
def test_a_signal_during_the_imports_gets_one_line(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY, str(int(number))], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("words", [["data", "digits"], ["data"], ["data", "--json"]])
def test_a_reader_that_stops_reading_is_no_error(words: list[str]) -> None:
    command = [sys.executable, "-m", "kilonet", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert (process.stderr.read(), process.wait(60)) == ("", 1)


KILLS = Path(__file__).with_name("kills.py")


@pytest.mark.parametrize("every", [29, pytest.param(3, marks=pytest.mark.full)])
def test_a_kill_at_any_file_operation_loses_nothing(every: int, tmp_path: Path) -> None:
    """Killed before each (or every so many) file that a run opens, renames or makes: all that can be on the disk."""
    done = subprocess.run(
        [sys.executable, str(KILLS), str(tmp_path), str(every)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["different"] == []
    assert told["killed"] == len(range(0, told["operations"], every))
    assert told["operations"] > 100
