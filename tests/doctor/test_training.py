"""The training doctor: what it finds in sick runs, that it finds none in healthy ones, and that it disturbs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

import kilonet as kn
from kilonet import cli, config
from kilonet.doctor import curves, scores, units
from kilonet.doctor.finding import Finding
from kilonet.doctor.training import diagnose, examine
from kilonet.doctor.view import look
from kilonet.metrics import Report, report
from kilonet.models import Classifier, adopt
from kilonet.rundir import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEN = tuple("0123456789")


def names(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings}


def one(findings: list[Finding], name: str) -> Finding:
    found = [finding for finding in findings if finding.name == name]
    assert len(found) == 1, names(findings)
    return found[0]


def fitted(model: str | nn.Module, data: kn.Splits, seed: int = 0, **settings: Any) -> list[Finding]:
    """What the doctor says of the last weights of a training."""
    training = kn.recipe(model if isinstance(model, str) else "own", seed=seed, threads=1, **settings)
    net = kn.build(model, data.train, seed) if isinstance(model, str) else adopt(model, data.train)
    return said(net, data, kn.fit(net, data, training), training)


def said(net: Classifier, data: kn.Splits, history: kn.History, training: kn.Training) -> list[Finding]:
    parts = {name: kn.evaluate(net, part) for name, part in data.parts().items() if name != "train"}
    return diagnose(config.Config(training=training), history, net, data.train, data.val, parts)


def never_argmax(model: Classifier, data: kn.ImageSet) -> set[str]:
    """The classes that no image is predicted as, by a plain loop over all of them."""
    with torch.no_grad():
        found = {int(model.eval()(torch.tensor(image[None])).argmax()) for image in data.images}
    return {name for k, name in enumerate(data.classes) if k not in found}


# The tutorial's CNN


@pytest.mark.parametrize("seed", range(3))
def test_the_tutorials_cnn_by_the_classes_it_never_predicts(seed: int, mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split("tutorial", seed)
    training = replace(config.resolve({"preset": "tutorial-cnn"}, {}).training, seed=seed, epochs=6, threads=1)
    model = kn.build("tutorial-cnn", data.train, seed)
    history = kn.fit(model, data, training)
    assert data.val is not None
    for cut in ((), (3,), (0, 8)):
        assert isinstance(model.net, nn.Sequential)
        last = model.net[4]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        with torch.no_grad():
            last.bias[list(cut)] = -100.0
        found = said(model, data, history, training)
        truth = never_argmax(model, data.val)
        if not truth:
            assert "dead-classes" not in names(found)
            continue
        dead = one(found, "dead-classes")
        assert not {"lr-too-low", "collapse", "miscalibrated"} & names(found)
        assert set(dead.evidence["never_predicted"]) == truth >= {TEN[k] for k in cut}
        assert dead.evidence["cause"] == "net.5"
        assert set(dead.evidence["dead_units"]["net.5"]) >= set(cut)
        assert all(f"'{name}'" in dead.what for name in truth)
        assert "net.5" in dead.why
        assert "ReLU" in dead.advice


def test_without_its_final_relu_no_layer_is_blamed(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split("tutorial", 0)
    model = kn.build("tutorial-cnn", data.train, 0)
    assert isinstance(model.net, nn.Sequential)
    model.net[5] = nn.Identity()
    view = look(model, data.train)
    assert view is not None
    assert view.final is None
    assert [layer.name for layer in view.layers] == ["net.1", "net.3"]


# Inside the net


class Both(nn.Module):
    """The same net with activations as modules, in place or not, or as calls."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.hidden, self.out = nn.Conv2d(1, 6, 5), nn.Linear(6 * 12 * 12, 20), nn.Linear(20, 10)
        self.relu = nn.ReLU(inplace=how == "in place")

    def activate(self, x: Tensor) -> Tensor:
        if self.how == "call":
            return F.relu(x)
        if self.how == "method":
            return x.relu()
        if self.how == "clamp":
            return x.clamp(min=0)
        found: Tensor = self.relu(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        x = self.activate(F.max_pool2d(self.conv(x), 2))
        found: Tensor = self.out(self.activate(self.hidden(x.flatten(1))))
        return found


def before_activation(model: Classifier, net: Both) -> list[Callable[[Tensor], Tensor]]:
    """What the two weighted layers give for raw images, before any activation, by hooks."""

    def given(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        def of(images: Tensor) -> Tensor:
            seen: list[Tensor] = []
            hook = layer.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
            with torch.no_grad():
                model(images)
            hook.remove()
            return seen[0]

        return of

    return [given(net.conv), given(net.hidden)]


@pytest.mark.parametrize("how", ["module", "in place", "call", "method", "clamp"])
def test_dead_units_however_the_activation_is_written(how: str, mnist_5k: kn.ImageSet) -> None:
    torch.manual_seed(0)
    net = Both(how)
    with torch.no_grad():
        net.conv.bias[[1, 4]] = -50.0  # type: ignore[index]
        net.hidden.bias[[0, 7, 19]] = -50.0
    model = adopt(net, mnist_5k)
    sample = torch.from_numpy(mnist_5k.images[np.random.default_rng(0).permutation(len(mnist_5k))[:1000]])
    conv, hidden = before_activation(model, net)
    with torch.no_grad():
        net.hidden.bias[8:19] -= hidden(sample)[:, 8:19].topk(2, dim=0).values.mean(0)  # each alive for one image alone
    dead = (conv(sample) <= 0).all(0).all(1).all(1), (hidden(sample) <= 0).all(0)
    view = look(model, mnist_5k)
    assert view is not None
    assert [layer.units for layer in view.layers] == [6, 20]
    assert [layer.dead.tolist() for layer in view.layers] == [d.nonzero().flatten().tolist() for d in dead]
    assert set(view.layers[0].dead) >= {1, 4}
    assert set(view.layers[1].dead) >= {0, 7, 19}
    assert not set(view.layers[1].dead) & set(range(8, 19))


def mlp(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), *last)


def test_a_dead_layer_is_named_with_its_units(mnist_5k: kn.ImageSet) -> None:
    net = mlp(nn.Linear(16, 10))
    with torch.no_grad():
        net[3].bias.fill_(-100.0)  # type: ignore[operator]
    found = fitted(net, mnist_5k.split(), epochs=3)
    dead = one(found, "dead-units")
    assert dead.evidence["layers"]["net.4"] == list(range(16))
    assert "net.4 (ReLU) 16 of 16" in dead.what
    assert "loss-not-falling" in names(found)
    assert not {"guessing", "lr-too-low", "overfitting", "miscalibrated"} & names(found)


@pytest.mark.parametrize(("last", "least"), [(nn.Softmax(1), 1.4612), (nn.Sigmoid(), 1.4612), (nn.Tanh(), 0.7966)])
def test_logits_that_a_last_activation_bounds(last: nn.Module, least: float, mnist_5k: kn.ImageSet) -> None:
    found = one(fitted(mlp(nn.Linear(16, 10), last), mnist_5k.split(), epochs=3), "squashed-logits")
    best = torch.full((10,), -1.0 if isinstance(last, nn.Tanh) else 0.0)
    best[0] = 1.0
    assert found.evidence["least_loss"] == pytest.approx(float(F.cross_entropy(best, torch.tensor(0))), abs=1e-6)
    assert found.evidence["least_loss"] == pytest.approx(least, abs=1e-4)
    assert found.evidence["cause"] == "net.6"


def test_weights_that_are_no_numbers(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = kn.build("kilo-4k", data.train)
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    found = diagnose(config.Config(), kn.History(), model, data.train, data.val, {})
    assert names(found) == {"broken-weights"}
    assert found[0].evidence["weights"] == ["net.0.weight"]


class Restless(nn.Module):
    """Draws in eval mode, too; holds batch norm, dropout, a frozen part, and a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.out = nn.Linear(4 * 26 * 26, 10)
        self.out.register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(F.dropout(self.body(x), 0.1).flatten(1))
        return found


def test_the_model_and_the_generators_stay_as_they_were(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = adopt(Restless(), data.train).train()
    model.get_submodule("net.body.1").eval()
    F.cross_entropy(model(torch.from_numpy(data.train.images[:64])), torch.zeros(64).long()).backward()  # type: ignore[no-untyped-call]

    def state() -> list[Any]:
        return [
            {name: value.clone() for name, value in model.state_dict().items()},
            [p.grad.clone() for p in model.parameters() if p.grad is not None],
            [module.training for module in model.modules()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            torch.random.get_rng_state(),
            np.random.get_state()[1].copy(),  # type: ignore[index]  # noqa: NPY002
        ]

    before = state()
    diagnose(config.Config(), kn.History(), model, data.train, data.val, {})
    for old, new in zip(before, state(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


class Uncopied(nn.Module):
    """Can't be copied once it has been used."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.out(x.flatten(1))
        found: Tensor = self.seen
        return found


def test_a_model_that_can_not_be_watched_is_examined_without(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = adopt(Uncopied(), data.train)
    model(torch.from_numpy(data.train.images[:2]))
    assert look(model, data.train) is None
    reports = {"val": guesses(750, 0.1)}
    assert "guessing" in names(diagnose(config.Config(), kn.History(), model, data.train, data.val, reports))


# Healthy runs


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("model", "epochs"), [("linear", 1), ("linear", 5), ("kilo-4k", 1), ("kilo-4k", 4)])
def test_nothing_is_found_in_healthy_runs(model: str, epochs: int, seed: int, mnist_5k: kn.ImageSet) -> None:
    assert fitted(model, mnist_5k.split("standard", seed), seed, epochs=epochs) == []


@pytest.mark.parametrize(
    "model",
    [
        "linear",
        "linear-from-scratch",
        "kilo-fast",
        "kilo-4k",
        "kilo-16k",
        pytest.param("kilo-100k", marks=pytest.mark.full),
    ],
)
def test_nothing_is_found_in_what_the_zoo_has_by_default(model: str, mnist_5k: kn.ImageSet) -> None:
    assert fitted(model, mnist_5k.split()) == []


def test_nothing_is_found_in_a_healthy_net_with_some_dead_units(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    net = mlp(nn.Linear(16, 10))
    assert fitted(net, data, epochs=5) == []
    view = look(adopt(net, data.train), data.train)
    assert view is not None
    assert any(len(layer.dead) for layer in view.layers)


def test_nothing_is_found_in_a_healthy_run_without_validation(mnist_5k: kn.ImageSet) -> None:
    assert fitted("linear", mnist_5k.split("full"), epochs=5) == []


# Sick runs


def test_shuffled_labels(mnist_5k: kn.ImageSet) -> None:
    rng = np.random.default_rng(0)
    data = replace(mnist_5k, labels=rng.permutation(mnist_5k.labels)).split()
    assert "guessing" in names(fitted("linear", data, epochs=8))
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    by_heart = fitted(net, data, epochs=20)
    assert names(by_heart) == {"guessing"}
    assert one(by_heart, "guessing").evidence["training"][0] > 500


def test_learning_rates_a_hundred_times_off(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    low = one(fitted("linear", data, lr=1e-5, epochs=8), "lr-too-low")
    assert "--lr 0.0001" in low.advice
    for optimizer, lr in (("sgd", 10.0), ("adam", 0.1)):
        high = one(fitted("linear", data, epochs=8, lr=lr, optimizer=optimizer), "lr-too-high")
        assert f"--lr {lr / 10:g}" in high.advice


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("linear", {"lr": 1e-8}),
        ("linear", {"lr": 1e-6}),
        ("linear", {"lr": 1e-6, "optimizer": "sgd"}),
        ("linear", {"lr": 1e-6, "epochs": 3}),
        ("kilo-4k", {"lr": 1e-7}),
        ("kilo-16k", {"lr": 1e-6}),
    ],
)
def test_a_net_that_stands_still_needs_a_higher_rate(
    model: str, settings: dict[str, Any], mnist_5k: kn.ImageSet
) -> None:
    found = fitted(model, mnist_5k.split(), **{"epochs": 6, **settings})
    assert names(found) == {"lr-too-low"}
    assert f"--lr {100 * settings['lr']:g}" in found[0].advice
    assert "nothing moved" in found[0].what
    assert found[0].evidence["moved"] < 0.02


@pytest.mark.parametrize(("model", "lr"), [("kilo-4k", 1e-4), ("kilo-16k", 1e-5)])
def test_running_averages_on_their_way_hide_no_rate_too_low(model: str, lr: float) -> None:
    found = fitted(model, kn.load("digits").split("standard", 300), 300, lr=lr, epochs=10)
    assert names(found) == {"lr-too-low"}


def test_the_tutorials_cnn_standing_still(mnist_5k: kn.ImageSet) -> None:
    found = fitted("tutorial-cnn", mnist_5k.split("tutorial"), lr=1e-7, epochs=3)
    assert "lr-too-low" in names(found)
    assert names(found) <= {"lr-too-low", "dead-classes"}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("linear", {}),
        ("linear", {"optimizer": "sgd", "lr": 0.01}),
        ("linear", {"lr": 1e-4}),
        ("kilo-4k", {}),
        ("kilo-4k", {"optimizer": "sgd", "lr": 0.1, "schedule": "constant"}),
    ],
)
@pytest.mark.parametrize("epochs", [3, 6])
def test_random_labels_at_a_sane_rate_are_no_matter_of_the_rate(
    model: str, settings: dict[str, Any], epochs: int, mnist_5k: kn.ImageSet
) -> None:
    data = replace(mnist_5k, labels=np.random.default_rng(0).permutation(mnist_5k.labels)).split()
    found = names(fitted(model, data, epochs=epochs, **settings))
    assert found & {"guessing", "loss-not-falling"}
    assert "lr-too-low" not in found


def test_no_gradient_is_no_matter_of_the_rate(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = kn.build("tutorial-cnn", data.train)
    assert isinstance(model.net, nn.Sequential)
    with torch.no_grad():
        model.net[4].bias.fill_(-100.0)  # type: ignore[operator]
    training = kn.recipe("tutorial-cnn", epochs=3, threads=1)
    assert "lr-too-low" not in names(said(model, data, kn.fit(model, data, training), training))


def test_weights_are_compared_with_those_that_the_seed_gives(mnist_5k: kn.ImageSet) -> None:
    model = kn.build("kilo-4k", mnist_5k, 3)
    before = torch.get_rng_state()
    assert units.moved(model, 3) == 0
    assert torch.equal(torch.get_rng_state(), before)
    other = units.moved(model, 4)
    assert other is not None
    assert other > 0.5
    with torch.no_grad():
        model.get_parameter("net.0.weight").mul_(1.25)
    assert units.moved(model, 3) == pytest.approx(0.25, abs=1e-6)
    assert units.moved(adopt(mlp(nn.Linear(16, 10)), mnist_5k), 3) is None


@pytest.mark.parametrize("lr", [1.0, 3.0])
def test_a_net_that_is_mostly_right_is_not_said_to_learn_nothing(lr: float, mnist_5k: kn.ImageSet) -> None:
    found = names(fitted("linear", mnist_5k.split(), lr=lr, epochs=6))
    assert "lr-too-high" in found
    assert not {"loss-not-falling", "guessing"} & found


def test_sixty_images_learned_by_heart(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    few = replace(data, train=data.train.take(np.random.default_rng(0).permutation(len(data.train))[:60]))
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    found = one(fitted(net, few, epochs=40), "overfitting")
    assert found.evidence["training_accuracy"] == 1.0


def test_a_test_part_of_another_kind(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    assert data.test is not None
    other = replace(data, test=replace(data.test, images=255 - data.test.pixels))
    found = fitted("linear", other, epochs=5)
    assert names(found) == {"test-contradicts"}


def test_one_class_smothers_the_others(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    keep = (data.train.labels == 4) | (np.random.default_rng(0).random(len(data.train)) < 0.01)
    found = fitted("linear", replace(data, train=data.train.take(np.flatnonzero(keep))), epochs=10)
    collapse = one(found, "collapse")
    assert "'4'" in collapse.what
    assert collapse.evidence["cause"] == "imbalance"
    assert not {"guessing", "overfitting"} & names(found)


def test_a_class_that_is_not_in_the_training_part(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    some = replace(data, train=data.train.take(np.flatnonzero(data.train.labels != 6)))
    dead = one(fitted("kilo-4k", some, epochs=4), "dead-classes")
    assert dead.evidence["never_predicted"] == ["6"]
    assert "the training part has no image of '6'" in dead.why


# Scores, from arrays


def made(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Report:
    classes = tuple(str(k) for k in range(probabilities.shape[1]))
    return report(np.log(probabilities), labels, classes, np.arange(len(labels)))


def guesses(n: int, right: float, seed: int = 0, sure: float = 0.5) -> Report:
    """Answers of which a share is the label and the others are drawn, all as sure."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    answers = np.where(rng.random(n) < (right - 0.1) / 0.9, labels, rng.integers(0, 10, n))
    probabilities = np.full((n, 10), (1 - sure) / 9)
    probabilities[np.arange(n), answers] = sure
    return made(probabilities, labels)


def test_guessing_is_told_from_knowing() -> None:
    for n in (60, 400):
        assert sum(scores.guessing(guesses(n, 0.1, seed), "val", None) is None for seed in range(300)) <= 3
    assert all(scores.guessing(guesses(400, 0.4, seed), "val", None) is None for seed in range(100))
    found = scores.guessing(guesses(400, 0.1), "val", None)
    assert found is not None
    measured = guesses(400, 0.1)
    chance = found.evidence["chance"]
    kappa = (measured.accuracy - chance) / (1 - chance)
    assert kappa == pytest.approx(cohen_kappa_score(measured.labels, measured.predicted), abs=1e-12)


def test_a_contradiction_must_matter_and_be_beyond_chance() -> None:
    same = {"val": guesses(5000, 0.9, 1), "test": guesses(5000, 0.9, 2)}
    assert scores.contradiction(same) is None
    assert scores.contradiction({**same, "test": guesses(60, 0.8)}) is None
    assert scores.contradiction({**same, "test": guesses(5000, 0.85)}) is not None
    assert scores.contradiction({"val": same["val"]}) is None


def drawn(n: int, seed: int, sharpen: float) -> Report:
    """Labels drawn from probabilities, which are then made sharper or blunter."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 5))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > true.cumsum(1)).sum(1)
    told = np.exp(sharpen * logits)
    return made(told / told.sum(1, keepdims=True), labels)


@pytest.mark.parametrize("n", [50, 300, 5000])
def test_a_calibrated_model_is_not_called_miscalibrated(n: int) -> None:
    found = [scores.miscalibration(drawn(n, seed, 1.0), "val", True) for seed in range(100)]
    assert found == [None] * 100


def test_a_model_too_sure_or_too_shy_is() -> None:
    assert scores.miscalibration(drawn(2000, 0, 3.0), "val", False) is not None
    assert scores.miscalibration(drawn(2000, 0, 0.3), "val", True) is not None
    assert scores.miscalibration(drawn(2000, 0, 0.3), "val", False) is None


# Curves, from figures


def course(train: list[float], val: list[float] | None, images: int = 3500, **settings: Any) -> curves.Curves:
    epochs = [
        kn.Epoch(i + 1, loss, None if val is None else val[i], None if val is None else 0.5, 1e-3, 1.0)
        for i, loss in enumerate(train)
    ]
    training = kn.recipe("linear", **settings)
    return curves.Curves.of(training, kn.History(epochs), np.full(10, images // 10), 10)


EVEN = [2.29 - 0.02 * i for i in range(15)]
HEALTHY = [1.63, 0.915, 0.684, 0.573, 0.504, 0.459, 0.426, 0.398, 0.376, 0.358]


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (HEALTHY, HEALTHY, set()),
        (HEALTHY[:2], HEALTHY[:2], set()),
        (HEALTHY[:1], HEALTHY[:1], set()),
        ([], [], set()),
        (EVEN, EVEN, {"lr-too-low"}),
        (EVEN, None, {"lr-too-low"}),
        (EVEN, EVEN[::-1], set()),
        (EVEN, [2.05, 2.2, 2.3, *EVEN[3:]], {"lr-too-low"}),
        (EVEN, [*EVEN[:8], 2.2, *EVEN[9:]], set()),
        ([2.3, 2.2, 2.25, 2.15, 2.2, 2.1, 2.15, 2.0], [2.25, 2.2, 2.15, 2.1, 2.05, 2.0, 1.95, 1.9], set()),
        ([2.305, 2.303, 2.304, 2.303], [2.303] * 4, {"loss-not-falling"}),
        ([2.8, 2.5, 2.6, 2.5], [2.5, 2.6, 2.5, 2.6], {"loss-not-falling"}),
        ([1.2, 0.5, 0.9, 0.4], [1.0, 0.6, 1.0, 0.5], {"lr-too-high"}),
        ([1.2, 0.1, 0.11, 0.1], [1.0, 0.2, 0.2, 0.2], set()),
        ([1.2, 0.02, 0.05, 0.03], [1.0, 0.2, 0.2, 0.2], set()),
    ],
)
def test_curves(train: list[float], val: list[float] | None, expected: set[str]) -> None:
    seen = course(train, val)
    checks: list[Callable[[curves.Curves], Finding | None]] = [curves.too_low, curves.not_falling, curves.too_high]
    assert {found.name for check in checks if (found := check(seen))} == expected


STILL = [2.788, 2.787, 2.787, 2.786]
AT_CHANCE = [2.303, 2.302, 2.303, 2.302]


@pytest.mark.parametrize(
    ("train", "moved", "expected"),
    [
        (STILL, None, True),
        (STILL, 0.001, True),
        (STILL, 0.5, False),
        (STILL[:2], None, False),
        (STILL[:1], None, False),
        (AT_CHANCE, None, False),
        (AT_CHANCE, 0.001, True),
        (AT_CHANCE, 0.1, False),
        ([2.79, 2.60, 2.45, 2.35], None, False),
        ([2.79, 2.60, 2.45, 2.35], 0.02, False),
        (HEALTHY, 0.001, False),
        ([], None, False),
    ],
)
def test_standing_still_by_the_curve_and_the_weights(train: list[float], moved: float | None, expected: bool) -> None:
    assert (curves.standing_still(course(train, None), moved) is not None) == expected
    assert (curves.standing_still(course(train, train), moved) is not None) == expected


def test_a_flat_loss_at_guessing_speaks_for_either_rate() -> None:
    flat, noisy = curves.not_falling(course(AT_CHANCE, None)), curves.not_falling(course([2.36, 2.33, 2.34], None))
    assert flat is not None
    assert "--lr 0.1 and --lr 0.0001" in flat.advice
    assert noisy is not None
    assert "lower the learning rate" in noisy.advice


def test_a_loss_that_comes_down_to_guessing_is_slow_only_if_the_weights_are() -> None:
    falling = course([2.40, 2.33, 2.30], [2.35, 2.325, 2.30])
    assert curves.too_low(falling, 0.1) is not None
    assert curves.too_low(falling, 0.8) is None
    assert curves.too_low(course(EVEN, EVEN), 0.8) is not None


def test_little_is_asked_of_a_short_training() -> None:
    assert curves.standing_still(course([2.31], [2.30]), 0.0) is None
    assert curves.standing_still(course([2.31], [2.30], images=50_000), 0.0) is not None
    assert course([2.31], [2.30]).early
    assert curves.not_falling(course([2.31], [2.30])) is None
    assert curves.not_falling(course([2.31], [2.30], images=50_000)) is not None


def test_a_few_steps_that_miss_a_class_are_no_finding(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = kn.build("linear", data.train)
    training = kn.recipe("linear")
    with torch.no_grad():
        model.get_parameter("net.bias")[5] = -100.0
    for epochs, expected in ((1, set()), (3, {"dead-classes"})):
        history = kn.History([kn.Epoch(i + 1, 1.2 - 0.1 * i, 1.0, 0.7, 1e-3, 1.0) for i in range(epochs)])
        assert expected == names(said(model, data, history, training)) & {"dead-classes"}


def test_steps_that_overshoot_explain_a_rising_validation_loss(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    model = kn.build("linear", data.train)
    kn.fit(model, data, kn.recipe("linear", epochs=3, threads=1))
    losses = zip([1.2, 0.5, 0.9, 0.3], [0.5, 0.4, 0.6, 0.9], strict=True)
    history = kn.History([kn.Epoch(i + 1, train, val, 0.8, 1e-3, 1.0) for i, (train, val) in enumerate(losses)])
    reports = {"val": guesses(2000, 0.85, sure=0.85)}
    assert names(diagnose(config.Config(), history, model, data.train, data.val, reports)) == {"lr-too-high"}


def test_a_rise_within_the_noise_of_few_images_is_none() -> None:
    rise = [1.2, 0.5, 0.7, 0.4]
    assert curves.too_high(course(rise, None, images=60)) is None
    assert curves.too_high(course(rise, None, images=3500)) is not None
    assert curves.too_high(course([1.2, 0.5, 0.56, 0.4], None, images=35_000)) is None


def test_one_bump_at_the_peak_of_one_cycle_is_no_rate_too_high() -> None:
    """The losses of `kilo-100k` on the bundled images with seed 0, around its eighth epoch, and what is like them."""
    bump = [2.0, 0.5, 0.16, 0.216, 0.12, 0.05, 0.015]
    assert curves.too_high(course(bump, None, images=3500)) is None
    for losses in (
        [2.0, 0.5, 0.16, 0.26, 0.12, 0.05, 0.015],
        [2.0, 0.5, 0.16, 0.216, 0.21, 0.05, 0.015],
        [2.0, 0.5, 0.16, 0.216, 0.12, 0.11, 0.1],
    ):
        assert curves.too_high(course(losses, None, images=3500)) is not None


def test_overfitting_by_its_curve_or_by_its_gap() -> None:
    train, rising = [1.0, 0.5, 0.2, 0.1, 0.05], [1.0, 0.5, 0.4, 0.6, 0.9]
    flat = course(train, [1.0, 0.5, 0.41, 0.40, 0.42])
    measured = guesses(2000, 0.85, sure=0.85)
    assert curves.overfitting(flat, measured, None) is None
    assert curves.overfitting(flat, measured, (900, 1000)) is None
    assert curves.overfitting(flat, measured, (1000, 1000)) is not None
    assert curves.overfitting(flat, guesses(20, 0.85, sure=0.85), (50, 50)) is None
    found = curves.overfitting(course(train, rising), measured, None)
    assert found is not None
    assert "--epochs 3" in found.advice


def test_a_history_that_holds_no_number(mnist_5k: kn.ImageSet) -> None:
    data = mnist_5k.split()
    history = kn.History([kn.Epoch(1, 0.9, 0.8, 0.7, 1e-3, 1.0), kn.Epoch(2, 0.8, float("inf"), 0.7, 1e-3, 1.0)])
    found = diagnose(config.Config(), history, kn.build("linear", data.train), data.train, data.val, {})
    assert names(found) == {"diverged"}
    assert "after epoch 2" in found[0].what


# Run directories


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    project = ["--project", str(home / "runs")]
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "--model", "linear", "--epochs", "3", "--name", "r", "--threads", "1", *project])
    assert not left.value.code
    return home / "runs" / "r"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    path = Path(shutil.copytree(trained, tmp_path / "r"))
    (path / "state" / "finished.json").unlink(missing_ok=True)
    return Run(path)


def test_a_run_is_examined_as_it_was_diagnosed(run: Run) -> None:
    assert examine(run) == []
    with np.load(run.path / "predictions.npz") as kept:
        arrays = dict(kept)
    arrays["test_labels"] = np.roll(arrays["test_labels"], 300)
    np.savez(run.path / "predictions.npz", **arrays)
    found = examine(run)
    assert names(found) == {"test-contradicts"}
    train, val = run.part("train"), run.part("val")
    assert train is not None
    reports = {
        part: report(np.log(arrays[f"{part}_probabilities"]), arrays[f"{part}_labels"], TEN, np.arange(750))
        for part in ("val", "test")
    }
    assert found == diagnose(run.config, run.history(), run.model(), train, val, reports)
    (run.path / "metrics.json").unlink()
    assert examine(run) == [], "scores of a training that has gone on since"


def test_an_unfinished_run_is_examined_as_far_as_it_got(run: Run) -> None:
    (run.path / "metrics.json").unlink()
    (run.path / "predictions.npz").unlink()
    assert examine(run) == []
    model = run.model()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    kn.save_model(model, run.path / "weights" / "best.safetensors")
    assert {"collapse"} <= names(examine(run))


def test_where_a_training_went_wrong(run: Run) -> None:
    note = run.path / "state" / "failed.json"
    note.write_text(json.dumps({"epoch": 4, "step": 17, "loss": "nan"}))
    found = examine(run)
    assert names(found) == {"diverged"}
    assert "nan in epoch 4, step 17" in found[0].what
    assert "after epoch 3" in found[0].why
    assert "--lr 0.0001" in found[0].advice
    note.write_text(json.dumps({"epoch": 2, "step": None, "loss": "inf"}))
    assert "after epoch 2" in examine(run)[0].what


def test_a_training_that_went_wrong_at_once(run: Run) -> None:
    for name in ("results.csv", "weights/best.safetensors", "weights/last.safetensors", "predictions.npz"):
        (run.path / name).unlink()
    with pytest.raises(kn.RunError, match="nothing to examine yet"):
        examine(run)
    (run.path / "state" / "failed.json").write_text('{"epoch": 1, "step": 3, "loss": "nan"}')
    assert [finding.name for finding in examine(run)] == ["diverged"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"epoch": 1}', '{"epoch": "x", "step": 1, "loss": "nan"}', "\x00" * 9, "[" * 99999],
)
def test_a_damaged_note_of_a_failure_is_one_line(run: Run, text: str) -> None:
    (run.path / "state" / "failed.json").write_text(text)
    with pytest.raises(kn.RunError) as error:
        examine(run)
    assert "\n" not in error.value.message
    assert "failed.json" in error.value.message


@pytest.mark.parametrize("name", ["predictions.npz", "results.csv", "weights/best.safetensors", "state/split.npz"])
def test_what_is_damaged_is_said_and_the_rest_examined(run: Run, name: str) -> None:
    path = run.path / name
    path.write_bytes(path.read_bytes()[:70])
    found = examine(run)
    assert names(found) == {"not-examined"}
    assert name in found[0].what


def test_predictions_that_can_not_be_these(run: Run) -> None:
    with np.load(run.path / "predictions.npz") as kept:
        arrays = dict(kept)
    for change in (
        {"val_labels": arrays["val_labels"] + 9},
        {"val_probabilities": arrays["val_probabilities"][:, :4]},
        {"val_probabilities": arrays["val_probabilities"] * np.nan},
        {"classes": np.array(list("abcdefghij"))},
    ):
        np.savez(run.path / "predictions.npz", **{**deepcopy(arrays), **change})
        assert names(examine(run)) == {"not-examined"}
