"""The commands as a person types them, from data to figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import kilonet as kn
from kilonet import bench, cli, display
from kilonet.config import read_toml

FILES = {
    "config.toml", "results.csv", "metrics.json", "predictions.npz", "curves.png", "predictions.png",
    "confusion_matrix.png", "mistakes.png", "weights", "state",
}  # fmt: skip


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def spoken(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    path = home / "runs" / "linear"
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            assert run("train", "--model", "linear", "--epochs", "3", "--name", "linear") == 0
    return path


def test_a_run_holds_what_it_should(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == FILES | {"weights.png"}
    assert {p.name for p in (trained / "weights").iterdir()} == {"best.safetensors", "last.safetensors"}
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(trained / name) as image:
                assert min(image.size) > 150
    rows = list(csv.DictReader((trained / "results.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds"]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics) == {"parameters", "epochs", "seconds", "weights", "engine", "val", "test"}
    assert set(metrics["test"]) == {"loss", "accuracy", "correct", "n", "interval"}
    assert metrics["parameters"] == 7850
    with np.load(trained / "predictions.npz", allow_pickle=False) as kept:
        right = (kept["test_probabilities"].argmax(1) == kept["test_labels"]).sum()
    assert right == metrics["test"]["correct"]


def test_weights_name_nothing_but_the_model(trained: Path) -> None:
    with safe_open(trained / "weights" / "best.safetensors", "pt") as file:
        assert list(file.metadata()) == ["kilonet"]
        described = json.loads(file.metadata()["kilonet"])
        assert set(file.keys()) == {"weight", "bias"}
    assert described["std"] == [256.0]
    assert list(described) == sorted(described)


def test_the_best_epochs_weights_are_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "digits", "--model", "linear", "--lr", "3", "--epochs", "8", "--name", "jumpy")
    measured = spoken(capsys, *words)["val"]["accuracy"]
    rows = list(csv.DictReader((home / "runs" / "jumpy" / "results.csv").read_text().splitlines()))
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert accuracies[-1] < max(accuracies)
    assert measured == max(accuracies)


def test_equal_runs_give_equal_bytes(trained: Path, home: Path) -> None:
    assert run("train", "--config", str(trained / "config.toml"), "--name", "again") == 0
    for name in ("best", "last"):
        one, other = (p / "weights" / f"{name}.safetensors" for p in (trained, home / "runs" / "again"))
        assert one.read_bytes() == other.read_bytes()


def test_evaluate_reads_the_runs_own_test_set(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "evaluate", str(trained))
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {key: found[key] for key in metrics["test"]} == metrics["test"]
    assert sum(map(sum, found["confusion"])) == found["n"] == 750
    assert found["notes"] == []


def test_evaluate_says_when_images_were_seen(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = spoken(capsys, "evaluate", "linear", "--data", "mnist-5k")["notes"]
    assert len(notes) == 2
    assert notes[0].startswith("3,500 of these 5,000 images")
    assert notes[1].startswith("750 of these 5,000 images")


def test_weights_alone_are_enough_to_predict(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((trained / "weights" / "best.safetensors").read_bytes())
    data = kn.load("mnist-5k")
    Image.fromarray(data.images[2600, 0]).save(tmp_path / "five.png")
    np.save(tmp_path / "five.npy", data.images[2600, 0])
    by_row = spoken(capsys, "predict", str(trained), "--data", "mnist-5k", "--index", "2600")
    by_file = spoken(capsys, "predict", str(alone), str(tmp_path / "five.png"), str(tmp_path / "five.npy"))
    for prediction in by_file:
        assert prediction["probabilities"] == pytest.approx(by_row[0]["probabilities"], rel=1e-6)
    assert list(by_file[0]) == ["source", "class", "probability", "probabilities"]
    assert sum(by_file[0]["probabilities"].values()) == pytest.approx(1)


def test_predict_prints_and_draws_a_grid(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", "linear", "--data", "mnist-5k", "--index", "0-8", "--show", str(tmp_path / "g.png")) == 0
    printed = capsys.readouterr().out
    assert "mnist-5k[8]" in printed
    assert printed.rstrip().splitlines()[-1].count("(0)") == 3
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size[0] > 300


def test_last_is_the_newest_run(trained: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "digits", "--model", "tutorial-cnn", "--epochs", "1") == 0
    assert run("train", "digits", "--model", "kilo-4k", "--epochs", "1") == 0
    assert spoken(capsys, "evaluate")["run"] == "runs/train2"
    assert spoken(capsys, "predict", "last", "--data", "digits")[0]["source"] == "digits[0]"


def test_seeds_give_mean_and_spread(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "train", "digits", "--model", "linear", "--epochs", "2", "--seeds", "3", "--name", "three")
    runs = [home / "runs" / "three" / name for name in found["runs"]]
    single = [json.loads((path / "metrics.json").read_text())["test"]["accuracy"] for path in runs]
    assert found["test"]["accuracy"]["values"] == single
    assert found["test"]["accuracy"]["std"] == pytest.approx(np.std(single, ddof=1))
    tested = []
    for path in runs:
        with np.load(path / "state" / "split.npz") as kept:
            tested.append(kept["test_rows"])
    assert all(np.array_equal(rows, tested[0]) for rows in tested)
    assert json.loads((home / "runs" / "three" / "summary.json").read_text())["seeds"] == [0, 1, 2]
    assert spoken(capsys, "evaluate", "three")["accuracy"]["mean"] == pytest.approx(np.mean(single))
    plotted = spoken(capsys, "plot", "three", "--show", str(home / "three.png"))
    assert len(plotted["runs"]) == 3
    assert plotted["distributions"] == ["runs/three/distribution.png"]
    assert (home / "runs" / "three" / "distribution.png").read_bytes().startswith(b"\x89PNG")


def test_tutorial_preset_has_no_test_set(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "train", "--preset", "tutorial-cnn", "--epochs", "1", "--name", "tutorial")
    assert "test" not in found
    assert found["weights"] == "last"
    assert "class order" in found["notes"][0]
    config = read_toml(home / "runs" / "tutorial" / "config.toml")
    assert (config.split, config.training.batch_order, config.training.val_batch_size) == ("tutorial", "loader", 128)
    assert "no test part" in spoken(capsys, "evaluate", "tutorial")["notes"][0]


def test_full_split_measures_the_last_weights(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    found = spoken(capsys, "train", "digits", "--model", "linear", "--epochs", "2", "--split", "full", "--name", "all")
    assert found["weights"] == "last"
    assert "val" not in found
    assert found["test"]["n"] > 0


def test_dry_run_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(home.rglob("*"))
    found = spoken(capsys, "train", "--dry-run", "--name", "dry")
    assert found["first_loss"] > 1
    assert sorted(home.rglob("*")) == before


MODEL = """
from torch import nn
class Mine(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
"""


def test_a_model_from_a_file_is_run_only_when_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "mine.py").write_text(MODEL)
    assert run("train", "digits", "--model", "mine.py:Mine", "--epochs", "2", "--name", "mine") == 0
    capsys.readouterr()
    assert run("evaluate", "mine") == 1
    assert "--model path/to/file.py:ClassName" in capsys.readouterr().err
    assert run("train", "--config", "runs/mine/config.toml") == 1
    assert "not imported because a config says so" in capsys.readouterr().err
    assert spoken(capsys, "evaluate", "mine", "--model", "mine.py:Mine")["n"] == 269


def test_models_work_the_tutorials_cnn_through(capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "models", "tutorial-cnn")
    assert found["path"] == "28x28x1 -> 14x14x16 -> 7x7x16 -> 4x4x10 -> 1x10"
    assert found["parameters"] == 3930
    assert [layer["parameters"] for layer in found["layers"] if layer["parameters"]] == [160, 2320, 1450]
    convolutions = [layer for layer in found["layers"] if layer["kind"] == "Conv2d"]
    assert [layer["multiply_adds"] for layer in convolutions] == [14 * 14 * 16 * 9, 49 * 16 * 144, 16 * 10 * 144]
    assert convolutions[0]["formula"] == "floor((28 - 3 + 2*1) / 2) + 1 = 14"
    assert found["layers"][6]["formula"] == "floor((4 - 4 + 2*0) / 4) + 1 = 1"


def test_zoo_keeps_its_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {entry["model"]: entry["parameters"] for entry in spoken(capsys, "models")}
    assert (counts["linear"], counts["linear-from-scratch"], counts["tutorial-cnn"]) == (7850, 7850, 3930)
    assert counts["kilo-4k"] <= 3930
    assert counts["kilo-16k"] <= 16_384
    assert counts["kilo-100k"] <= 102_400


def test_kilo_4k_fits_a_microcontroller(capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "models", "kilo-4k")
    assert found["live_int8"] == max(12 * 12 * (16 + 24), 28 * 28 + 12 * 12 * 16) < 7_000


def test_data_lists_shows_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"mnist-5k", "digits", "mnist", "fashion-mnist", "kmnist", "emnist-balanced"} == set(spoken(capsys, "data"))
    found = spoken(capsys, "data", "mnist-5k", "--show", str(tmp_path / "all.png"))
    assert found["shape"] == [1, 28, 28]
    assert set(found["classes"].values()) == {500}
    assert run("data", "mnist-5k", "--index", "0", "--show", str(tmp_path / "one.png")) == 0
    assert "row 0 is 0" in capsys.readouterr().out
    with Image.open(tmp_path / "all.png") as grid, Image.open(tmp_path / "one.png") as one:
        assert grid.size[0] > 3 * one.size[0]


def test_bench_prints_ratios_and_conditions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {"start": 200.0, "data": 204.0, "peak": 230.0}
    monkeypatch.setattr(bench, "memory_alone", lambda *_: memory)
    found = spoken(capsys, "bench", "mnist-5k", "--repeats", "1", "--epochs", "1")
    names = [race["name"].split(",")[0] for race in found["results"]]
    assert names == ["tutorial-linear", *["tutorial-cnn"], *["kilo-4k"] * 2, *["kilo-16k"] * 2, *["tutorial-cnn"] * 2]
    assert all(
        race["ratio"] == pytest.approx(race["baseline_seconds"] / race["kilonet_seconds"]) for race in found["results"]
    )
    assert found["conditions"]["threads"] >= 1
    assert all(0 < race["share_of_peak"] < 1.2 for race in found["results"])
    assert all(race["memory"] == [memory, memory] for race in found["results"])
    assert "less the 200 that it began with" in found["conditions"]["MB"]
    assert "the data, once opened, are 4 of" in found["conditions"]["MB"]
    assert [race["compile_seconds"] for race in found["results"]] == [None] * 8
    display.races(found)
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("") + 1 :]
    assert len(table) == 9
    assert max(map(len, table)) <= 142
    assert all(row.split()[-2:] == ["30", "30"] for row in table[1:])


def test_a_side_of_a_race_is_measured_in_a_process_of_its_own() -> None:
    epoch_of_kilo_4k = 2
    memory = bench.memory_alone("mnist-5k", epoch_of_kilo_4k, 1)
    assert memory is not None
    assert 50 < memory["start"] <= memory["data"] < memory["peak"]
    assert 2 * 5000 * 784 / 1e6 * 5 / 7 < memory["peak"] - memory["start"] < 300


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["trian"], 2, 'Did you mean "train"?'),
        (["train", "--epoch", "3"], 2, "Did you mean --epochs?"),
        (["train", "--epochs", "abc"], 1, "--epochs"),
        (["train", "mnst"], 1, "did you mean mnist?"),
        (["train", "--model", "kilo-14k"], 1, "did you mean kilo-"),
        (["train", "--preset", "tutorial-cn"], 1, "did you mean tutorial-cnn?"),
        (["train", "--device", "cuda:7"], 1, "device 'cuda:7' is not there"),
        (["train", "--name", "../x"], 1, "would not stay in its folder"),
        (["evaluate", "nowhere"], 1, "no run nowhere"),
    ],
)
def test_mistakes_get_one_line(words: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == status
    error = capsys.readouterr().err
    assert told in error
    assert [line.split(":")[0] for line in error.splitlines()] in (["error"], ["error", "hint"])


@pytest.mark.full
def test_predict_prints_the_tutorials_grid(
    full_mnist: kn.ImageSet, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(full_mnist) == 70_000
    found = spoken(capsys, "predict", "linear", "--data", "mnist", "--index", "50000-50008")
    assert [p["true"] for p in found] == list("386964538")
    assert spoken(capsys, "data", "mnist", "--index", "0")["labels"] == {"0": "5"}
