"""The native engine against PyTorch: each layer, whole models, the update rules, on every set of instructions."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import kilonet as kn
from kilonet import engines, optimizers
from kilonet.augment import OFF, warp, warps
from kilonet.batches import Resident
from kilonet.config import Training, recipe
from kilonet.engines import native
from kilonet.engines import torch as plain
from kilonet.engines.layers import operations
from kilonet.errors import ConfigError, ModelError
from kilonet.models import Classifier
from kilonet.train import learning_rates
from kilonet.zoo import ZOO

CPU = torch.device("cpu")


def runnable(variant: str) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILONET_KERNELS", variant)
        native.library.cache_clear()
        try:
            return native.library().variant == variant
        except ConfigError:
            return False
        finally:
            native.library.cache_clear()


@pytest.fixture(params=native.VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this processor has."""
    if not runnable(request.param):
        pytest.skip(f"no {request.param} kernels here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILONET_KERNELS", request.param)
        native.library.cache_clear()
        yield request.param
    native.library.cache_clear()


def classifier(net: nn.Module, shape: tuple[int, int, int], classes: int, mean: float = 0.0) -> Classifier:
    names = tuple(map(str, range(classes)))
    return Classifier(net, name="net", shape=shape, classes=names, mean=[mean] * shape[0], std=[256.0])


def some(shape: tuple[int, int, int], classes: int, n: int, seed: int) -> Resident:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (n, *shape), dtype=np.uint8))
    return Resident(images, torch.from_numpy(rng.integers(0, classes, n)))


def difference(a: Tensor, b: Tensor, least: float = 1e-12) -> float:
    """Norm of the difference over the norm of the second, this being `least` or more."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / max(float(b.norm()), least))


def worst(model: Classifier, data: Resident, smoothing: float = 0.0, by: Tensor | None = None) -> float:
    """The greatest relative difference of loss, gradients, running statistics and logits from PyTorch's in float64.

    A gradient that all but cancels out is held against a hundredth of the whole model's.
    """
    rows = torch.randperm(len(data))
    exact = copy.deepcopy(model).double().train()
    images = data.images[rows]
    loss = F.cross_entropy(exact(images if by is None else warp(images, by)), data.labels[rows],
                           label_smoothing=smoothing)  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]
    net = native.Net(model)
    found, gradients = net.gradients(data, rows, smoothing, by)
    expected = loss.item()
    differences = [abs(found - expected) / max(1e-12, expected)]
    wanted = [p.grad for p in exact.parameters() if p.grad is not None]
    whole = float(torch.cat([gradient.flatten() for gradient in wanted]).norm())
    differences += [difference(a, b, max(0.01 * whole, 1e-12)) for a, b in zip(gradients, wanted, strict=True)]
    differences += [difference(a, b) for a, b in zip(model.net.buffers(), exact.net.buffers(), strict=True)]
    with torch.no_grad():
        differences.append(difference(net.logits(data.images), exact.eval()(data.images)))
    return max(differences)


def rounded(net: nn.Module) -> nn.Module:
    """Weights of few bits, so that sums of products are exact and float32 decides as float64 does, ties included."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p.clamp(-1, 1) * 16).round() / 16)
    return net


sizes = st.integers(1, 3)


@st.composite
def convolutions(draw: Any) -> tuple[nn.Module, tuple[int, int, int]]:
    """A convolution, perhaps with a ReLU and a pool, and a second one or a linear layer behind."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels, height, width = draw(sizes), draw(st.integers(4, 13)), draw(st.integers(4, 13))
    kernel, stride, padding = ((draw(sizes), draw(sizes)) for _ in range(3))
    first = draw(st.integers(1, 14))
    layers: list[nn.Module] = [
        nn.Conv2d(channels, first, kernel, stride, (padding[0] - 1, padding[1] - 1), bias=draw(st.booleans()))
    ]
    layers += [nn.ReLU()] if draw(st.booleans()) else []
    kind = draw(st.sampled_from([None, nn.MaxPool2d, nn.AvgPool2d]))
    layers += [kind(draw(st.integers(1, 2)), draw(st.integers(1, 3)))] if kind else []
    layers += [nn.ReLU()] if draw(st.booleans()) else []
    kernel, stride, padding = ((draw(sizes), draw(sizes)) for _ in range(3))
    groups = draw(st.sampled_from([n for n in range(1, first + 1) if first % n == 0]))
    outputs = groups * draw(st.integers(1, max(1, 14 // groups)))
    second = nn.Conv2d(first, outputs, kernel, stride, padding, groups=groups)
    if draw(st.booleans()):
        layers += [second, *([nn.ReLU(inplace=True)] if draw(st.booleans()) else [])]
        kind = draw(st.sampled_from([None, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d]))
        layers += [kind(1)] if kind else []
    layers.append(nn.Flatten())
    try:
        features = nn.Sequential(*layers)(torch.zeros(1, channels, height, width)).shape[1]
    except RuntimeError:
        reject()
    layers += [nn.Linear(features, draw(st.integers(2, 12)), bias=draw(st.booleans()))]
    layers += [nn.ReLU(), nn.Linear(layers[-1].out_features, 3)] if draw(st.booleans()) else []  # type: ignore[arg-type]
    return nn.Sequential(*layers), (channels, height, width)


def outputs(net: nn.Module) -> int:
    return int([m for m in net.modules() if isinstance(m, nn.Linear)][-1].out_features)


@settings(max_examples=60)
@given(convolutions(), st.integers(1, 40), st.integers(0, 2**31))
def test_layers_of_any_size(variant: str, made: tuple[nn.Module, tuple[int, int, int]], n: int, seed: int) -> None:
    net, shape = made
    data = some(shape, outputs(net), n, seed)
    assert worst(classifier(rounded(net), shape, outputs(net)), data) < 1e-5
    assert worst(classifier(net, shape, outputs(net), mean=30.0).double(), data, smoothing=0.1) < 1e-10


@settings(max_examples=25)
@given(st.integers(1, 14), st.integers(2, 9), st.booleans(), st.integers(2, 40), st.integers(0, 2**31))
def test_batch_norm_of_any_size(variant: str, width: int, side: int, relu: bool, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, width, 3, padding=1, bias=relu), nn.BatchNorm2d(width, momentum=0.3)]
    layers += [nn.ReLU(), nn.Conv2d(width, 3, 2), nn.BatchNorm2d(3), nn.ReLU()] if relu and side > 2 else []
    size = 3 * (side - 1) ** 2 if relu and side > 2 else width * side * side
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 4))
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    data = some((1, side, side), 4, n, seed)
    assert worst(classifier(net, (1, side, side), 4, mean=99.0).double(), data) < 1e-8
    if not relu:
        assert worst(classifier(net.float(), (1, side, side), 4, mean=99.0), data) < 1e-5


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("source", ["mnist-5k", "digits"])
def test_zoo_models(variant: str, name: str, source: str) -> None:
    data = kn.load(source)
    resident = Resident.of(data.take(np.arange(0, len(data), 40)), CPU)
    assert worst(kn.build(name, data, seed=1).double(), resident, smoothing=0.05) < 1e-9


def losses(engine: Any, name: str, training: Training, steps: int, precise: bool = False) -> list[float]:
    """Losses of the first steps on `mnist-5k`, at the rates of a whole training on 50,000 images."""
    data = kn.load("mnist-5k")
    model = kn.build(name, data, seed=training.seed)
    model = model.double() if precise else model
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(7))[: steps * training.batch_size]
    rates = learning_rates(training, 782)[:steps]
    optimizer = optimizers.optimizer(model, training)
    warped = warps(training, len(rows), min(data.shape[1:]), 0)
    found = engine.steps(model, optimizer, Resident.of(data, CPU), rows, training, rates, warped)
    return [loss for several in found for loss in several]


@functools.cache
def of_the_torch_engine(name: str, training: Training, steps: int) -> list[Any]:
    """Losses in float32 and in float64."""
    return [np.array(losses(plain, name, training, steps, precise)) for precise in (False, True)]


@pytest.mark.parametrize("name", ZOO)
def test_steps_are_those_of_the_torch_engine(variant: str, name: str) -> None:
    """In float64 all of them; in float32 up to where either parts from its steps in float64.

    Maxima that nearly tie part them, and in deeper nets Adam's first step, the sign of a gradient that may all but
    cancel out. Gradients and update rules in float32 have tests of their own.
    """
    training = recipe(name, seed=3, **OFF)
    steps = {"kilo-16k": 20, "kilo-100k": 10}.get(name, 50)
    ours, exact = (np.array(losses(native, name, training, steps, precise)) for precise in (False, True))
    theirs, reference = of_the_torch_engine(name, training, steps)
    np.testing.assert_allclose(exact, reference, rtol=1e-9)
    parted = np.maximum(abs(ours / reference - 1), abs(theirs / reference - 1)) > 1e-6
    together = int(parted.argmax()) if parted.any() else steps
    assert together >= {"kilo-fast": 10, "kilo-4k": 1, "kilo-16k": 1, "kilo-100k": 1}.get(name, steps)
    np.testing.assert_allclose(ours[:together], theirs[:together], rtol=1e-5)


@pytest.mark.parametrize("kernel", [(3, 3), (4, 1), (1, 6), (5, 7), (7, 5)])
@pytest.mark.parametrize("groups", [2, 6])
def test_grouped_convolutions_with_large_kernels(variant: str, kernel: tuple[int, int], groups: int) -> None:
    torch.manual_seed(sum(kernel))
    padding = (kernel[0] // 2, kernel[1] // 2)
    for stride in (1, 2, (3, 1)):
        net = nn.Sequential(
            nn.Conv2d(2, 6, 1),
            nn.Conv2d(6, 12, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 12, kernel, padding=padding, groups=12),
            nn.Conv2d(12, 5, 1),
            nn.Flatten(),
        )
        net.append(nn.Linear(net(torch.zeros(2, 2, 11, 13)).shape[1], 4))
        assert worst(classifier(net, (2, 11, 13), 4).double(), some((2, 11, 13), 4, 21, seed=1)) < 1e-8


@pytest.mark.parametrize("name", ["linear", "tutorial-cnn"])
def test_augmented_steps_are_those_of_the_torch_engine(variant: str, name: str) -> None:
    training = recipe(name, shift=2.0, rotate=10.0, zoom=0.1, shear=5.0, elastic=1.5, label_smoothing=0.1)
    ours, theirs = (losses(engine, name, training, 50) for engine in (native, plain))
    assert len(ours) == 50
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_an_epoch_in_float64_follows_pytorch(variant: str) -> None:
    training = recipe("tutorial-cnn")
    ours, theirs = (losses(engine, "tutorial-cnn", training, 78, precise=True) for engine in (native, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize(
    ("chosen", "make"),
    [
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=0.01)),
        ({"optimizer": "adam", "weight_decay": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01)),
        ({"optimizer": "adamw", "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.01)),
        (
            {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01),
        ),
    ],
)
@pytest.mark.parametrize("precise", [True, False])
def test_update_rules_over_a_hundred_steps(variant: str, chosen: dict[str, Any], make: Any, precise: bool) -> None:
    torch.manual_seed(0)
    data = some((1, 4, 4), 3, 320, 5)
    dtype = torch.float64 if precise else torch.float32
    model = classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4), 3).to(dtype)
    reference = copy.deepcopy(model)
    training = Training(batch_size=32, lr=0.01, **chosen)
    ours, theirs = optimizers.optimizer(model, training), make(list(reference.parameters()))
    for _ in range(10):
        rows = torch.randperm(len(data))
        list(native.steps(model, ours, data, rows, training, [0.01] * 10, None))
        for batch in torch.split(rows, 32):
            theirs.zero_grad()
            F.cross_entropy(reference(data.images[batch]), data.labels[batch]).backward()  # type: ignore[no-untyped-call]
            theirs.step()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        assert difference(a, b) < (1e-12 if precise else 2e-5)


def trained(name: str, threads: int, calls: int, **chosen: Any) -> dict[str, Any]:
    """All that a training over 300 images leaves, done in so many calls of the kernels."""
    data = kn.load("digits").take(np.arange(300))
    training = recipe(name, batch_size=70, **chosen)
    model = kn.build(name, data, seed=2)
    optimizer, resident = optimizers.optimizer(model, training), Resident.of(data, CPU)
    net = native.Net(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "threads", lambda: threads)
        rows, rates, found = torch.randperm(300, generator=torch.Generator().manual_seed(1)), [0.01] * 5, []
        for part in np.array_split(np.arange(5), calls):
            first, last = int(part[0]), int(part[-1]) + 1
            found += net.train(optimizer, resident, rows[first * 70 : last * 70], 70, rates[first:last])
    kept = {**model.state_dict(), **optimizer.state()}
    return {"losses": found, **{key: value.numpy().tobytes() for key, value in kept.items()}}


@pytest.mark.parametrize("name", ZOO)
def test_bits_depend_neither_on_threads_nor_on_calls(variant: str, name: str) -> None:
    expected = trained(name, 1, 1)
    assert all(trained(name, threads, calls) == expected for threads, calls in ((1, 3), (2, 1), (3, 5), (7, 2)))


@pytest.mark.parametrize("short", [0.0, 1.0])
def test_whoever_is_the_faster_trains_to_the_same_bits(short: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between several threads and one, of a step that counts as short."""
    used, train = list[int | None](), native.Net.train

    def noted(self: native.Net, *given: Any) -> list[float]:
        used.append(given[-1])
        return train(self, *given)

    monkeypatch.setattr(native, "SHORT_STEP", short)
    monkeypatch.setattr(native, "threads", lambda: 2)
    monkeypatch.setattr(native.Net, "train", noted)
    data = kn.load("mnist-5k")
    model, training = kn.build("linear", data), recipe("linear")
    rows, rates = torch.arange(2000), [1e-3] * 125
    list(native.steps(model, optimizers.optimizer(model, training), Resident.of(data, CPU), rows,
                      Training(batch_size=16), rates, None))  # fmt: skip
    assert (1 in used) == bool(short)
    expected = kn.build("linear", data)
    net = native.Net(expected)
    train(net, optimizers.optimizer(expected, training), Resident.of(data, CPU), rows, 16, rates)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ZOO)
def test_validation_is_that_of_torch(variant: str, name: str) -> None:
    data = kn.load("mnist-5k")
    model = kn.build(name, data)
    loss, accuracy = native.measure(model, Resident.of(data, CPU), 1)
    expected = plain.measure(model, Resident.of(data, CPU), 500)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert accuracy == pytest.approx(expected[1], abs=1e-3)


ENDS_IN_ONE_PIXEL = {
    "a convolution, then linear": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(5, 4)
    ),
    "a convolution that gives the logits": lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 4), nn.Flatten()),
    "another over its pixel": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Conv2d(3, 5, 4), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.Flatten()
    ),
}


@pytest.mark.parametrize("make", ENDS_IN_ONE_PIXEL.values(), ids=ENDS_IN_ONE_PIXEL.keys())
def test_maps_of_one_pixel(variant: str, make: Any) -> None:
    data = some((1, 6, 6), 4, 37, 3)
    torch.manual_seed(0)
    assert worst(classifier(make(), (1, 6, 6), 4).double(), data) < 1e-10


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_nan_passes_through_every_layer(variant: str, pool: Any) -> None:
    """So that a training that went wrong stops."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), pool(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten())
    model, data = classifier(net, (1, 6, 6), 4), some((1, 6, 6), 4, 20, 1)
    with torch.no_grad():
        model.net[0].weight[1, 0, 1, 1] = torch.nan  # type: ignore[index]
    assert np.isnan(native.measure(model, data, 1)[0])
    assert np.isnan(native.Net(model).gradients(data, torch.arange(20))[0])


def test_the_norms_count_their_batches() -> None:
    data = kn.load("digits")
    model, training = kn.build("kilo-4k", data), recipe("kilo-4k")
    optimizer = optimizers.optimizer(model, training)
    list(native.steps(model, optimizer, Resident.of(data, CPU), torch.arange(300), training, [0.01] * 5, None))
    assert [int(m.num_batches_tracked) for m in model.modules() if isinstance(m, nn.BatchNorm2d)] == [5] * 6  # type: ignore[arg-type]
    assert isinstance(optimizer, optimizers.Adam)
    assert optimizer.steps == 5


@pytest.mark.parametrize("engine", [native, plain])
def test_a_loss_that_is_not_finite_ends_at_its_step(engine: Any) -> None:
    data = kn.load("digits")
    model, training = kn.build("linear", data), Training(optimizer="sgd", lr=1e39)
    found = engine.steps(
        model, optimizers.optimizer(model, training), Resident.of(data, CPU), torch.arange(640), training, [1e39] * 10,
        None,
    )  # fmt: skip
    finite = []
    for several in found:
        finite += [np.isfinite(loss) for loss in several]
        if not all(finite):
            break
    assert finite == [True, False]


@pytest.mark.parametrize("elastic", [0.0, 5.0])
def test_warps_are_those_of_the_augmentation(variant: str, elastic: float) -> None:
    data = some((2, 9, 12), 3, 50, 1)
    by = warps(Training(shift=8, rotate=40, zoom=0.4, shear=20, elastic=elastic), 50, 9, 2)
    assert by is not None
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(280, 3))
    model = classifier(net, (2, 9, 12), 3, mean=20.0)
    assert worst(copy.deepcopy(model), data, by=by) < 1e-5


def test_others_can_work_meanwhile() -> None:
    data = kn.load("mnist-5k")
    model, training = kn.build("kilo-16k", data), recipe("kilo-16k")
    net, optimizer = native.Net(model), optimizers.optimizer(model, training)
    resident, done, counted = Resident.of(data, CPU), threading.Event(), 0

    def train() -> None:
        net.train(optimizer, resident, torch.arange(1920), 64, [0.01] * 30)
        done.set()

    thread = threading.Thread(target=train)
    thread.start()
    while not done.is_set():
        counted += 1
    thread.join()
    assert counted > 1000


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)), "layer Dropout"),
        (nn.Sequential(nn.Conv2d(1, 4, 3, dilation=2), nn.Flatten(), nn.Linear(64, 10)), "dilated"),
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.Flatten(), nn.Linear(256, 10)), "padded convolution"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, padding=1), nn.Flatten(), nn.Linear(64, 10)), "padded"),
        (nn.Sequential(nn.BatchNorm2d(1, affine=False), nn.Flatten(), nn.Linear(64, 10)), "batch norm"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10).requires_grad_(False)), "frozen"),
    ],
)
def test_what_the_kernels_do_not_know_is_computed_by_torch(net: nn.Module, reason: str) -> None:
    model = classifier(net, (1, 8, 8), 10)
    chosen = engines.choose("auto", model)
    assert chosen.name == "torch"
    assert reason in chosen.about
    with pytest.raises(ModelError, match=r"can't be computed natively.*"):
        engines.choose("native", model)
    assert engines.choose("torch", kn.build("linear", kn.load("digits"))).name == "torch"


def test_auto_leaves_wide_linear_layers_to_torch() -> None:
    def wide(hidden: int) -> Classifier:
        return classifier(
            nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)), (1, 8, 8), 10
        )

    assert engines.choose("auto", wide(4_000)).name == "native"
    chosen = engines.choose("auto", wide(6_000))
    assert (chosen.name, "444,000 weights in linear layers" in chosen.about) == ("torch", True)
    assert engines.choose("native", wide(6_000)).name == "native"


def test_operations_are_counted_by_the_formula() -> None:
    digits = kn.load("mnist-5k")
    forward = 2 * (14 * 14 * 16 * 9 + 7 * 7 * 16 * 16 * 9 + 4 * 4 * 10 * 16 * 9)
    assert operations(kn.build("tutorial-cnn", digits)) == (forward, 3 * forward - 2 * 14 * 14 * 16 * 9)
    assert operations(kn.build("linear", digits)) == (2 * 7840, 4 * 7840)


def test_unknown_instructions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILONET_KERNELS", "avx1024")
    native.library.cache_clear()
    with pytest.raises(ConfigError, match="avx1024"):
        native.library()
    native.library.cache_clear()
