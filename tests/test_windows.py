"""Training on images that stay on the disk: the order in blocks, and the bits of a training in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import kilonet as kn
from kilonet import batches, cli, mapped, run, shelf, windows
from kilonet.batches import BlockOrder
from kilonet.config import Config, Training
from kilonet.engines import native, parallel
from kilonet.errors import Interrupted
from kilonet.images import Splits
from kilonet.mapped import Mapped
from kilonet.models import adopt, build
from kilonet.progress import Progress
from kilonet.rundir import Run
from kilonet.state import State, begin
from kilonet.train import _spans, advance

Bits = dict[str, Any]


@given(st.integers(1, 3000), st.integers(1, 50), st.integers(1, 500), st.integers(0, 2**63 - 1), st.integers(0, 20))
def test_every_image_comes_once_and_windows_look_at_whole_blocks(
    n: int, block: int, window: int, seed: int, epoch: int
) -> None:
    order = BlockOrder(n, seed, block, window)
    rows = order.epoch(epoch).numpy()
    assert np.array_equal(np.sort(rows), np.arange(n))
    for start in range(0, n, window):
        some = np.sort(rows[start : start + window])
        runs = 1 + np.count_nonzero(np.diff(some) > 1)
        assert runs <= len(some) // block + 3, "more than whole blocks, two cut by the window and two by the set's ends"
    again = BlockOrder(n, seed, block, window)
    again.restore(order.state())
    assert np.array_equal(again.epoch(epoch).numpy(), rows)


def test_orders_differ_by_seed_and_epoch_and_so_do_their_blocks() -> None:
    order = BlockOrder.over(100_000, 0, 784, 64)
    assert (order.block, order.window) == (97, 6_208)
    first, second = order.epoch(0).numpy(), order.epoch(1).numpy()
    assert np.mean(first == second) < 0.01
    assert np.mean(first == BlockOrder.over(100_000, 1, 784, 64).epoch(0).numpy()) < 0.01
    looked_at = [np.sort(rows[: order.window]) for rows in (first, second)]
    starts = [some[1:][np.diff(some) > 1] % order.block for some in looked_at]
    assert len(np.unique(starts[0])) <= 2, "blocks lie side by side"
    assert set(starts[0].tolist()) != set(starts[1].tolist()), "and are cut elsewhere in the next epoch"


def test_a_window_is_mixed_as_a_shuffle_mixes() -> None:
    """Neighbours in a window are no nearer in the source than chance has them: mean distance of two of n is n / 3."""
    order = BlockOrder(200_000, 0, 80, 20_000)
    rows = order.epoch(0).numpy()[:20_000]
    ranks = np.argsort(np.argsort(rows))
    assert np.abs(np.diff(ranks)).mean() == pytest.approx(20_000 / 3, rel=0.03)
    assert np.corrcoef(np.arange(20_000), rows)[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("n", [1, 5, 100, 50_000, 6_000_000])
@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_sizes_of_windows_are_whole_batches(n: int, batch: int) -> None:
    order = BlockOrder.over(n, 0, 784, batch)
    assert order.window % batch == 0
    assert 1 <= order.block <= max(1, order.window)
    assert order.window * 784 <= max(batches.WINDOW, batch * 784)


@given(st.integers(1, 300), st.integers(1, 10), st.integers(1, 10), st.data())
def test_spans_cut_at_windows(n: int, batch: int, whole: int, data: st.DataObject) -> None:
    window, at = batch * whole, batch * data.draw(st.integers(0, (n - 1) // batch))
    spans = list(_spans(at, n, window))
    assert [start for start, _ in spans] == [at, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == n
    for start, stop in spans:
        assert start // window == (stop - 1) // window
        assert stop == n or stop % batch == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 of the bundled digits behind each other in two raw pairs, for training and for testing."""
    folder, data = tmp_path_factory.mktemp("mapped"), kn.load("mnist-5k")
    rows = np.random.default_rng(0).permutation(5000)[:400]
    for part, some in (("train", rows[:300]), ("test", rows[300:])):
        np.save(folder / f"{part}-images.npy", data.pixels[some, 0])
        np.save(folder / f"{part}-labels.npy", data.labels[some])
    return folder


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are large, and pieces of them small."""
    for name, size in (("LARGE", 0), ("SMALL", 0), ("PIECE", 784 * 50)):
        monkeypatch.setattr(mapped, name, size)


def in_memory(splits: Splits) -> Splits:
    train, val, test = (
        None if part is None else replace(part, images=part.pixels) for part in (splits.train, splits.val, splits.test)
    )
    assert train is not None
    return Splits(train, val, test, splits.how)


def bits(state: State) -> Bits:
    """All of a state but its times, for comparison."""
    figures = {**state.figures(), "seconds": 0.0}
    figures["records"] = [{**record, "seconds": 0.0, "val_loss": None} for record in figures["records"]]
    return {**figures, **{name: value.numpy().tobytes() for name, value in state.tensors().items()}}


def fresh(splits: Splits, training: Training, model: str = "tutorial-cnn") -> State:
    return begin(build(model, splits.train, training.seed), len(splits.train), training)


def trained(splits: Splits, training: Training, model: str = "tutorial-cnn") -> State:
    state = fresh(splits, training, model)
    list(advance(state, splits, training))
    return state


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    assert ended.value.code == 0


WARPED = {"shift": 1.0, "elastic": 1.0}
SETTINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("standard", "native", {}),
    ("standard", "torch", WARPED),
    ("50/25/25", "native", WARPED),
    ("50/25/25", "torch", {}),
    ("full", "native", {}),
    ("one file, 50/25/25", "native", WARPED),
    ("one file, 50/25/25", "torch", {}),
    ("one file, standard", "native", {}),
]


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize(("split", "engine", "more"), SETTINGS)
def test_training_from_the_disk_gives_the_bits_of_training_in_memory(
    folder: Path, split: str, engine: Any, more: dict[str, Any]
) -> None:
    """Of two files, one holds the training part under the splits that keep the test part; of one, rows of it."""
    source = folder / "train-images.npy" if "one file" in split else folder
    splits = kn.load(source).split(split.removeprefix("one file, "))
    assert splits.train.is_large
    kind = windows.windows(splits.train, torch.device("cpu"))
    assert isinstance(kind, windows.Loaded if split == "50/25/25" else windows.InPlace)
    training = Training(epochs=2, batch_size=16, engine=engine, threads=1, seed=5, batch_order="blocks", **more)
    found, expected = (trained(parts, training) for parts in (splits, in_memory(splits)))
    assert bits(found) == bits(expected)
    for one, other in zip(found.records, expected.records, strict=True):
        assert one.val_accuracy == other.val_accuracy
        assert one.val_loss == (None if other.val_loss is None else pytest.approx(other.val_loss, rel=1e-12))


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("split", ["standard", "50/25/25"])
@pytest.mark.parametrize(("engine", "more"), [("native", WARPED), ("torch", {}), ("native", {"schedule": "one-cycle"})])
def test_resumed_in_the_middle_of_a_window_is_uninterrupted(
    folder: Path, split: str, engine: Any, more: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    splits = kn.load(folder).split(split)
    training = Training(epochs=2, batch_size=4, engine=engine, threads=1, batch_order="blocks", **more)
    state = fresh(splits, training)
    assert 4 < state.order.window < len(splits.train) / 4
    expected = bits(trained(splits, training))

    @settings(max_examples=6)
    @given(st.lists(st.integers(1, 80), min_size=1, max_size=3))
    def killed_and_resumed(kills: list[int]) -> None:
        folder = tmp_path_factory.mktemp("run")
        (folder / "state").mkdir()
        (folder / "weights").mkdir()
        progress = Progress(folder, 1000)
        state = fresh(splits, training)
        for steps in kills:
            left = iter(range(steps))
            for _ in _stepwise(state, splits, training, lambda left=left: next(left, None) is not None):
                pass
            progress.save(state)
            state = fresh(splits, replace(training))
            progress.restore(state)
        list(advance(state, splits, training))
        assert bits(state) == expected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "SECONDS_A_CALL", 0)
        killed_and_resumed()


class _Stop(BaseException):
    pass


def _stepwise(state: State, splits: Splits, training: Training, goes_on: Any) -> Iterator[None]:
    """Train as long as it goes on."""

    def watch(_: State) -> None:
        if not goes_on():
            raise _Stop

    try:
        for _ in advance(state, splits, training, watch):
            yield
    except _Stop:
        return


@pytest.mark.usefixtures("on_disk")
def test_evaluation_counts_each_image_once(folder: Path) -> None:
    data = kn.load(folder)
    model = build("kilo-4k", data.take(slice(0, 50)))
    found, expected = (kn.evaluate(model, one, engine="torch") for one in (data, replace(data, images=data.pixels)))
    assert found.n == 400
    assert found.confusion.tolist() == expected.confusion.tolist()
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.usefixtures("on_disk")
def test_a_run_says_that_it_takes_blocks_and_keeps_to_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(folder), "--model", "linear", "--epochs", "1", "--project", str(tmp_path)]
    command(*words)
    assert "note: the training images stay in their file" in capsys.readouterr().err
    assert Run(tmp_path / "train").config.training.batch_order == "blocks"
    command(*words, "--seeds", "2", "--name", "both")
    command(*words, "--batch-order", "loader", "--name", "plain")
    for name, order in (("both", "blocks"), ("both/seed-1", "blocks"), ("plain", "blocks")):
        assert Run(tmp_path / name).config.training.batch_order == order
    assert Run(tmp_path / "train").part("test") is not None
    command("evaluate", str(tmp_path / "train"), "--data", str(folder))
    assert "are among those" not in capsys.readouterr().out


@pytest.mark.usefixtures("on_disk")
def test_a_run_interrupted_in_a_window_resumes_from_its_directory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "SECONDS_A_CALL", 0)
    training = Training(epochs=2, batch_size=4, threads=1, shift=1.0)
    config = Config(source=str(folder), model="tutorial-cnn", training=training, save_every=0)

    def finished(name: str, stop_after: int | None) -> Run:
        made = run.plan(config)
        found, steps = run.start(made, tmp_path, name), 0

        def watch(_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == stop_after:
                raise Interrupted("stopped by a test")

        try:
            run.finish(found, made, watch)
        except Interrupted:
            again = run.prepare(shelf.find(name, tmp_path))
            assert again is not None
            run.finish(found, again)
        return found

    whole, cut = finished("whole", None), finished("cut", 30)
    for weights in ("best", "last"):
        files = [one.path / "weights" / f"{weights}.safetensors" for one in (whole, cut)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.usefixtures("on_disk")
def test_at_most_two_windows_are_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = kn.load(folder).split("50/25/25")
    assert isinstance(splits.train.images, Mapped)
    loaded = windows.Loaded(splits.train.images, splits.train.labels, torch.device("cpu"))
    asked: list[int] = []
    load = loaded._load

    def counted(rows: torch.Tensor) -> batches.Resident:
        asked.append(len(rows))
        return load(rows)

    monkeypatch.setattr(loaded, "_load", counted)
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    for number, (data, rows) in enumerate(loaded.of(torch.split(order, 30)), 1):
        assert len(asked) <= number + 1
        expected = order[30 * (number - 1) :][:30].numpy()
        np.testing.assert_array_equal(data.images[rows].numpy(), splits.train.pixels[expected])
        np.testing.assert_array_equal(data.labels[rows].numpy(), splits.train.labels[expected])
        assert data.names is not None
        np.testing.assert_array_equal(data.names[rows].numpy(), expected)
    assert sum(asked) == len(splits.train)


def test_over_ranks_dropout_is_drawn_by_the_images_and_not_by_their_places_in_a_window() -> None:
    images, labels = torch.zeros(8, 1, 4, 4, dtype=torch.uint8) + 200, torch.arange(8) % 2
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))
    model = adopt(net, kn.from_arrays(images.numpy(), labels.numpy())).train()

    def loss(names: torch.Tensor) -> float:
        data = batches.Resident(images, labels, names)
        return float(parallel._own_loss(model, data, torch.arange(8), Training(), None))

    first, second = torch.arange(8), torch.arange(8) + 8
    assert loss(first) == loss(first) != loss(second)
