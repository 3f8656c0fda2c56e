"""Runs compared: with real ones from the command line, and with nets whose results are known."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest, ttest_ind

from kilonet import cli, files, plots, seals
from kilonet.comparing import Comparison, Net, Thing, compare_runs, compare_things
from kilonet.history import Epoch, History
from kilonet.rundir import Run

LINEAR = ("--model", "linear", "--epochs", "2", "--threads", "1")
TRAININGS = {
    "slow": (*LINEAR, "--lr", "0.0002"),
    "quick": (*LINEAR, "--lr", "0.01"),
    "other-images": (*LINEAR, "--seed", "5"),
    "full": (*LINEAR, "--split", "full"),
    "no-test": (*LINEAR, "--split", "70/30"),
    "slow-seeds": (*LINEAR, "--lr", "0.0002", "--seeds", "3"),
    "quick-seeds": (*LINEAR, "--lr", "0.01", "--seeds", "2"),
    "committee": (*LINEAR, "--lr", "0.0002", "--committee", "2"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("comparing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(plots, "save", lambda _, path: files.write(Path(path), b"a figure"))
        for name, words in TRAININGS.items():
            with pytest.raises(SystemExit) as left:
                cli.main(["train", "digits", *words, "--name", name])
            assert not left.value.code
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main(["plot", *words])
    assert not left.value.code
    return capsys.readouterr().out


def spoken(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(said(capsys, *words, "--json"))["comparisons"]


def right(run: Path, part: str = "val") -> np.ndarray:
    with np.load(run / "predictions.npz") as kept:
        found: np.ndarray = kept[f"{part}_probabilities"].argmax(1) == kept[f"{part}_labels"]
        return found


def test_two_runs_are_paired_by_example(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = right(home / "runs" / "slow"), right(home / "runs" / "quick")
    b, c = int((one & ~other).sum()), int((~one & other).sum())
    pair = spoken(capsys, "slow", "quick")["pairs"][0]
    assert (pair["a"], pair["b"], pair["test"]) == ("slow", "quick", "mcnemar")
    assert pair["nets"][0]["paired"]["only_a"] == b
    assert pair["p"] == pair["p_holm"] == pytest.approx(binomtest(b, b + c, 0.5).pvalue)
    assert pair["difference"] == pytest.approx(one.mean() - other.mean())
    assert pair["interval"][0] < pair["difference"] < pair["interval"][1] < 0
    assert (pair["verdict"], pair["better"]) == ("more than noise", "quick")
    back = spoken(capsys, "quick", "slow")["pairs"][0]
    assert back["difference"] == -pair["difference"]
    assert (back["better"], back["p"]) == ("quick", pytest.approx(pair["p"]))


def test_two_sets_are_compared_over_their_seeds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = home / "runs"
    accuracies = [[right(p).mean() for p in sorted((runs / n).glob("seed-*"))] for n in ("slow-seeds", "quick-seeds")]
    pair = spoken(capsys, "slow-seeds", "quick-seeds")["pairs"][0]
    expected = ttest_ind(*accuracies, equal_var=False)
    assert pair["test"] == "welch"
    assert pair["over_seeds"]["a"] == pytest.approx(accuracies[0])
    assert pair["p"] == pytest.approx(expected.pvalue)
    assert pair["interval"] == pytest.approx(list(expected.confidence_interval(0.95)))
    assert [(net["a"], net["b"]) for net in pair["nets"]] == [("seed-0", "seed-0"), ("seed-1", "seed-1")]
    assert "3 against 2 seeds (Welch)" in said(capsys, "slow-seeds", "quick-seeds")


def test_three_things_are_compared_in_pairs_and_corrected(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spoken(capsys, "slow", "quick", "slow-seeds")
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [
        ("slow", "quick"), ("slow", "slow-seeds"), ("quick", "slow-seeds"),
    ]  # fmt: skip
    assert [p["test"] for p in found["pairs"]] == ["mcnemar", "one-against-seeds", "one-against-seeds"]
    p = sorted(p["p"] for p in found["pairs"])
    steps = [3 * p[0], 2 * p[1], p[2]]
    expected = [min(1, max(steps[: i + 1])) for i in range(3)]
    assert sorted(p["p_holm"] for p in found["pairs"]) == pytest.approx(expected)
    assert (found["correction"], found["corrected_for"]) == ("Holm", 3)
    assert len(found["pairs"][1]["nets"]) == 3
    assert "corrected for 3 comparisons (Holm)" in said(capsys, "slow", "quick", "slow-seeds")


def rewritten(run: Path, edit: dict[str, bytes]) -> None:
    """Other bytes as arrays of a run's predictions, and its seal renewed."""
    path = run / "predictions.npz"
    with zipfile.ZipFile(path) as opened:
        kept = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in (kept | edit).items():
            opened.writestr(name, content)
    Run(run).seal()


def test_only_validation_is_read_unless_the_test_set_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, named = spoken(capsys, "slow", "quick"), spoken(capsys, "slow", "quick", "--on", "test")
    assert (before["part"], named["part"]) == ("val", "test")
    one, other = right(home / "runs" / "slow", "test"), right(home / "runs" / "quick", "test")
    assert named["pairs"][0]["difference"] == pytest.approx(one.mean() - other.mean())
    for name in ("slow", "quick"):
        (home / "runs" / name / "metrics.json").write_text("not read")
        broken = {f"test_{array}.npy": b"not an array" for array in ("probabilities", "labels")}
        rewritten(home / "runs" / name, broken)
    assert spoken(capsys, "slow", "quick") == before
    refused = spoken(capsys, "slow", "quick", "--on", "test")
    assert refused["pairs"] == []
    assert set(refused["left_out"]) == {"slow", "quick"}


def test_runs_without_the_part(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "slow", "full")
    assert (
        told.count("full is not compared: runs/full has no validation part (the test set must be named: --on test)")
        == 1
    )
    assert "more than noise" in said(capsys, "quick", "full", "slow", "--on", "test")
    assert "no-test has no test part (leave out --on test)" in said(capsys, "slow", "no-test", "--on", "test")


def test_one_run_has_nothing_to_compare(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["plot", "slow", "--on", "test"])
    assert left.value.code == 1
    assert "nothing to compare" in capsys.readouterr().err
    assert "comparisons" not in json.loads(said(capsys, "slow", "--json"))


@pytest.mark.parametrize("other", ["other-images", "no-test"])
def test_different_images_are_never_paired(home: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    pair = spoken(capsys, "slow", other)["pairs"][0]
    assert (pair["test"], pair["p"], pair["verdict"], pair["nets"]) == (None, None, "no comparison", [])
    assert "different validation images" in pair["why"]
    assert "different validation images" in said(capsys, "slow", other)


def test_what_can_not_be_read_is_said_and_the_curves_drawn(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = home / "runs"
    (runs / "slow" / "state" / "finished.json").unlink()
    flipped = bytearray((runs / "quick" / "predictions.npz").read_bytes())
    flipped[90] ^= 1
    (runs / "quick" / "predictions.npz").write_bytes(flipped)
    (runs / "no-test" / "predictions.npz").unlink()
    config = (runs / "other-images" / "config.toml").read_text()
    (runs / "other-images" / "config.toml").write_text(config.replace("sha256 = ", "sha256 =  "))
    found = spoken(capsys, "slow", "quick", "no-test", "other-images", "slow-seeds", "--show", "drawn.png")
    assert found["pairs"] == []
    reasons = {"slow": "is not done", "quick": "damaged", "no-test": "is gone", "other-images": "edited or damaged"}
    assert set(found["left_out"]) == set(reasons)
    assert all(reason in found["left_out"][name] for name, reason in reasons.items())
    with Image.open(home / "drawn.png") as drawn:
        assert drawn.size == (1140, 456)


@pytest.mark.parametrize(
    ("array", "content"),
    [
        ("val_labels", np.zeros(9, np.int64)),
        ("val_labels", np.zeros(270)),
        ("val_probabilities", np.zeros(270)),
        ("val_probabilities", np.zeros((270, 0))),
        ("val_probabilities", np.full((270, 10), "a")),
    ],
)
def test_arrays_that_are_no_predictions(
    home: Path, capsys: pytest.CaptureFixture[str], array: str, content: np.ndarray
) -> None:
    np.save(home / "array.npy", content)
    rewritten(home / "runs" / "slow", {f"{array}.npy": (home / "array.npy").read_bytes()})
    assert "damaged" in spoken(capsys, "slow", "quick")["left_out"]["slow"]


@pytest.mark.parametrize("part", ["3", "[]", "{}", "{n = 9}", "{n = [], sha256 = 1}"])
def test_a_config_that_names_no_images(home: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    path = home / "runs" / "slow" / "config.toml"
    _, text = path.read_text().split("\n", 1)
    text = f"{text.split('[parts.', 1)[0]}\n[parts]\nval = {part}\n\n[versions]{text.split('[versions]', 1)[1]}"
    seal = f"{seals._SEAL}{hashlib.sha256(text.encode()).hexdigest()}"
    path.write_text(f"{seal}\n{text}")
    assert Run(path.parent).untouched_config()
    assert "validation part" in spoken(capsys, "slow", "quick")["left_out"]["slow"]


def test_predictions_of_fewer_images_than_the_part_has(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {}
    with np.load(home / "runs" / "slow" / "predictions.npz") as kept:
        for name in ("val_probabilities", "val_labels"):
            np.save(home / "array.npy", kept[name][:9])
            short[f"{name}.npy"] = (home / "array.npy").read_bytes()
    rewritten(home / "runs" / "slow", short)
    assert "not those of its validation part" in spoken(capsys, "slow", "quick")["left_out"]["slow"]


def test_seeds_that_are_not_done_are_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 2):
        (home / "runs" / "slow-seeds" / f"seed-{seed}" / "state" / "finished.json").unlink()
    pair = spoken(capsys, "slow-seeds", "quick-seeds")["pairs"][0]
    assert pair["test"] == "one-against-seeds"
    assert pair["over_seeds"]["a"] == [right(home / "runs" / "slow-seeds" / "seed-1").mean()]
    (home / "runs" / "slow-seeds" / "seed-1" / "state" / "finished.json").unlink()
    assert "no seed" in spoken(capsys, "slow-seeds", "quick-seeds")["left_out"]["slow-seeds"]


def test_a_run_against_itself(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("slow", "slow-seeds"):
        pair = spoken(capsys, name, name)["pairs"][0]
        assert (pair["p"], pair["difference"], pair["better"]) == (1, 0, None)
    told = said(capsys, "slow", "slow")
    assert "too little to say: no image tells them apart" in told


def test_a_weight_file_is_compared_if_it_was_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = home / "runs" / "slow" / "weights"
    assert spoken(capsys, str(weights / "best.safetensors"), "quick")["pairs"][0]["test"] == "mcnemar"
    left_out = spoken(capsys, str(weights / "last.safetensors"), "quick")["left_out"]
    assert "only best.safetensors" in left_out["slow"]


def test_a_committee_is_one_net_and_compared_once_it_is_done(home: Path) -> None:
    committee = home / "runs" / "committee"
    named = [("whole", Run(committee)), ("quick", Run(home / "runs" / "quick"))]
    found = compare_runs(named)
    assert found.left_out == {}
    assert found.pairs[0].test == "mcnemar"
    assert found.pairs[0].accuracy_a == right(committee).mean() != right(committee / "seed-1").mean()
    Run(committee).unseal()
    assert "is not done" in compare_runs(named).left_out["whole"]


def test_the_figure_grows_by_a_panel(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heights = []
    for names in (["slow"], ["slow", "quick"], ["slow", "quick", "slow-seeds"]):
        said(capsys, *names, "--show", "x.png")
        with Image.open(home / "x.png") as drawn:
            heights.append(drawn.size[1])
    assert heights[0] == 456
    assert heights[0] + 100 < heights[1] < heights[2]


def test_a_figure_of_very_many_differences_stays_in_bounds() -> None:
    many = [plots.Difference(f"{i}", 0.01, (-0.01, 0.03), False, "p = 0.5") for i in range(300)]
    history = History([Epoch(1, 1.0, 1.0, 0.5, 0.1, 1.0)], "a")
    assert plots.comparison([("a", [history])], many, "points").get_size_inches()[1] < 25


def thing(name: str, *rights: list[int], first: int = 0) -> Thing:
    """Nets with such results over the same images."""
    labels = np.arange(len(rights[0]))
    nets = [Net(f"seed-{first + i}", first + i, np.array(r, bool), labels, "same") for i, r in enumerate(rights)]
    return Thing(name, tuple(nets))


def test_equal_labels_do_not_make_equal_images() -> None:
    one, other = thing("a", [1] * 20), thing("b", [0] * 20)
    assert compare_things(one, other).test == "mcnemar"
    moved = Thing("b", (replace(other.nets[0], images="others"),))
    relabelled = Thing("b", (replace(other.nets[0], labels=np.arange(20)[::-1]),))
    for changed in (moved, relabelled):
        found = compare_things(one, changed)
        assert (found.test, found.verdict) == (None, "no comparison")
        assert "different validation images (20 and 20)" in found.why


def pairs(found: Comparison) -> list[tuple[str, str]]:
    return [(net.a, net.b) for net in found.nets]


def test_nets_meet_their_like() -> None:
    net = [1, 1, 0, 1]
    three = thing("a", net, net, net)
    assert pairs(compare_things(three, thing("b", net, net, first=1))) == [("seed-1", "seed-1"), ("seed-2", "seed-2")]
    assert pairs(compare_things(three, thing("b", net, net, first=7))) == [("seed-0", "seed-7"), ("seed-1", "seed-8")]
    assert len(pairs(compare_things(three, thing("b", net, first=2)))) == 3


def test_net_pairs_of_two_sets_are_corrected_for_their_number() -> None:
    """Seven against none is p = 2/128 by itself, twice that for two; six against none is 2/64."""
    good, seven, six = [1] * 20, [0] * 7 + [1] * 13, [0] * 6 + [1] * 14
    found = compare_things(thing("a", good, good), thing("b", seven, six))
    assert [net.paired.p for net in found.nets] == pytest.approx([2 / 128, 2 / 64])
    assert [net.p_holm for net in found.nets] == pytest.approx([4 / 128, 4 / 128])
    assert [net.better for net in found.nets] == ["a", "a"]
    three = compare_things(thing("a", good, good, good), thing("b", six, six, six))
    assert [net.better for net in three.nets] == [None] * 3
