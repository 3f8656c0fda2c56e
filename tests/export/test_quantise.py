"""Nets in integers: close to what was trained, and exact where they can be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import kilonet as kn
from export.nets import images_for, logits_of, random_model
from kilonet.export import forward
from kilonet.export import quantise as quantising
from kilonet.export.integers import QuantisedNet, scores
from kilonet.export.layers import Layer, Net, plain_net
from kilonet.export.quantise import best, quantise
from kilonet.export.rounding import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray


def logits(net: QuantisedNet, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.ldexp(scores(net, images).astype(np.float64), -net.fraction_bits)


def net_of(*layers: Layer, mean: float = 0, std: float = 1) -> Net:
    classes = tuple("abcdefghijklmnop"[: layers[-1].out[0]])
    channels = layers[0].given[0]
    return Net(
        "made",
        layers[0].given,
        classes,
        "resize",
        np.full(channels, float(mean)),
        np.full(channels, float(std)),
        layers,
    )


def convolution(
    weight: NDArray[np.float64], bias: NDArray[np.float64], given: tuple[int, int, int], padding: int = 0
) -> Layer:
    out = (len(weight), given[1] + 2 * padding - weight.shape[2] + 1, given[2] + 2 * padding - weight.shape[3] + 1)
    return Layer("conv", given, out, weight.shape[2:], (1, 1), (padding, padding), 1, False, weight, bias)


@pytest.mark.parametrize("seed", range(40))
def test_random_nets_keep_their_logits(seed: int) -> None:
    model = random_model(seed)
    images = images_for(model, 60)
    expected = logits_of(model, images)
    off = logits(quantise(plain_net(model, "c"), images), images) - expected
    assert np.sqrt((off**2).mean()) < 0.03 * expected.std()


def test_whole_weights_give_whole_logits() -> None:
    weight = np.array([[127.0, -5, 64], [1, 127, -127]]).reshape(2, 3, 1, 1)
    net = net_of(convolution(weight, np.array([7.0, -9]), (3, 1, 1)), mean=3)
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 1, 1), np.uint8)
    np.testing.assert_array_equal(logits(quantise(net, images), images), forward.logits(net, images))


def test_padding_is_zero_after_the_mean_is_taken_off() -> None:
    weight = np.full((2, 1, 3, 3), 127.0)
    net = net_of(convolution(weight, np.zeros(2), (1, 2, 2), padding=1), mean=77)
    net = replace(net, classes=tuple("abcdefgh"))
    images = np.random.default_rng(0).integers(0, 256, (50, 1, 2, 2), np.uint8)
    np.testing.assert_array_equal(logits(quantise(net, images), images), forward.logits(net, images))


def test_channels_of_very_different_means_and_stds() -> None:
    rng = np.random.default_rng(0)
    layer = convolution(rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4), (3, 1, 1), padding=1)
    net = replace(net_of(layer), mean=np.array([0.0, 120, 255]), std=np.array([1.0, 30, 200]))
    images = rng.integers(0, 256, (200, 3, 1, 1), np.uint8)
    off = logits(quantise(net, images), images) - forward.logits(net, images)
    assert np.sqrt((off**2).mean()) < 0.01 * forward.logits(net, images).std()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
def test_extreme_weights_are_no_trouble(size: float) -> None:
    """Dead, faint and huge nets: sums stay in 32 bits and scores exact as floats."""
    rng = np.random.default_rng(1)
    first = replace(convolution(size * rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4), (1, 5, 5), 1), relu=True)
    last = convolution(rng.normal(size=(3, 4, 5, 5)), size * rng.normal(size=3), (4, 5, 5))
    net = net_of(first, last, mean=30, std=60)
    images = rng.integers(0, 256, (30, 1, 5, 5), np.uint8)
    quantised, expected = quantise(net, images), forward.logits(net, images)
    assert np.abs(scores(quantised, images)).max() < 2**24
    np.testing.assert_allclose(logits(quantised, images), expected, atol=0.02 * np.abs(expected).max() + 1e-9)


def test_a_map_that_is_always_zero() -> None:
    dead = replace(convolution(np.ones((2, 1, 1, 1)), np.full(2, -1e6), (1, 3, 3)), relu=True)
    last = convolution(np.ones((2, 2, 3, 3)), np.array([0.5, -0.25]), (2, 3, 3))
    images = np.zeros((5, 1, 3, 3), np.uint8)
    np.testing.assert_allclose(logits(quantise(net_of(dead, last), images), images)[0], [0.5, -0.25], atol=1e-5)


def test_sums_fit_32_bits_for_the_worst_image() -> None:
    """A layer of very many products: the brightest pixels where weights are positive, and the opposite."""
    weight = np.random.default_rng(0).normal(size=(2, 1, 300, 300))
    net = net_of(convolution(weight, np.zeros(2), (1, 300, 300)))
    worst = np.where(weight > 0, 255, 0).astype(np.uint8)
    quantised = quantise(net, worst)
    layer = quantised.layers[0]
    assert layer.weight is not None
    assert np.abs(layer.weight.astype(np.int64)).sum((1, 2, 3)).max() * 255 < 2**31
    expected = forward.logits(net, worst)
    np.testing.assert_allclose(logits(quantised, worst), expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("tried", [(1, 50), (50, 1), (1, 2, 50, 3)])
def test_validation_chooses_the_calibration(tried: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first images are black: calibrated on these alone, all maps are cut off."""
    rng = np.random.default_rng(0)
    first = replace(convolution(rng.normal(size=(8, 1, 3, 3)), np.zeros(8), (1, 5, 5), 1), relu=True)
    net = net_of(first, convolution(rng.normal(size=(3, 8, 5, 5)), np.zeros(3), (8, 5, 5)))
    images = rng.integers(0, 256, (50, 1, 5, 5), np.uint8)
    images[[0, 16, 25, 32]] = 0
    labels = forward.logits(net, images).argmax(axis=1)
    monkeypatch.setattr(quantising, "CALIBRATIONS", tried)
    judges = kn.ImageSet(images, labels, net.classes)
    found, wanted = (scores(one, images) for one in (best(net, images, judges), quantise(net, images, 50)))
    np.testing.assert_array_equal(found, wanted)
    assert (scores(quantise(net, images, 1), images) != wanted).any()


def test_rounding_minds_the_outputs() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 2, 3, 3))
    layer = convolution(weight, np.zeros(6), (2, 9, 9), padding=1)
    given = rng.normal(size=(300, 2, 1, 1)) + 0.3 * rng.normal(size=(300, 2, 9, 9))
    wanted = forward.output(layer, torch.from_numpy(given)).numpy()

    def error(whole: NDArray[np.float64], bias: NDArray[np.float64]) -> float:
        found = forward.output(replace(layer, weight=whole, bias=bias), torch.from_numpy(given)).numpy()
        return float(np.sqrt(((found - wanted) ** 2).mean()))

    whole, bias = rounded(layer, weight, given, wanted)
    np.testing.assert_array_equal(whole, np.rint(whole))
    assert error(whole, bias) < 0.7 * error(np.rint(weight), np.zeros(6))


@pytest.mark.full
@pytest.mark.parametrize("name", ["kilo-4k", "linear", "tutorial-cnn"])
def test_loses_little_on_validation_images(full_mnist: kn.ImageSet, name: str) -> None:
    data = full_mnist.split()
    assert data.val is not None
    model = kn.build(name, data.train, seed=0)
    kn.fit(model, data, kn.recipe(name, epochs=2, seed=0))
    net = plain_net(model, "c")
    found = scores(best(net, data.train.pixels, data.val), data.val.pixels).argmax(axis=1)
    wanted = np.concatenate([logits_of(model, part) for part in np.array_split(data.val.images, 10)]).argmax(axis=1)
    loss = 100 * float((wanted == data.val.labels).mean() - (found == data.val.labels).mean())
    print(f"{name}: int8 loses {loss:.2f} points on {len(found):,} validation images")
    assert loss <= 0.1
