"""Optimizers, schedules, the loop, and models of the user's own, against PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import kilonet as kn
from kilonet import config
from kilonet.optimizers import Adam, Sgd
from kilonet.train import learning_rates

TORCH = torch.optim
RULES: list[tuple[Callable[[list[Tensor]], Any], Callable[[list[Tensor]], torch.optim.Optimizer], bool]] = [
    (lambda p: Adam(p), lambda p: TORCH.Adam(p, lr=0.01), True),
    (lambda p: Adam(p, 0.1), lambda p: TORCH.Adam(p, lr=0.01, weight_decay=0.1), True),
    (lambda p: Adam(p, 0.1, decoupled=True), lambda p: TORCH.AdamW(p, lr=0.01, weight_decay=0.1), True),
    (lambda p: Sgd(p, 0.9, 0.1), lambda p: TORCH.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1), False),
    (lambda p: Sgd(p, 0.9), lambda p: TORCH.SGD(p, lr=0.01, momentum=0.9), False),
]


@pytest.mark.parametrize(("make", "make_torch", "same_bits"), RULES)
def test_optimizers_against_torch_over_100_steps(make: Any, make_torch: Any, same_bits: bool) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(7, 33, requires_grad=True), torch.randn(10, requires_grad=True)]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    rule, torch_rule = make(ours), make_torch(theirs)
    for _ in range(100):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        rule.step(0.01)
        torch_rule.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q) if same_bits else torch.allclose(p, q, rtol=1e-5, atol=1e-6)


def test_plain_sgd_is_the_bare_step() -> None:
    torch.manual_seed(0)
    p = torch.randn(10_000, requires_grad=True)
    bare = p.detach().clone()
    rule = Sgd([p])
    for _ in range(20):
        grad = torch.randn_like(bare)
        p.grad = grad.clone()
        rule.step(0.03)
        bare -= grad * 0.03
    assert torch.equal(p.detach(), bare)


@settings(deadline=None, max_examples=25)
@given(epochs=st.integers(1, 20), steps=st.integers(2, 60), lr=st.floats(1e-5, 1.0))
def test_one_cycle_is_torchs(epochs: int, steps: int, lr: float) -> None:
    rates = learning_rates(config.Training(epochs=epochs, lr=lr, schedule="one-cycle"), steps)
    total = epochs * steps
    rule = TORCH.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = TORCH.lr_scheduler.OneCycleLR(rule, lr, total_steps=total, cycle_momentum=False)
    expected = []
    for _ in range(total):
        expected.append(rule.param_groups[0]["lr"])
        rule.step()
        if len(expected) < total:
            schedule.step()
    assert rates == pytest.approx(expected, rel=1e-9)


def test_constant_schedule_is_constant() -> None:
    assert learning_rates(config.Training(epochs=3, lr=0.1), 4) == [0.1] * 12


def small(mnist_5k: kn.ImageSet) -> kn.Splits:
    return mnist_5k.take(np.arange(0, 5000, 5)).split()


def test_train_loss_is_the_running_mean_over_examples(mnist_5k: kn.ImageSet) -> None:
    data = small(mnist_5k)
    model = kn.build("linear", data.train, 0)
    history = kn.fit(model, data, kn.recipe("linear", epochs=1, batch_size=64, seed=2))
    torch.manual_seed(0)
    net = nn.Linear(784, 10)
    rule = TORCH.Adam(net.parameters(), lr=1e-3)
    images = torch.from_numpy(data.train.pixels.copy()).flatten(1) / 256
    labels = torch.from_numpy(data.train.labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    total = 0.0
    for rows in torch.split(order, 64):
        rule.zero_grad()
        loss = F.cross_entropy(net(images[rows]), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()
        total += loss.item() * len(rows)
    assert history.last.train_loss == pytest.approx(total / len(labels), rel=1e-6)


@pytest.mark.parametrize("model", ["linear", "linear-from-scratch", "tutorial-cnn", "kilo-4k", "kilo-16k"])
def test_same_seed_same_bits_other_seed_other_bits(model: str, mnist_5k: kn.ImageSet) -> None:
    data = small(mnist_5k)

    def trained(seed: int) -> Tensor:
        net = kn.build(model, data.train, seed)
        torch.randn(seed + 3)
        kn.fit(net, data, kn.recipe(model, epochs=1, seed=seed))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


class OnFloats(nn.Module):
    """A net as most are written: floats in."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
        self.greatest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.greatest = max(self.greatest, float(x.max())) if self.training else self.greatest
        found: Tensor = self.layers(x)
        return found


class OnBytes(OnFloats):
    """A net that takes raw pixels."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        return super().forward(x.float() / 255)


@pytest.mark.parametrize("make", [OnFloats, OnBytes])
def test_a_module_of_ones_own_trains(make: type[OnFloats], mnist_5k: kn.ImageSet) -> None:
    data = small(mnist_5k)
    torch.manual_seed(0)
    net = make()
    history = kn.fit(net, data, kn.recipe("mine", epochs=8))
    assert net.greatest == pytest.approx(1.0)
    assert history.last.val_accuracy == kn.evaluate(net, data.val).accuracy
    assert kn.evaluate(net, data.test).accuracy > 0.6


def test_a_module_that_does_not_fit_is_refused(mnist_5k: kn.ImageSet) -> None:
    with pytest.raises(kn.ModelError, match="a logit a class"):
        kn.fit(nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), small(mnist_5k), kn.recipe("mine"))
    with pytest.raises(kn.ModelError, match="fails on 28x28x1"):
        kn.fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), small(mnist_5k), kn.recipe("mine"))


def test_full_split_has_no_validation(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.take(np.arange(0, 5000, 10)).split("full")
    history = kn.fit(kn.build("linear", data.train), data, kn.recipe("linear", epochs=2))
    assert [(r.val_loss, r.val_accuracy) for r in history.epochs] == [(None, None)] * 2
    assert not math.isnan(history.last.train_loss)


def test_default_model_learns_the_bundled_digits(mnist_5k: kn.ImageSet) -> None:
    """Validation accuracy; 8 of 750 images are two standard deviations below what was measured."""
    data = mnist_5k.split()
    history = kn.fit(kn.build("kilo-16k", data.train, 0), data, kn.recipe("kilo-16k", seed=0))
    assert (history.best.val_accuracy or 0) > 0.97
