"""Committees as runs: trained, killed and resumed, damaged and mended, and taken by every command as one model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kilonet as kn
from kilonet import cli, config, measuring, seals, seeds, shelf, world
from kilonet.engines import native
from kilonet.history import Epoch
from kilonet.run import plan
from kilonet.rundir import Run

THREE = config.resolve(
    {"source": "digits", "model": "tutorial-cnn", "committee": 3},
    {"epochs": 2, "engine": "native", "threads": 1, "seed": 4},
)
FILES = {
    "config.toml", "metrics.json", "summary.json", "predictions.npz", "predictions.png", "confusion_matrix.png",
    "mistakes.png", "curves.png", "weights", "state", "seed-4", "seed-5", "seed-6",
}  # fmt: skip


def start(project: Path, chosen: config.Config = THREE, name: str | None = None) -> Run:
    return seeds.start_committee(plan(chosen), project, name)


def finish(project: Path, chosen: config.Config = THREE, name: str | None = None) -> Run:
    found = start(project, chosen, name)
    seeds.finish_seeds(found, model_file=chosen.model if ".py" in chosen.model else None)
    return found


def results(found: Run) -> dict[str, Any]:
    """All that a committee gives, times aside."""
    files = {str(p.relative_to(found.path)): p.read_bytes() for p in found.path.glob("*.*")}
    files |= {str(p.relative_to(found.path)): p.read_bytes() for p in found.path.glob("**/weights/*")}
    return {**files, "metrics.json": {**found.metrics(), "seconds": 0}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finish(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def found(made: Run, tmp_path: Path) -> Run:
    """A finished committee of the test's own."""
    shutil.copytree(made.path, tmp_path / "runs" / "train")
    return Run(tmp_path / "runs" / "train")


def command(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    told = capsys.readouterr()
    assert ended.value.code == status, told.err
    return told.out, told.err


def spoken(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(command(capsys, *words, "--json")[0])


def test_a_committee_holds_what_it_should(made: Run) -> None:
    assert {p.name for p in made.path.iterdir()} == FILES
    assert [p.name for p in (made.path / "weights").iterdir()] == ["committee.safetensors"]
    metrics = made.metrics()
    of_each = [Run(made.path / f"seed-{seed}").metrics() for seed in (4, 5, 6)]
    assert metrics["parameters"] == sum(one["parameters"] for one in of_each)
    assert metrics["seconds"] == pytest.approx(sum(one["seconds"] for one in of_each))
    assert [metrics[key] for key in ("committee", "epochs", "weights", "engine")] == [3, 2, "best", "native"]
    assert made.summary()["test"]["accuracy"]["values"] == [one["test"]["accuracy"] for one in of_each]
    assert made.finished()
    assert not made.damaged()


def test_it_is_measured_by_the_mean_of_its_members_probabilities(made: Run) -> None:
    whole = np.load(made.path / "predictions.npz")
    of_each = [np.load(made.path / f"seed-{seed}" / "predictions.npz") for seed in (4, 5, 6)]
    for part in ("val", "test"):
        labels, mean = whole[f"{part}_labels"], np.mean([one[f"{part}_probabilities"] for one in of_each], axis=0)
        assert all(np.array_equal(one[f"{part}_labels"], labels) for one in of_each)
        np.testing.assert_allclose(whole[f"{part}_probabilities"], mean, atol=1e-6)
        figures, n = made.metrics()[part], len(labels)
        assert (figures["correct"], figures["n"]) == (int((mean.argmax(1) == labels).sum()), n)
        assert figures["loss"] == pytest.approx(-np.log(mean[np.arange(n), labels]).mean(), rel=1e-5)


def test_equal_committees_give_equal_bytes(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "cores", lambda: 2)
    found, told = start(tmp_path, replace(THREE, training=replace(THREE.training, threads=2))), set[int]()
    seeds.finish_seeds(found, beside=lambda seed, _: told.add(seed))
    assert told == {4, 5, 6}
    one, other = results(found), results(made)
    assert one.pop("config.toml") != other.pop("config.toml")
    assert one == other


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["training", "weights", "measured", "seal"])
def test_a_killed_committee_ends_with_the_same_bits(
    at: str, made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = start(tmp_path, replace(THREE, training=made.config.training, save_every=0.0 if at == "training" else 30.0))

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    def watch(_: Any, seed: int) -> Any:
        steps = iter(range(1, 30))
        return (lambda _: next(steps, None) or killed()) if at == "training" and seed == 5 else lambda _: None

    with monkeypatch.context() as patch:
        patch.setattr(native, "SECONDS_A_CALL", 0)
        if at == "weights":
            patch.setattr(kn.Committee, "of", killed)
        elif at == "measured":
            patch.setattr(measuring, "write_metrics", killed)
        elif at == "seal":
            patch.setattr(seals, "seal", lambda path: killed() if path == found.path else seal(path))
        with pytest.raises(Killed):
            seeds.finish_seeds(found, watch)
    assert not found.finished()
    assert kn.resume(found.path).finished()
    assert {**results(found), "config.toml": b""} == {**results(made), "config.toml": b""}


seal = seals.seal


class Dying(seeds._Work):
    """Kills its process after an epoch of seed 5, each time."""

    def __call__(self, seed: int, tell: Any) -> seeds.Ended:
        def told(value: Any) -> None:
            if seed == 5 and isinstance(value, Epoch):
                os.kill(os.getpid(), signal.SIGKILL)
            tell(value)

        return super().__call__(seed, told)


def test_a_member_whose_process_is_killed_is_left_out_until_resume(
    made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "cores", lambda: 2)
    found = start(tmp_path, replace(THREE, training=replace(THREE.training, threads=2), save_every=0.0))
    monkeypatch.setattr(seeds, "_Work", Dying)
    assert seeds.finish_seeds(found, beside=lambda _, __: None)["failed"] == ["seed-5"]
    assert found.metrics()["committee"] == 2
    monkeypatch.undo()
    kn.resume(found.path)
    one, other = (results(run) for run in (found, made))
    assert {**one, "config.toml": b""} == {**other, "config.toml": b""}


def test_a_finished_committee_is_left_alone(found: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in found.path.rglob("*") if path.is_file()}
    before.pop(found.path / "state" / ".lock")
    monkeypatch.setattr(measuring, "evaluate", lambda *_: pytest.fail("the test part was read again"))
    kn.resume(found.path)
    assert {path: path.stat().st_mtime_ns for path in before} == before


DAMAGED = [
    "weights/committee.safetensors", "metrics.json", "predictions.npz", "state/split.npz", "state/finished.json",
    "summary.json", "seed-5/weights/best.safetensors", "seed-5/metrics.json",
]  # fmt: skip


@pytest.mark.parametrize("how", ["flip", "gone"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_noticed_and_mended(
    name: str, how: str, found: Run, made: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = found.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink() if how == "gone" else path.write_bytes(content)
    if (name, how) != ("state/finished.json", "gone"):
        told = command(capsys, "doctor", str(found.path))[0]
        assert f"{path} is damaged or gone" in told or (how == "gone" and name not in found.damaged())
        assert f"{path} is damaged or gone: it is made again" in command(capsys, "resume", str(found.path))[1]
    kn.resume(found.path)
    assert results(found) == results(made)
    assert not found.damaged()
    assert found.finished()
    assert (found.path / "state" / "split.npz").read_bytes() == (made.path / "state" / "split.npz").read_bytes()


def test_damaged_weights_are_never_used(found: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = found.path / "weights" / "committee.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is damaged, or not this run's" in command(capsys, "evaluate", str(found.path), status=1)[1]
    shutil.copy(path, alone := found.path.parent / "alone.safetensors")
    assert "checksum does not match" in command(capsys, "predict", str(alone), "--data", "digits", status=1)[1]


@pytest.mark.parametrize("folder", ["state", "weights", "seed-6"])
def test_a_folder_that_is_gone_is_made_again(folder: str, found: Run, made: Run) -> None:
    shutil.rmtree(found.path / folder)
    kn.resume(found.path)
    assert results(found) == results(made)
    assert found.finished()


def test_a_member_that_trains_anew_unseals_its_committee(found: Run) -> None:
    shutil.rmtree(found.path / "seed-6")

    def watch(_: Any, __: int) -> Any:
        raise Killed

    with pytest.raises(Killed):
        seeds.finish_seeds(found, watch)
    assert not found.finished()


def test_more_epochs_are_those_of_a_committee_that_had_them_at_once(found: Run, tmp_path: Path) -> None:
    kn.resume(found.path, epochs=3)
    longer = replace(THREE, training=replace(found.config.training, epochs=3))
    assert found.metrics()["epochs"] == 3
    assert results(found) == results(finish(tmp_path / "longer", longer))


def test_changed_data_is_refused(tmp_path: Path) -> None:
    data = kn.load("digits")
    np.savez(tmp_path / "own.npz", images=data.images[:300, 0], labels=data.labels[:300])
    found = finish(tmp_path / "runs", replace(THREE, source=str(tmp_path / "own.npz")))
    (found.path / "metrics.json").unlink()
    np.savez(tmp_path / "own.npz", images=data.images[300:600, 0], labels=data.labels[300:600])
    with pytest.raises(kn.RunError, match="has changed since"):
        kn.resume(found.path)


NET = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        self.wild = torch.initial_seed() in {wild}

    def forward(self, images):
        return super().forward(images.flatten(1)) * (float("nan") if self.wild else 1.0)
"""


ANY = replace(THREE, training=replace(THREE.training, engine="auto"))
"""For nets that the native engine does not know."""


def own_net(folder: Path, wild: tuple[int, ...]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET.replace("{wild}", str(wild)))
    return f"{folder / 'net.py'}:Net"


def test_a_member_that_went_wrong_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = own_net(tmp_path / "net", (5,))
    monkeypatch.chdir(tmp_path)
    words = ("train", "digits", "--model", net, "--committee", "3", "--seed", "4", "--epochs", "2", "--name", "two")
    out, err = command(capsys, *words)
    assert "seed-5: the training went wrong in epoch 1" in err
    assert out.startswith(
        "left out: seed-5 (it went wrong in epoch 1: its loss was nan); the committee is of the other 2\n"
    )
    found = Run(Path("runs/two"))
    assert (found.metrics()["committee"], found.summary()["failed"]) == (2, ["seed-5"])
    assert found.metrics()["parameters"] == 2 * 650
    assert "seed-5 went wrong" in command(capsys, "resume", "two", "--model", net)[1]


def test_a_committee_of_which_all_went_wrong_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(kn.RunError, match="went wrong"):
        finish(tmp_path, replace(ANY, model=own_net(tmp_path / "net", (4, 5, 6))))
    with pytest.raises(kn.RunError, match="went wrong"):
        kn.resume(tmp_path / "train", model_file=own_net(tmp_path / "net", ()))


def test_a_model_from_a_file_is_run_only_when_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = own_net(tmp_path / "net", ())
    found = finish(tmp_path, replace(ANY, model=net))
    weights = str(found.path / "weights" / "committee.safetensors")
    assert spoken(capsys, "evaluate", str(found.path), "--model", net)["n"] == 269
    assert len(spoken(capsys, "predict", weights, "--data", "digits", "--model", net)) == 9
    for words in (("evaluate", str(found.path)), ("predict", weights, "--data", "digits")):
        assert "--model path/to/file.py:ClassName" in command(capsys, *words, status=1)[1]
    begun = start(tmp_path, replace(ANY, model=net), "begun")
    assert "--model path/to/file.py:ClassName" in command(capsys, "resume", str(begun.path), status=1)[1]
    assert not (begun.path / "seed-4").exists()


@pytest.mark.parametrize("more", [(), ("--preset", "tutorial-cnn"), ("--split", "full")])
def test_train_tells_of_one_model(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = () if "--preset" in more else ("--model", "linear")
    words = ("train", "digits", *model, *more, "--committee", "2", "--epochs", "1")
    found = spoken(capsys, *words, "--name", "one")
    assert (found["run"], found["committee"], len(found["members"]["runs"])) == ("runs/one", 2, 2)
    assert ("val" in found, "test" in found) == ("full" not in more, "--preset" not in more)
    assert found["weights"] == ("last" if more else "best")
    lines = command(capsys, *words, "--name", "two")[0].splitlines()
    assert lines[0].startswith(f"committee of 2 {found and Run(Path('runs/one')).config.model} on digits: ")
    assert "parameters, 1 epochs each, " in lines[0]
    assert sum(line.startswith("     members  ") for line in lines) == ("val" in found) + ("test" in found)
    assert lines[-1] == "run       runs/two"
    again = spoken(capsys, "train", "--config", "runs/one/config.toml", "--name", "three")
    assert again["members"] == found["members"]
    one, three = (Path("runs", name, "weights", "committee.safetensors") for name in ("one", "three"))
    assert one.read_bytes() == three.read_bytes()


def test_every_command_takes_it_as_one(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, project = str(made.path), ("--project", str(made.path.parent))
    measured = spoken(capsys, "evaluate", path)
    assert {key: measured[key] for key in made.metrics()["test"]} == made.metrics()["test"]
    assert spoken(capsys, "evaluate", "last", *project)["run"] == path
    assert "are among those" in spoken(capsys, "evaluate", path, "--data", "digits")["notes"][0]
    shutil.copy(made.path / "weights" / "committee.safetensors", tmp_path / "alone.safetensors")
    by_run, by_file = (
        spoken(capsys, "predict", run, "--data", "digits", "--index", "0-20")
        for run in (path, str(tmp_path / "alone.safetensors"))
    )
    assert by_run == by_file
    assert shelf.single(made) == made
    plotted = spoken(capsys, "plot", path, "--show", str(tmp_path / "curves.png"))
    assert [run["run"] for run in plotted["runs"]] == [str(made.path / f"seed-{seed}") for seed in (4, 5, 6)]
    weights = str(made.path / "weights" / "committee.safetensors")
    for whole in (path, weights):
        words = ("plot", whole, f"{path}/seed-4", "--show", str(tmp_path / "compared.png"))
        [pair] = spoken(capsys, *words)["comparisons"]["pairs"]
        of_both = made.metrics()["val"]["accuracy"], Run(made.path / "seed-4").metrics()["val"]["accuracy"]
        assert (pair["test"], pair["accuracy_a"], pair["accuracy_b"]) == ("mcnemar", *of_both)
    examined = spoken(capsys, "doctor", path)["runs"]
    assert [run["run"] for run in examined] == [path, *(str(made.path / f"seed-{seed}") for seed in (4, 5, 6))]
    assert {finding["name"] for finding in examined[0]["findings"]} <= {"dead-classes", "collapse"}
    assert len(spoken(capsys, "doctor", weights)["runs"]) == 4


def test_the_doctor_reads_its_scores(found: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = found.path / "predictions.npz"
    arrays = dict(np.load(path))
    arrays["test_probabilities"] = np.roll(arrays["test_probabilities"], 1, axis=1)
    np.savez(path, **arrays)
    found.seal()
    names = [finding["name"] for finding in spoken(capsys, "doctor", str(found.path))["runs"][0]["findings"]]
    assert "test-contradicts" in names


def test_an_unfinished_committee_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = start(tmp_path)
    for words in (("evaluate",), ("predict", "--data", "digits")):
        told = command(capsys, words[0], str(found.path), *words[1:], status=1)[1]
        assert f"error: {found.path} has no weights yet\nhint: train it: kilonet resume {found.path}\n" in told
    for word in ("plot", "doctor"):
        assert "holds none of its runs yet" in command(capsys, word, str(found.path), status=1)[1]


def test_a_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "digits", "--model", "linear", "--committee", "3", "--dry-run")
    found = spoken(capsys, *words)
    assert (found["parameters"], found["config"]["committee"]) == (1950, 3)
    assert "1,950 parameters in a committee of 3;" in command(capsys, *words)[0]
    assert not list(tmp_path.iterdir())


def test_it_does_not_go_with_seeds() -> None:
    with pytest.raises(kn.ConfigError, match="seeds = 2 and committee = 3 won't do together") as refused:
        replace(THREE, seeds=2)
    assert "train one with --seed 4, the next with --seed 7" in str(refused.value.hint)


def test_a_run_of_one_net_is_the_same_run_as_before_there_were_committees() -> None:
    single = replace(THREE, committee=1)
    settings = asdict(single)
    del settings["committee"], settings["save_every"]
    for name in ("epochs", "least_images", "elastic"):  # the last two are younger, too
        del settings["training"][name]
    before = hashlib.sha256(json.dumps([settings, {}], sort_keys=True).encode()).hexdigest()
    assert seals.identity(single, {}) == before
    assert seals.identity(THREE, {}) != before
