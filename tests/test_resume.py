"""An interrupted run ends as one that was not: the same bits, whatever stopped it, and wherever."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kilonet as kn
from kilonet import checkpoint, cli, config, measuring, plots, run, rundir, seals, seeds, shelf
from kilonet.config import Config, Training
from kilonet.doctor import damage
from kilonet.engines import native
from kilonet.errors import ConfigError, DivergedError, ModelError, RunError
from kilonet.images import Splits
from kilonet.models import build
from kilonet.progress import Progress
from kilonet.rundir import Run
from kilonet.state import State, begin
from kilonet.train import advance

DROPOUT = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 10)
        )
"""

SETTINGS = [
    ("linear", {"optimizer": "sgd"}),
    ("linear-from-scratch", {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-3}),
    ("tutorial-cnn", {"optimizer": "adam", "batch_order": "loader"}),
    ("tutorial-cnn", {"optimizer": "adam", "batch_order": "loader", "engine": "torch", "rotate": 10.0}),
    ("kilo-4k", {"optimizer": "adamw", "weight_decay": 1e-2, "schedule": "one-cycle", "lr": 1e-2}),
    ("kilo-4k", {"optimizer": "sgd", "momentum": 0.9, "shift": 1.0, "elastic": 1.0, "label_smoothing": 0.1}),
    ("kilo-16k", {"optimizer": "adam", "weight_decay": 1e-4, "schedule": "one-cycle"}),
    ("dropout", {"optimizer": "adam"}),
    ("dropout", {"optimizer": "sgd", "momentum": 0.9, "batch_order": "loader", "schedule": "one-cycle"}),
]


@pytest.fixture(scope="module", autouse=True)
def a_step_a_call() -> Iterator[None]:
    """Trainings can be killed after any step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "SECONDS_A_CALL", 0)
        yield


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def splits() -> Splits:
    return kn.load("digits").split("40/30/30")


@pytest.fixture(scope="module")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(DROPOUT)
    return f"{path}:Net"


def whole(state: State) -> dict[str, Any]:
    """All of a state but its times, for comparison."""
    figures = {**state.figures(), "seconds": 0.0}
    figures["records"] = [{**record, "seconds": 0.0} for record in figures["records"]]
    return {**figures, **{name: value.numpy().tobytes() for name, value in state.tensors().items()}}


def fresh(name: str, splits: Splits, training: Training) -> State:
    return begin(build(name, splits.train, training.seed), len(splits.train), training)


def kill_after(steps: int, saved: int, progress: Progress) -> Any:
    """What to call after each step: the last checkpoint is written some steps before the end."""
    done = 0

    def after_step(state: State) -> None:
        nonlocal done
        done += 1
        if done == max(1, steps - saved):
            progress.save(state)
        if done == steps:
            raise Killed

    return after_step


def trained(name: str, splits: Splits, training: Training) -> dict[str, Any]:
    state = fresh(name, splits, training)
    list(advance(state, splits, training))
    return whole(state)


@pytest.mark.parametrize(("model", "chosen"), SETTINGS, ids=lambda value: value if isinstance(value, str) else "")
def test_resumed_is_uninterrupted(
    model: str, chosen: dict[str, Any], splits: Splits, net_file: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = net_file if model == "dropout" else model
    training = Training(epochs=3, batch_size=64, seed=3, threads=1, **chosen)
    expected = trained(name, splits, training)

    @settings(max_examples=12)
    @given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 15)), min_size=1, max_size=3))
    def check(kills: list[tuple[int, int]]) -> None:
        folder = tmp_path_factory.mktemp("run")
        for inside in ("state", "weights"):
            (folder / inside).mkdir()
        for steps, saved in kills:
            progress = Progress(folder, 30)
            state = fresh(name, splits, training)
            progress.restore(state)
            try:
                list(advance(state, splits, training, kill_after(steps, saved, progress)))
            except Killed:
                torch.manual_seed(99)
        state = fresh(name, splits, training)
        Progress(folder, 30).restore(state)
        list(advance(state, splits, training))
        assert whole(state) == expected

    check()


def test_a_part_without_validation_resumes(splits: Splits, tmp_path: Path) -> None:
    alone = replace(splits, val=None)
    training = Training(epochs=3, batch_size=64, threads=1)
    run_in(tmp_path, "linear", alone, training, stop=17)
    state = fresh("linear", alone, training)
    Progress(tmp_path, 30).restore(state)
    list(advance(state, alone, training))
    assert whole(state) == trained("linear", alone, training)


def run_in(folder: Path, name: str, splits: Splits, training: Training, stop: int, every: float = 0) -> None:
    """Train in a folder, with a checkpoint a step, killed after some steps."""
    for inside in ("state", "weights"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    progress, done = Progress(folder, every), 0

    def after_step(state: State) -> None:
        nonlocal done
        progress.save(state)
        done += 1
        if done == stop:
            raise Killed

    with pytest.raises(Killed):
        list(advance(fresh(name, splits, training), splits, training, after_step))


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(splits: Splits, tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=64, threads=1)
    run_in(tmp_path, "linear", splits, training, stop=8)
    flip(tmp_path / "state" / "checkpoint.safetensors", 5000)
    state = fresh("linear", splits, training)
    progress = Progress(tmp_path, 30)
    notes = progress.restore(state)
    assert "checkpoint.safetensors is damaged" in notes[0]
    assert (state.epoch, state.step) == (0, 7)
    progress.save(state)
    assert checkpoint.read(progress.previous)[0]["step"] == 7
    list(advance(state, splits, training))
    assert whole(state) == trained("linear", splits, training)


def test_without_a_good_checkpoint_it_starts_again(splits: Splits, tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=64, threads=1)
    run_in(tmp_path, "linear", splits, training, stop=8)
    for name in ("checkpoint", "previous"):
        flip(tmp_path / "state" / f"{name}.safetensors", 900)
    state = fresh("linear", splits, training)
    notes = Progress(tmp_path, 30).restore(state)
    assert [note for note in notes if "damaged" in note] == notes[:2]
    assert "starting again" in notes[2]
    list(advance(state, splits, training))
    assert whole(state) == trained("linear", splits, training)


def test_a_checkpoint_of_another_run_is_refused(splits: Splits, tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=64, threads=1)
    run_in(tmp_path, "linear", splits, training, stop=8)
    with pytest.raises(RunError, match="no checkpoint of this run"):
        Progress(tmp_path, 30).restore(fresh("kilo-4k", splits, training))


@given(st.integers(0, 10**9), st.integers(0, 7))
@settings(max_examples=300)
def test_every_flipped_bit_of_a_weight_file_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    checkpoint.write(path, {"a": torch.arange(9.0), "b": torch.ones(2, 3)}, {"classes": ["x", "0" * 64], "format": 9})
    checkpoint.read(path)
    flip(path, at, bit)
    with pytest.raises(RunError, match=r"weights\.safetensors"):
        checkpoint.read(path)


@given(st.integers(0, 10**9))
@settings(max_examples=50)
def test_every_cut_weight_file_is_noticed(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    checkpoint.write(path, {"a": torch.arange(9.0)}, {})
    content = path.read_bytes()
    path.write_bytes(content[: length % len(content)])
    with pytest.raises(RunError, match=r"weights\.safetensors"):
        checkpoint.read(path)


def test_a_weight_file_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.safetensors"
    monkeypatch.setattr(checkpoint, "FORMAT", 7)
    monkeypatch.setattr(checkpoint, "version", lambda _: "9.1")
    checkpoint.write(path, {"a": torch.zeros(1)}, {})
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"format '7', written by Kilonet 9\.1.*reads 2; it needs Kilonet 9\.1"):
        checkpoint.read(path)


# --- whole runs


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose runs draw their figures."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def project(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose runs write an empty file for each figure, which takes less time."""
    monkeypatch.setattr(plots, "save", lambda _, path: path.write_bytes(b""))
    return drawn


LINEAR = Config(source="digits", model="linear", training=Training(epochs=3, batch_size=64, threads=1))


def start(project: Path, chosen: Config = LINEAR, name: str | None = None) -> tuple[Run, run.Plan]:
    made = run.plan(chosen)
    return run.start(made, project, name), made


def finished(project: Path, chosen: Config = LINEAR, name: str | None = None) -> Run:
    found, made = start(project, chosen, name)
    run.finish(found, made)
    return found


def interrupted(project: Path, steps: int, chosen: Config = LINEAR) -> Run:
    """A run killed after some steps, with a checkpoint at each of them."""
    found, made = start(project, replace(chosen, save_every=0))

    def watch(now: object) -> None:
        nonlocal steps
        steps -= isinstance(now, State)
        if steps < 0:
            raise Killed

    with pytest.raises(Killed):
        run.finish(found, made, watch)
    return found


def results(found: Run) -> dict[str, Any]:
    """The files of a run, their times left out."""
    files = {p.name: p.read_bytes() for p in found.path.rglob("*") if p.is_file() and p.parent.name != "state"}
    del files["config.toml"]
    files["results.csv"] = repr([replace(r, seconds=0) for r in found.history().epochs]).encode()
    files["metrics.json"] = json.dumps({**found.metrics(), "seconds": 0}).encode()
    figures, tensors = checkpoint.read(found.path / "state" / "checkpoint.safetensors")
    return {**files, **{name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, "step": figures["step"]}


def test_a_killed_run_resumes_from_its_directory_alone(drawn: Path) -> None:
    expected = results(finished(drawn))
    assert {"curves.png", "mistakes.png"} < set(expected)
    found = interrupted(drawn, 30)
    assert not found.finished()
    assert results(kn.resume(found.path)) == expected


def test_a_run_without_a_checkpoint_starts_from_its_config(project: Path) -> None:
    expected = results(finished(project))
    found, _ = start(project)
    assert results(kn.resume(found.path)) == expected


def test_a_finished_run_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = finished(project)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in found.path.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as ended:
        cli.main(["resume", str(found.path)])
    assert ended.value.code == 0
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in found.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", seals.PRODUCTS)
def test_a_damaged_file_of_a_finished_run_is_named_and_made_again(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = finished(project)
    expected = results(found)
    flip(found.path / name, 77, 1)
    with pytest.raises(SystemExit) as ended:
        cli.main(["resume", str(found.path)])
    assert ended.value.code == 0
    assert f"{name} is damaged" in capsys.readouterr().err
    assert results(found) == expected
    assert found.damaged() == []


def test_more_epochs_give_what_so_many_at_once_give(project: Path) -> None:
    more = replace(LINEAR, training=replace(LINEAR.training, epochs=5))
    expected = results(finished(project, more))
    found = finished(project)
    assert results(kn.resume(found.path, epochs=5)) == expected
    assert found.config.training.epochs == 5
    half = interrupted(project, 30)
    assert results(kn.resume(half.path, epochs=5)) == expected


def test_more_epochs_that_a_run_has_been_given_already_are_no_error(project: Path) -> None:
    """The same command comes again: typed by hand, or by a launch that starts its ranks anew."""
    expected = results(finished(project))
    half = interrupted(project, 30)
    for _ in range(2):
        assert results(kn.resume(half.path, epochs=3)) == expected


def test_more_epochs_are_refused_where_they_change_the_rest(project: Path) -> None:
    cycle = replace(LINEAR, training=replace(LINEAR.training, schedule="one-cycle"))
    found = finished(project, cycle)
    with pytest.raises(ConfigError, match="under one-cycle"):
        kn.resume(found.path, epochs=5)
    with pytest.raises(ConfigError, match="expected more than the run's 3"):
        kn.resume(finished(project).path, epochs=2)


def test_an_edited_config_is_not_gone_on_with(project: Path) -> None:
    found = interrupted(project, 30)
    path = found.path / "config.toml"
    path.write_text(path.read_text().replace("lr = 0.001", "lr = 0.003"))
    with pytest.raises(RunError, match="edited or damaged"):
        kn.resume(found.path)
    assert config.read_toml(path).training.lr == 0.003


def test_a_run_of_another_format_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = finished(project)
    found_config = found.config
    path = found.path / "config.toml"
    with monkeypatch.context() as patch:
        patch.setattr(seals, "FORMAT", 3)
        patch.setattr(seals, "version", lambda _: "8.1")
        found.rewrite_config(found_config, {})
    sealed, _, bare = path.read_text().partition("\n")
    uses: list[Any] = [lambda: kn.resume(found.path), lambda: found.model(), lambda: found.part("val")]
    for text in (f"{sealed}\n{bare}", bare, bare.replace("format = 3\n", "")):
        path.write_text(text)
        for use in uses:
            with pytest.raises(RunError, match=r"format '[31]', written by Kilonet 8\.1.*it needs Kilonet 8\.1"):
                use()


@pytest.mark.parametrize("how", ["format", "seeds", "empty", "cut", "no TOML", "no number"])
def test_a_damaged_config_is_named_as_damaged(how: str, project: Path, tmp_path: Path) -> None:
    found = finished(project)
    path = found.path / "config.toml"
    text = path.read_text()
    changed = {
        "format": text.replace("format = 2", "format = 3"),
        "seeds": text.replace("seeds = 1", "seeds = 3"),
        "empty": "",
        "cut": text[:90],
        "no TOML": text.replace("= 1", "* 1"),
        "no number": text.replace("lr = 0", "lr = x"),
    }
    path.write_text(changed[how])
    commands = [["evaluate"], ["predict", "--data", "digits"], ["plot", "--show", str(tmp_path / "x.png")], ["resume"]]
    for words in commands:
        assert "config.toml has been edited or damaged" in refused(words[0], str(found.path), *words[1:])


def test_damage_in_a_config_of_seeds_is_named(project: Path, tmp_path: Path) -> None:
    found = of_seeds(project)
    path = found.path / "config.toml"
    path.write_text(path.read_text().replace("seeds = 2", "seeds = 1"))
    for words in (["evaluate"], ["plot", "--show", str(tmp_path / "x.png")], ["resume"]):
        assert "config.toml has been edited or damaged" in refused(words[0], str(found.path), *words[1:])


def refused(*words: str) -> str:
    """What a command that ends with status 1 says, as one text."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 1
    return told.getvalue()


@pytest.mark.parametrize("name", ["weights/best.safetensors", "state/split.npz", "results.csv"])
def test_a_file_that_is_gone_is_named(name: str, project: Path, tmp_path: Path) -> None:
    found = finished(project)
    (found.path / name).unlink()
    words = ["plot", "--show", str(tmp_path / "x.png")] if name == "results.csv" else ["evaluate"]
    told = refused(words[0], str(found.path), *words[1:])
    assert told.splitlines() == [f"error: {found.path / name} is gone", f"hint: mend it: kilonet resume {found.path}"]
    kn.resume(found.path)
    assert found.damaged() == []


def test_a_run_without_its_config_is_a_run_all_the_same(project: Path) -> None:
    found = finished(project)
    (found.path / "config.toml").unlink()
    for command in ("doctor", "resume", "evaluate"):
        assert refused(command, str(found.path)).startswith(
            f"error: {found.path} has no config.toml\nhint: put it back"
        )
    assert "config.toml is gone" in refused("doctor", str(found.path / "weights" / "best.safetensors"))


def test_seeds_without_their_config_are_a_run_all_the_same(project: Path, tmp_path: Path) -> None:
    found = of_seeds(project)
    (found.path / "seed-1" / "results.csv").unlink()
    assert "seed-1/results.csv is gone" in refused("plot", str(found.path), "--show", str(tmp_path / "x.png"))
    (found.path / "config.toml").unlink()
    assert "has no config.toml" in refused("doctor", str(found.path))


@pytest.mark.parametrize("how", ["damaged", "swapped", "gone", "behind"])
def test_the_records_of_an_unfinished_run_are_held_against_its_checkpoint(how: str, project: Path) -> None:
    found = interrupted(project, 50)
    expected = found.history()
    assert len(expected.epochs) == 2
    path = found.path / "results.csv"
    if how == "damaged":
        path.write_text(path.read_text().replace(repr(expected.last.train_loss), "0.001"))
    elif how == "swapped":
        swapped(found, interrupted(project, 50, OTHER), "results.csv")
    elif how == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    if how in ("gone", "behind"):
        assert found.history() == expected
        return
    with pytest.raises(RunError, match=r"results\.csv is damaged, or not this run's: its epochs are not those"):
        found.history()
    assert kn.resume(found.path).history().epochs[:2] == expected.epochs


def test_figures_of_seeds_say_how_many_there_are(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = of_seeds(project)
    picture = str(tmp_path / "x.png")
    commands = [["evaluate", str(found.path)], ["plot", str(found.path), "--show", picture]]
    note = f"note: {found.path}: 1 of 2 seeds are done: kilonet resume {found.path}"

    def said() -> list[str]:
        for words in commands:
            with pytest.raises(SystemExit) as ended:
                cli.main(words)
            assert ended.value.code == 0
        return capsys.readouterr().err.splitlines()

    assert said() == []
    (found.path / "seed-1" / "state" / "finished.json").unlink()
    assert said() == [note, note]
    shutil.rmtree(found.path / "seed-1" / "weights")
    assert said() == [note, note]
    shutil.rmtree(found.path / "seed-1")
    assert said() == [note, note]


def test_data_that_has_changed_is_noticed(project: Path, tmp_path: Path) -> None:
    import numpy as np

    data = kn.load("digits")
    np.savez(tmp_path / "own.npz", images=data.images, labels=data.labels)
    found = interrupted(project, 30, replace(LINEAR, source=str(tmp_path / "own.npz")))
    np.savez(tmp_path / "own.npz", images=255 - data.pixels, labels=data.labels)
    with pytest.raises(RunError, match="has changed since"):
        kn.resume(found.path)


def swapped(found: Run, other: Run, name: str) -> Path:
    """The path of a file of a run, after it was replaced by the same file of another one."""
    shutil.copy(other.path / name, found.path / name)
    return found.path / name


OTHER = replace(LINEAR, training=replace(LINEAR.training, seed=7))


@pytest.mark.parametrize("name", ["config.toml", "state/checkpoint.safetensors"])
def test_a_file_of_another_run_is_not_gone_on_with(name: str, project: Path) -> None:
    found = interrupted(project, 30)
    swapped(found, interrupted(project, 30, OTHER), name)
    if name == "config.toml":
        found.rewrite_config(replace(found.config, save_every=1), found.parts())
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is a checkpoint of another run than config\.toml"):
        kn.resume(found.path)


def test_a_checkpoint_is_of_its_run_whatever_resume_may_change(project: Path) -> None:
    cycle = replace(LINEAR, training=replace(LINEAR.training, schedule="one-cycle"))
    same = [LINEAR, replace(LINEAR, save_every=5), replace(LINEAR, training=replace(LINEAR.training, epochs=9))]
    same.append(replace(LINEAR, training=replace(LINEAR.training, least_images=9)))
    assert len({seals.identity(chosen, {"notes": [str(i)]}) for i, chosen in enumerate(same)}) == 1
    longer = replace(cycle, training=replace(cycle.training, epochs=9))
    others = [LINEAR, OTHER, cycle, longer, replace(LINEAR, model="kilo-4k"), replace(LINEAR, split="70/15/15")]
    assert len({seals.identity(chosen, {}) for chosen in others}) == len(others)
    assert seals.identity(LINEAR, {"train": {"n": 1}}) != seals.identity(LINEAR, {})


def test_weights_of_another_run_are_not_used(project: Path) -> None:
    found = finished(project)
    path = swapped(found, finished(project, OTHER), "weights/best.safetensors")
    for use in (found.model, shelf.find(str(path), project).model, lambda: measuring.measure(found, None)):
        with pytest.raises(RunError, match=r"best\.safetensors is damaged, or not this run's"):
            use()
    last = found.path / "weights" / "last.safetensors"
    assert shelf.find(str(last), project).model().name == "linear"


def test_a_split_of_another_run_is_not_used(project: Path) -> None:
    found = interrupted(project, 30)
    swapped(found, interrupted(project, 30, OTHER), "state/split.npz")
    for use in (lambda: found.part("test"), lambda: found.seen(kn.load("digits"))):
        with pytest.raises(RunError, match=r"split\.npz is not the split that config\.toml names"):
            use()
    assert kn.resume(found.path).part("test") is not None


@pytest.mark.parametrize("name", ["checkpoint", "previous"])
def test_the_doctor_names_a_checkpoint_that_is_not_the_runs(name: str, project: Path) -> None:
    found = finished(project)
    assert damage.examine(found) == []
    path = swapped(found, finished(project, OTHER), f"state/{name}.safetensors")
    assert [finding.what for finding in damage.examine(found)] == [
        f"{path} is a checkpoint of another run than config.toml"
    ]
    path.unlink()
    assert [finding.what for finding in damage.examine(found)] == [f"{path} is gone"] * (name == "checkpoint")


def test_a_users_model_is_given_again(project: Path, net_file: str) -> None:
    chosen = replace(LINEAR, model=net_file)
    expected = results(finished(project, chosen))
    found = interrupted(project, 30, chosen)
    with pytest.raises(ModelError, match="not imported because a config says so"):
        kn.resume(found.path)
    assert results(kn.resume(found.path, model_file=net_file)) == expected


def test_seeds_go_on_where_they_stopped(project: Path) -> None:
    several = replace(LINEAR, seeds=3, save_every=0)
    whole_run = seeds.start_seeds(several, project)
    expected = seeds.finish_seeds(whole_run)
    broken = seeds.start_seeds(several, project)
    done = 0

    def watch(_: object, seed: int) -> Any:
        def told(now: object) -> None:
            nonlocal done
            done += isinstance(now, State) and seed == 1
            if done == 33:
                raise Killed

        return told

    with pytest.raises(Killed):
        seeds.finish_seeds(broken, watch)
    assert sorted(p.name for p in broken.path.glob("seed-*")) == ["seed-0", "seed-1"]
    kn.resume(broken.path)
    assert broken.summary() == expected
    for seed in range(3):
        assert results(Run(broken.path / f"seed-{seed}")) == results(Run(whole_run.path / f"seed-{seed}"))
    before = (broken.path / "summary.json").stat().st_mtime_ns
    kn.resume(broken.path)
    assert (broken.path / "summary.json").stat().st_mtime_ns == before
    kn.resume(broken.path, epochs=4)
    assert [len(Run(broken.path / f"seed-{seed}").history().epochs) for seed in range(3)] == [4, 4, 4]


SEVERAL = replace(LINEAR, seeds=2, training=replace(LINEAR.training, epochs=2))


def of_seeds(project: Path) -> Run:
    found = seeds.start_seeds(SEVERAL, project)
    seeds.finish_seeds(found)
    return found


def epochs_of(found: Run) -> list[int]:
    return [len(Run(found.path / f"seed-{seed}").history().epochs) for seed in (0, 1)]


def test_more_epochs_for_seeds_go_on_after_a_kill(project: Path) -> None:
    found = of_seeds(project)

    def watch(_: object, seed: int) -> Any:
        if seed == 1:
            raise Killed
        return lambda _: None

    with pytest.raises(Killed):
        seeds.finish_seeds(found, watch, epochs=4)
    assert epochs_of(found) == [4, 2]
    assert not found.summary()
    kn.resume(found.path)
    assert epochs_of(found) == [4, 4]
    expected = seeds.finish_seeds(seeds.start_seeds(found.config, project))
    assert found.summary() == expected


def test_a_summary_comes_from_its_seeds_alone(project: Path) -> None:
    found = of_seeds(project)
    path = found.path / "summary.json"
    expected = path.read_text()
    for damaged in ("", "[]", '{"val": 1}', expected.replace('"mean"', '"meen"'), expected.replace("0.9", "0.1")):
        path.write_text(damaged)
        kn.resume(found.path)
        assert path.read_text() == expected


def test_a_figure_of_seeds_that_a_kill_left_out_is_drawn(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seeds.start_seeds(SEVERAL, project)

    def kill(_: object, path: Path) -> None:
        if path == found.path / "curves.png":
            raise Killed
        path.write_bytes(b"")

    with monkeypatch.context() as patch:
        patch.setattr(plots, "save", kill)
        with pytest.raises(Killed):
            seeds.finish_seeds(found)
    kn.resume(found.path)
    assert (found.path / "curves.png").exists()
    (found.path / "curves.png").unlink()
    kn.resume(found.path)
    assert (found.path / "curves.png").exists()


def test_a_directory_that_is_not_its_seeds_is_refused(project: Path) -> None:
    found = of_seeds(project)
    one, other, aside = (found.path / name for name in ("seed-0", "seed-1", "aside"))
    for old, new in ((one, aside), (other, one), (aside, other)):
        old.rename(new)
    with pytest.raises(RunError, match=r"seed-0 is not seed 0 of .*its config is another one.*delete .*seed-0"):
        kn.resume(found.path)
    (one / "config.toml").unlink()
    with pytest.raises(RunError, match=r"seed-0 has no config\.toml .*delete .*seed-0: kilonet resume"):
        kn.resume(found.path)
    shutil.rmtree(one)
    shutil.rmtree(other)
    kn.resume(found.path)
    kn.resume(one, epochs=3)
    with pytest.raises(RunError, match=r"seed-0 has more epochs than the run's 2 .*--epochs 3"):
        kn.resume(found.path)


def test_what_killed_writes_left_beside_seeds_is_cleared_away(project: Path) -> None:
    found = seeds.start_seeds(SEVERAL, project)
    (found.path / ".seed-0.abc.part" / "state").mkdir(parents=True)
    (found.path / ".summary.json.abc.part").write_bytes(b"half")
    kn.resume(found.path)
    assert not list(found.path.rglob("*.part"))


SEEDED = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        self.wild = torch.initial_seed() == 0

    def forward(self, images):
        return super().forward(images.flatten(1)) * (float("nan") if self.wild else 1.0)
"""


def test_seeds_go_on_without_one_that_went_wrong(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seeded.py").write_text(SEEDED)
    net = f"{tmp_path / 'seeded.py'}:Net"
    chosen = replace(SEVERAL, model=net, seeds=3)
    found, told = seeds.start_seeds(chosen, project), list[str]()
    summary = seeds.finish_seeds(found, say=told.append)
    assert (summary["seeds"], summary["failed"], summary["test"]["loss"]["n"]) == ([1, 2], ["seed-0"], 2)
    assert any(line.startswith("seed-0: the training went wrong in epoch 1") for line in told)
    with pytest.raises(SystemExit) as ended:
        cli.main(["resume", str(found.path), "--model", net])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert "seed-0 went wrong in epoch 1" in said.err
    assert "left out: seed-0 (it went wrong in epoch 1: its loss was nan); the figures are over the other 2" in said.out
    alone = seeds.start_seeds(replace(chosen, seeds=1), project)
    with pytest.raises(RunError, match=r"every seed of .* went wrong"):
        seeds.finish_seeds(alone)


def test_a_training_gone_wrong_keeps_what_was_good(project: Path) -> None:
    wild = replace(LINEAR, training=replace(LINEAR.training, optimizer="sgd", lr=1e38, epochs=9))
    found, made = start(project, wild)
    with pytest.raises(DivergedError, match=r"epoch 1, step \d+: its loss is") as failure:
        run.finish(found, made)
    assert found.failure() == {"epoch": 1, "step": failure.value.step, "loss": str(failure.value.loss)}
    with pytest.raises(RunError, match="it would do so again"):
        kn.resume(found.path)


LATE = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        if self.training:
            self.calls += 1
        return super().forward(images.flatten(1)) * (float("nan") if self.calls > 50 else 1.0)
"""


def test_a_training_gone_wrong_late_has_the_last_good_epochs_weights(project: Path, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    found, made = start(project, replace(LINEAR, model=f"{tmp_path / 'late.py'}:Net"))
    with pytest.raises(DivergedError, match="epoch 3, step 11: its loss is nan"):
        run.finish(found, made)
    assert [record.epoch for record in found.history().epochs] == [1, 2]
    good = checkpoint.read(found.path / "weights" / "last.safetensors")[1]
    assert int(good["calls"]) == 40
    assert all(tensor.isfinite().all() for tensor in good.values())


def test_a_run_is_trained_by_one_process_at_a_time(project: Path) -> None:
    found, made = start(project)
    with rundir.held(found), pytest.raises(RunError, match="being trained by another process"):
        run.finish(found, made)


def test_more_epochs_change_nothing_of_a_run_that_another_process_trains(project: Path) -> None:
    found = finished(project)
    (found.path / "state" / "split.npz").unlink()
    before = {p: p.read_bytes() for p in found.path.rglob("*") if p.is_file()}
    with rundir.held(found), pytest.raises(RunError, match="being trained by another process"):
        kn.resume(found.path, epochs=9)
    assert {p: p.read_bytes() for p in found.path.rglob("*") if p.is_file()} == before


def test_a_run_that_was_extended_meanwhile_is_not_cut_short(project: Path) -> None:
    found = finished(project)
    made = run.prepare(found, epochs=4)
    assert made is not None
    kn.resume(found.path, epochs=6)
    with pytest.raises(RunError, match="given more epochs meanwhile"):
        run.finish(found, made)
    assert (found.config.training.epochs, found.finished()) == (6, True)


def test_a_weight_file_is_not_resumed(project: Path) -> None:
    found = interrupted(project, 30)
    with pytest.raises(ConfigError, match="is a weight file: expected a run"):
        kn.resume(found.path / "weights" / "last.safetensors")


@pytest.mark.parametrize("folder", ["state", "weights"])
def test_a_folder_that_is_gone_is_made_again(folder: str, project: Path) -> None:
    found = interrupted(project, 30)
    shutil.rmtree(found.path / folder)
    assert results(kn.resume(found.path)) == results(finished(project))


def test_a_run_that_was_never_quite_made_is_not_the_last(project: Path) -> None:
    found, _ = start(project)
    half = project / ".train2.abc.part"
    half.mkdir()
    (half / "config.toml").write_bytes((found.path / "config.toml").read_bytes())
    assert shelf.find("last", project).path == found.path


def test_what_a_killed_write_left_is_cleared_away(project: Path) -> None:
    found = interrupted(project, 30)
    (found.path / "state" / ".checkpoint.safetensors.abc.part").write_bytes(b"half")
    kn.resume(found.path)
    assert not list(found.path.rglob("*.part"))
