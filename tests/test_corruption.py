"""Every file of a run, damaged: no command crashes, damaged weights are never used, and resume makes the run whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kilonet import checkpoint, cli, files, measuring, plots, run
from kilonet.config import Config, Training
from kilonet.rundir import Run

CONFIG = Config(source="digits", model="linear", save_every=0, training=Training(epochs=2, batch_size=256, threads=1))
COMMANDS = [
    ["evaluate"], ["evaluate", "--data", "digits"], ["predict", "--data", "digits", "--index", "0-2"], ["plot"],
    ["doctor"], ["resume"],
]  # fmt: skip
NAMES = [
    "config.toml", "results.csv", "metrics.json", "predictions.npz", "weights/best.safetensors",
    "weights/last.safetensors", "state/checkpoint.safetensors", "state/previous.safetensors", "state/split.npz",
    "state/finished.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save", lambda _, path: files.write(Path(path), b"a figure"))
        made = run.plan(CONFIG)
        found = run.start(made, tmp_path_factory.mktemp("corruption") / "runs")
        run.finish(found, made)
        yield found


def status(words: list[str], found: Run) -> int:
    """The exit status of a command on a run."""
    show = ["--show", str(found.path.parent / "x.png")] if words == ["plot"] else []
    with pytest.raises(SystemExit) as ended:
        cli.main([words[0], str(found.path), *words[1:], *show])
    assert ended.value.code in (0, 1)
    return int(ended.value.code or 0)


def results(found: Run) -> dict[str, Any]:
    weights = {p.name: p.read_bytes() for p in (found.path / "weights").iterdir()}
    epochs = [replace(record, seconds=0) for record in found.history().epochs]
    predictions = (found.path / "predictions.npz").read_bytes(), (found.path / "state" / "split.npz").read_bytes()
    return {**weights, "epochs": epochs, "metrics": {**found.metrics(), "seconds": 0}, "arrays": predictions}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A flipped bit, mostly; else a cut, an empty file, a zeroed block or other bytes behind it."""
    way, at = rng.randrange(8), rng.randrange(len(content))
    if way < 4:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    return [content[:at], b"", content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :], content + b"x"][
        way - 4
    ]


@pytest.mark.parametrize("times", [2, pytest.param(8, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_survived(
    name: str, times: int, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(f"{name} {times}")
    expected = results(whole)
    for i in range(times):
        broken = Run(tmp_path / f"run{i}")
        shutil.copytree(whole.path, broken.path)
        content = damaged((whole.path / name).read_bytes(), rng)
        (broken.path / name).write_bytes(content)
        if content == (whole.path / name).read_bytes():
            continue
        statuses = {words[0]: status(words, broken) for words in COMMANDS}
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        if name == "config.toml":
            assert statuses["resume"] == 1, told.err
            continue
        assert statuses["resume"] == 0, told.err
        assert name.rpartition("/")[2].partition(".")[0] in told.out + told.err
        assert results(broken) == expected
        assert broken.damaged() == []


def test_damaged_weights_are_never_used(whole: Run, tmp_path: Path) -> None:
    for i in range(30):
        broken = Run(tmp_path / f"run{i}")
        shutil.copytree(whole.path, broken.path)
        path = broken.path / "weights" / "best.safetensors"
        path.write_bytes(damaged(path.read_bytes(), random.Random(i)))
        assert status(["evaluate"], broken) == 1
        assert status(["predict", "--data", "digits"], broken) == 1


def test_what_is_measured_is_what_was_trained(whole: Run) -> None:
    assert measuring.measure(whole, None)[0].accuracy == whole.metrics()["test"]["accuracy"]
    assert checkpoint.read(whole.path / "weights" / "best.safetensors")[0]["model"] == "linear"
