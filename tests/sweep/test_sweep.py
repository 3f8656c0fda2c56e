"""The command: what it leaves, what it goes on with, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kilonet import measuring, ranks
from kilonet.config import read_toml
from kilonet.errors import ModelError, RunError
from kilonet.evaluation import evaluate
from kilonet.sweep import spec, winner
from kilonet.sweep.results import Trial, importances, ranked, to_csv, trials
from sweep.making import OWN, alone, begun, run, standing

pytestmark = pytest.mark.usefixtures("alone")
__all__ = ["alone"]
WORDS = ("sweep", "digits", "--model", "linear", "--epochs", "2")


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def spoken(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run(*words, "--json") == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(*words) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert [line.partition(":")[0] for line in told.err.splitlines()] in (["error", "hint"], ["error"])
    return told.err


def test_a_sweep_from_its_command_to_its_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def counting(model: Any, data: Any, *more: Any, **others: Any) -> Any:
        measured.append(len(data))
        return evaluate(model, data, *more, **others)

    monkeypatch.setattr(measuring, "evaluate", counting)
    words = (*WORDS, "--set", "lr=0.001,0.05", "--set", "batch-size=32,64", "--name", "s")
    found = spoken(capsys, *words)
    assert found["trials"] == {"done": 4, "complete": 4, "ended_early": 0, "went_wrong": 0}
    path = tmp_path / "runs" / "s"
    kept = {
        "sweep.toml",
        "study.db",
        "trials.csv",
        "parallel.png",
        "importance.png",
        "accuracy.png",
        "winner.toml",
        "winner",
    }
    assert {entry.name for entry in path.iterdir()} == kept
    for picture in path.glob("*.png"):
        with Image.open(picture) as drawn:
            assert drawn.width > 400
            assert len(set(drawn.convert("L").tobytes())) > 20
    rows = list(csv.DictReader((path / "trials.csv").read_text().splitlines()))
    assert [(row["trial"], row["state"]) for row in rows] == [(str(number), "complete") for number in range(4)]
    points = {(row["batch_size"], row["lr"]) for row in rows}
    assert points == {(size, lr) for size in ("32", "64") for lr in ("0.001", "0.05")}
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    won = found["winner"]
    assert (won["trial"], won["state"], won["readings"]) == (int(best["trial"]), "measured", 1)
    metrics = json.loads((path / "winner" / "metrics.json").read_text())
    assert won["metrics"] == metrics
    assert metrics["val"]["accuracy"] == float(best["val_accuracy"])  # trained again, to the same bits
    config = read_toml(path / "winner.toml")
    assert (str(config.training.lr), str(config.training.batch_size)) == (best["lr"], best["batch_size"])
    assert measured.count(metrics["test"]["n"]) == 1

    again = spoken(capsys, *words)
    assert again == found
    assert measured.count(metrics["test"]["n"]) == 1
    assert spoken(capsys, "sweep", "--name", "s") == found


@pytest.mark.full
def test_the_winner_of_several_seeds_is_the_trial_s_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, *WORDS, "--set", "lr=0.02", "--seeds", "2", "--name", "s", "--seed", "3")
    summary = found["winner"]["metrics"]
    assert summary["seeds"] == [3, 4]
    assert summary["val"]["accuracy"]["mean"] == pytest.approx(found["best"][0]["accuracy"], abs=1e-12)
    assert (tmp_path / "runs" / "s" / "winner" / "seed-4" / "metrics.json").exists()


@pytest.mark.full
def test_a_later_winner_is_measured_too_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*WORDS, "--set", "lr=1e-6,0.05", "--name", "s")
    assert spoken(capsys, *words, "--trials", "1")["winner"]["readings"] == 1
    first = json.loads((tmp_path / "runs" / "s" / "winner" / "metrics.json").read_text())
    found = spoken(capsys, *words)
    if found["winner"]["trial"] == 0:  # the order of a grid is drawn; this one has the better point second
        pytest.fail("the first point wins: take other points")
    assert found["winner"]["readings"] == 2
    assert found["winner"]["run"] == str((tmp_path / "runs" / "s" / "winner-1").resolve())
    assert json.loads((tmp_path / "runs" / "s" / "winner" / "metrics.json").read_text()) == first
    assert run(*words) == 0
    assert "the test part has been read for 2 winners of this sweep" in capsys.readouterr().out


def test_without_a_name_the_same_sweep_has_the_same_name_and_another_another(tmp_path: Path) -> None:
    one = begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None)
    assert one.name == f"sweep-{one.spec.identity[:8]}"
    same = [
        begun(tmp_path / "there", "batch_size=16, 32", "lr=2e-2,3e-2", name=None),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, training={"epochs": 2, "threads": 1}),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, training={"epochs": 2, "optimizer": "adam"}),
    ]
    assert {sweep.name for sweep in same} == {one.name}
    others = [
        begun(tmp_path, "lr=0.02,0.04", "batch-size=16,32", name=None),
        begun(tmp_path, "lr=0.02..0.03", "batch-size=16,32", name=None),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, seeds=2),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, training={"epochs": 3}),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, training={"epochs": 2, "seed": 1}),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, sampler="random"),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, pruner="median"),
        begun(tmp_path, "lr=0.02,0.03", "batch-size=16,32", name=None, model="linear-from-scratch"),
    ]
    assert len({sweep.name for sweep in [one, *others]}) == 9


@pytest.mark.parametrize(
    "other",
    [
        ("--set", "lr=0.01,0.03"),
        ("--set", "lr=0.01,0.02", "--seeds", "2"),
        ("--set", "lr=0.01,0.02", "--sampler", "random"),
        ("--set", "lr=0.01,0.02", "--weight-decay", "0.1"),
        ("--set", "lr=0.01,0.02", "--split", "60/20/20"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_two_sweeps_with_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: tuple[str, ...], folder: bool
) -> None:
    sweep = begun(tmp_path / "runs", "lr=0.01,0.02")
    if not folder:  # as on another machine, which has only the database in common
        (tmp_path / "there").mkdir()
        (sweep.path / "study.db").rename(tmp_path / "there" / "study.db")
        (sweep.path / "sweep.toml").unlink()
        sweep.path.rmdir()
        other = (*other, "--storage", f"sqlite:///{tmp_path}/there/study.db")
    assert "another sweep" in refused(capsys, *WORDS, *other, "--name", "s")
    assert sweep.path.exists() == folder


def test_a_worker_of_another_version_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "runs", "lr=0.01,0.02")
    monkeypatch.setattr(spec, "version", lambda _: "9.9.9")
    told = refused(capsys, "sweep", "--name", "s")
    assert "was begun by Kilonet 0.1.0, and this is 9.9.9" in told
    assert "begun by Kilonet" in refused(capsys, *WORDS, "--set", "lr=0.01,0.02", "--name", "s")


def test_other_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path / "runs", "lr=0.01,0.02")
    told = refused(capsys, "sweep", "mnist-5k", "--name", "s")
    assert "is not the data that the sweep began with" in told


def test_a_model_of_ones_own_is_trained_but_not_because_the_database_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(OWN.format("nn.Flatten(), nn.Linear(64, 10)"))
    words = ("sweep", "digits", "--model", "net.py:Net", "--epochs", "1", "--set", "lr=0.01,0.02", "--name", "s")
    assert spoken(capsys, *words, "--trials", "1")["winner"]["metrics"]["parameters"] == 650
    told = refused(capsys, "sweep", "--name", "s")
    assert "the sweep trains 'net.py:Net', which is not imported because a database says so" in told
    assert "give the file: --model path/to/net.py:Net" in told
    (tmp_path / "there").mkdir()
    (tmp_path / "net.py").rename(tmp_path / "there" / "net.py")
    assert spoken(capsys, "sweep", "--name", "s", "--model", "there/net.py:Net")["trials"]["done"] == 2
    (tmp_path / "there" / "net.py").write_text(OWN.format("nn.Flatten(), nn.ReLU(), nn.Linear(64, 10)"))
    assert "is another file" in refused(capsys, "sweep", "--name", "s", "--model", "there/net.py:Net")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "a sweep needs what to look through"),
        (("--name", "none"), "no sweep none in runs"),
        (("--name", "a/b", "--set", "lr=0.1"), "would not stay in its folder"),
        (("--set", "lr=0.1", "--time", "soon"), "expected such as 90s"),
        (("--set", "lr=0.1", "--trials", "0"), "trials = 0 won't do"),
        (("--set", "lr=0.1", "--workers", "0"), "workers = 0 won't do"),
        (("--set", "lr=0.1", "--lr", "0.2"), "lr is both set and swept"),
        (("--set", "lr=0.1..0.2", "--sampler", "grid"), "a grid has no ranges"),
        (("--set", "lr=0.1", "--split", "full"), "nothing validates"),
        (("--set", "model=kilo-5k"), "kilo-4k"),
        (("--set", "momentum=0..0.9"), "expected 0 unless with sgd"),
        (("--set", "lr=0.1", "--storage", "here"), "is no URL"),
        (("--name", "s", "--lr", "0.1"), "--lr won't do without --set"),
        (("--name", "s", "--pruner", "none"), "--pruner won't do without --set"),
        (("--set", "lr=0.1", "--set", "model=missing.py:Net"), "can't read the model's file missing.py"),
    ],
)
def test_what_will_not_do_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert told in refused(capsys, "sweep", "digits", *words)
    assert not list(Path("runs").glob("*"))


def test_torchrun_starts_no_sweep_and_one_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 2)
    told = "kilonet sweep is not for torchrun, which started 2 of it"
    assert told in refused(capsys, *WORDS, "--set", "lr=0.1")
    monkeypatch.setattr(ranks, "speaks", lambda: False)
    assert run(*WORDS, "--set", "lr=0.1") == 1
    assert capsys.readouterr() == ("", "")
    assert not list(Path("runs").glob("*"))


def test_settings_may_need_what_is_swept(tmp_path: Path) -> None:
    sweep = begun(tmp_path, "optimizer=sgd", "lr=0.1,0.2", training={"epochs": 1, "momentum": 0.9})
    assert sweep.spec.models == ("linear",)
    assert sweep.spec.config({"optimizer": "sgd", "lr": 0.1}).training.momentum == 0.9


def test_a_run_s_name_is_not_taken_and_a_sweep_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "config.toml").touch()
    assert "exists already, and is no sweep" in refused(capsys, *WORDS, "--set", "lr=0.1", "--name", "train")
    (tmp_path / "runs" / "train" / "config.toml").unlink()
    begun(tmp_path / "runs", "lr=0.01,0.02")
    for command in ("resume", "evaluate", "doctor"):
        assert "runs/s is a sweep, not a run" in refused(capsys, command, "runs/s")
    assert "no runs in runs" in refused(capsys, "evaluate", "last")


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("kilonet.sweep")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'kilonet[sweep]'" in refused(capsys, *WORDS, "--set", "lr=0.1")


def test_what_is_not_kilonet_s_in_the_database_is_refused(tmp_path: Path) -> None:
    sweep = begun(tmp_path / "runs", "lr=0.01,0.02")
    good = sweep.spec.document()
    for damaged in ({**good, "identity": "0" * 64}, {**good, "texts": ["x"]}, {**good, "settings": 3}, {"a": 1}, 7):
        with pytest.raises(RunError, match="give another --name"):
            spec.from_document(damaged)
    assert spec.from_document(json.loads(json.dumps(good))) == sweep.spec


def test_a_file_that_only_the_database_names_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit('imported')")
    found = replace(begun(tmp_path / "runs", "lr=0.01,0.02").spec, texts=(f"model={tmp_path}/net.py:Net,linear",))
    with pytest.raises(ModelError, match="not imported because a database says so"):
        found.check_files({})


def test_a_text_from_another_machine_is_no_formula(tmp_path: Path) -> None:
    found = Trial(0, "complete", {"lr": 0.1}, 0.5, None, 1.0, 650, 1, 1.0, "=1+1", None)
    text = to_csv([found], begun(tmp_path / "runs", "lr=0.01,0.1").spec)
    assert text.splitlines()[1] == "0,complete,0.1,0.5,,1.0,650,1,1.0,'=1+1,"


def test_importance_finds_the_axis_that_matters(tmp_path: Path) -> None:
    space = begun(tmp_path / "runs", "lr=1e-3..1:log", "weight-decay=0.0..1").spec
    found = [
        Trial(n, "complete", {"lr": 10 ** (-3 + n % 7 / 2), "weight_decay": n % 5 / 5}, 0.5 + 0.05 * (n % 7), None, 1.0,
              650, 1, 1.0, "here", None)
        for n in range(35)
    ]  # fmt: skip
    shares = importances(found, space)
    assert shares["lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(found[:5], space) == {}
    assert ranked(found)[0].number == 6
    assert trials(standing(begun(tmp_path / "runs", "lr=1e-3..1:log", "weight-decay=0.0..1"))) == []


@pytest.mark.full
def test_a_winner_that_was_interrupted_is_finished_by_the_same_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, "--set", "lr=0.02,0.05", "--name", "s")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(winner, "finish", interrupted)
        assert run(*words) == 130
    assert capsys.readouterr().err.splitlines()[0] == "error: interrupted"
    found = spoken(capsys, *words)["winner"]
    assert (found["state"], found["readings"], found["here"]) == ("measured", 1, True)
