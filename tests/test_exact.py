"""The tutorial, exactly: Kilonet's presets against a plain PyTorch loop that knows nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kilonet as kn
from kilonet import config, plain
from kilonet.batches import LoaderOrder
from kilonet.models import build
from kilonet.train import epochs

PRESETS = ["tutorial-linear", "tutorial-cnn"]


def held_against_the_plain_loop(preset: str, data: kn.ImageSet, seed: int) -> None:
    """Same seed, two epochs: the same bits in the weights, and both ways of averaging the validation loss."""
    chosen = config.resolve({"preset": preset}, {"epochs": 2, "seed": seed, "engine": "torch"})
    splits = data.split(chosen.split)
    assert splits.val is not None
    torch.manual_seed(seed)
    script = plain.MODELS[preset]()
    printed = list(plain.plain_loop(script, plain.tensors(splits.train), plain.tensors(splits.val), 2))
    model = build(chosen.model, splits.train, seed)
    records = list(epochs(model, splits, chosen.training))
    for ours, theirs in zip(model.net.parameters(), script.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for record, told in zip(records, printed, strict=True):
        assert record.val_accuracy == told.val_accuracy
        assert record.val_loss == pytest.approx(told.val_loss_over_images, rel=1e-6)
        assert record.val_loss != pytest.approx(told.val_loss, rel=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_same_bits_as_the_plain_loop(preset: str, mnist_5k: kn.ImageSet) -> None:
    held_against_the_plain_loop(preset, mnist_5k, seed=3)


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("preset", PRESETS)
def test_same_bits_as_the_plain_loop_on_full_mnist(preset: str, seed: int, full_mnist: kn.ImageSet) -> None:
    held_against_the_plain_loop(preset, full_mnist, seed)


def test_linear_from_scratch_draws_as_the_tutorial_does(mnist_5k: kn.ImageSet) -> None:
    model = build("linear-from-scratch", mnist_5k, seed=5)
    torch.manual_seed(5)
    weights = torch.randn(784, 10) / 784**0.5
    found = dict(model.net.named_parameters())
    assert torch.equal(found["weights"], weights)
    assert not found["bias"].any()


def test_loader_order_is_that_of_data_loaders() -> None:
    rows = torch.arange(1000)
    torch.manual_seed(4)
    train = DataLoader(TensorDataset(rows), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(rows), batch_size=128)
    expected = []
    for _ in range(3):
        expected.append(torch.cat([batch for (batch,) in train]))
        list(val)
    torch.manual_seed(4)
    order = LoaderOrder(1000)
    assert all(torch.equal(order.epoch(i), rows) for i, rows in enumerate(expected))


def test_tutorial_presets_measure_the_last_weights() -> None:
    for preset in PRESETS:
        assert config.resolve({"preset": preset}, {}).training.measure == "last"


def test_own_adam_follows_float64_within_1e_5_over_an_epoch(mnist_5k: kn.ImageSet) -> None:
    """In float64 the whole epoch agrees with `torch.optim.Adam` closely, whatever the rounding of float32."""
    splits = mnist_5k.split("tutorial")
    ours = build("tutorial-cnn", splits.train, 0).double()
    theirs: nn.Module = copy.deepcopy(ours)
    training = config.resolve({"preset": "tutorial-cnn"}, {"epochs": 1, "engine": "torch"}).training
    torch.manual_seed(1)
    list(epochs(ours, splits, training))
    torch.manual_seed(1)
    order = LoaderOrder(len(splits.train)).epoch(0)
    update = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    images, labels = torch.from_numpy(splits.train.pixels.copy()), torch.from_numpy(splits.train.labels)
    for rows in torch.split(order, 64):
        update.zero_grad()
        F.cross_entropy(theirs(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
        update.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@pytest.mark.full
@pytest.mark.parametrize("preset", PRESETS)
def test_the_native_engine_follows_the_plain_loop_on_full_mnist(preset: str, full_mnist: kn.ImageSet) -> None:
    """As far as rounding lets it: the first epoch's training loss, the greater part of it before the roads part."""
    told = {}
    for engine in ("torch", "native"):
        chosen = config.resolve({"preset": preset}, {"epochs": 1, "seed": 3, "engine": engine})
        splits = full_mnist.split(chosen.split)
        told[engine] = next(epochs(build(chosen.model, splits.train, 3), splits, chosen.training))
    assert told["native"].train_loss == pytest.approx(told["torch"].train_loss, rel=1e-3)
    assert told["native"].val_loss == pytest.approx(told["torch"].val_loss, rel=1e-2)


@pytest.mark.full
def test_the_tutorial_ends_where_it_ends(full_mnist: kn.ImageSet) -> None:
    assert full_mnist.classes[full_mnist.labels[0]] == "5"
    assert full_mnist.labels[50_000:50_009].tolist() == [3, 8, 6, 9, 6, 4, 5, 3, 8]
    chosen = config.resolve({"preset": "tutorial-linear"}, {})
    splits = full_mnist.split(chosen.split)
    model = build(chosen.model, splits.train, 0)
    last = list(epochs(model, splits, chosen.training))[-1]
    assert last.val_accuracy == pytest.approx(0.929, abs=0.003)
