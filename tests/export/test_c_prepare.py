"""C prepares pictures as preprocess.py does."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import kilonet as kn
from kilonet.export import c
from kilonet.export.layers import plain_net
from kilonet.images import Preparation
from kilonet.models import Classifier
from kilonet.preprocess import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not there")

Shape = tuple[int, int, int]


class InC:
    """`prepare` of a written net."""

    def __init__(self, shape: Shape, preparation: Preparation, folder: Path) -> None:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 2))
        model = Classifier(net, name="n", shape=shape, classes=("a", "b"), preparation=preparation)
        c.write(plain_net(model, "c"), folder / "n.c", np.zeros(shape, np.uint8))
        flags = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-shared", "-fPIC")
        subprocess.run(["gcc", *flags, folder / "n.c", "-o", folder / "n.so"], check=True)
        self.call, self.shape = ctypes.CDLL(str(folder / "n.so")).n_prepare, shape

    def __call__(self, picture: NDArray[np.uint8], beside: int = 0) -> NDArray[np.uint8] | None:
        """What it makes of a picture, each row of which has some bytes more beside it."""
        height, width = picture.shape[:2]
        rows = picture.reshape(height, -1)
        rows = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, beside)), constant_values=131))
        channels, *size = self.shape
        image = np.full(int(np.prod(self.shape)), 77, np.uint8)
        drawn = self.call(
            rows.ctypes.data_as(ctypes.c_char_p), width, height, rows.shape[1], image.ctypes.data_as(ctypes.c_char_p)
        )
        return image.reshape(*size, channels).transpose(2, 0, 1) if drawn else None


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> InC:
    return InC((1, 28, 28), "digit", tmp_path_factory.mktemp("digit"))


def drawing(seed: int) -> NDArray[np.uint8]:
    """Lines on paper: either polarity, of any size, noisy or not, lit evenly or not; now and then nothing."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(10, 300, 2).tolist()
    ground, ink = rng.integers(0, 256, 2).tolist()
    picture = Image.new("L", (width, height), ground)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 4)):
        points = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(rng.integers(2, 6))]
        draw.line(points, fill=ink, width=int(rng.integers(1, max(2, min(width, height) // 6))), joint="curve")
    light = np.linspace(1, rng.uniform(0.6, 1), width) if rng.random() < 0.3 else np.ones(width)
    noise = rng.normal(0, rng.uniform(0, 8), (height, width)) if rng.random() < 0.5 else 0
    return np.asarray(np.clip(np.array(picture) * light + noise, 0, 255), np.uint8)


def distances(in_c: InC, preparation: Preparation, pictures: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """The greatest difference of a pixel, for each picture; where one finds nothing drawn, the other has to."""
    found = []
    for i, picture in enumerate(pictures):
        expected, made = prepare(picture, in_c.shape, preparation), in_c(picture, i % 3)
        assert (expected is None) == (made is None), f"picture {i}, {picture.shape}"
        if expected is not None and made is not None:
            found.append(int(np.abs(expected.astype(np.int64) - made).max()))
    return np.array(found)


def check_alike(found: NDArray[np.int64]) -> None:
    print(f"{len(found)} pictures: {(found == 0).mean():.1%} equal, {(found <= 2).mean():.1%} within 2 of 255")
    assert (found <= 2).mean() >= 0.99


def test_drawings(digit: InC) -> None:
    found = distances(digit, "digit", [drawing(seed) for seed in range(150)])
    assert len(found) > 100
    check_alike(found)


@pytest.mark.full
def test_many_drawings(digit: InC) -> None:
    check_alike(distances(digit, "digit", [drawing(seed) for seed in range(1000, 3000)]))


def test_digits_of_the_training_set(digit: InC, mnist_5k: kn.ImageSet) -> None:
    images = [image[0] for image in mnist_5k.images[::100]]
    assert (distances(digit, "digit", images) == 0).all()
    assert (distances(digit, "digit", [255 - image for image in images]) == 0).all()
    check_alike(distances(digit, "digit", [np.kron(image, np.ones((5, 5), np.uint8)) for image in images]))


def test_awkward_pictures(digit: InC) -> None:
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5), (28, 27), (64, 64), (65, 63), (129, 4), (500, 20)]
    looks = [0, 255, 128]
    pictures = [np.full(size, look, np.uint8) for size in sizes for look in looks]
    pictures += [rng.integers(0, 256, size).astype(np.uint8) for size in sizes]
    pictures += [np.where(np.indices(size)[1] < size[1] // 2, 250, 5).astype(np.uint8) for size in sizes]
    pictures += [np.pad(np.full((side, side), 255, np.uint8), 20) for side in (3, 30)]
    pictures += [np.eye(90, dtype=np.uint8) * np.uint8(255)]
    distances(digit, "digit", pictures)


def test_symmetrical_drawings(digit: InC) -> None:
    """Their centre of mass lies just between two places."""
    pictures = []
    for side in range(30, 130, 3):
        x, y = np.indices((side, side)) - side // 2
        pictures += [np.where(np.abs(np.hypot(x, y) - side / 4) < side / 16, 255, 0).astype(np.uint8)]
        pictures += [np.where((np.abs(x) < side / 16) & (np.abs(y) < side / 3), 0, 200).astype(np.uint8)]
    check_alike(distances(digit, "digit", pictures))


def test_tables_beside_the_paper(digit: InC) -> None:
    pictures = []
    for along in range(10, 100, 4):
        picture = np.full((100, 100), 220, np.uint8)
        picture[30:70, 48:54] = 20
        picture[:6, :along] = 20
        pictures += [picture, np.ascontiguousarray(picture.T), np.ascontiguousarray(picture[::-1])]
    check_alike(distances(digit, "digit", pictures))


def test_what_is_too_long(digit: InC) -> None:
    """More than 64 times as long as wide there is nothing, in C and in Python."""
    picture = np.zeros((2, 300), np.uint8)
    picture[:, 100:140] = 255
    assert digit(picture) is None
    assert prepare(picture, digit.shape, "digit") is None


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 20, 12), (3, 8, 8), (1, 28, 28)])
def test_scaling(shape: Shape, tmp_path: Path) -> None:
    in_c, rng = InC(shape, "resize", tmp_path), np.random.default_rng(0)
    pictures = []
    for size in [(1, 1), (1, 50), (8, 8), (4, 30), (20, 12), (3, 3), (100, 90), (411, 300)]:
        colours = (3,) if shape[0] == 3 else ()
        pictures += [rng.integers(0, 256, (*size, *colours), np.uint8), np.full((*size, *colours), 9, np.uint8)]
    found = distances(in_c, "resize", pictures)
    assert len(found) >= 7
    assert found.max() <= 1
    assert (found == 0).mean() >= 0.5


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 16, 24)])
def test_digits_of_other_sizes(shape: Shape, tmp_path: Path) -> None:
    check_alike(distances(InC(shape, "digit", tmp_path), "digit", [drawing(seed) for seed in range(60)]))


def test_the_same_classes(digit: InC, mnist_5k: kn.ImageSet) -> None:
    model = kn.build("kilo-4k", mnist_5k, seed=0)
    data = mnist_5k.split()
    kn.fit(model, replace(data, train=data.train.take(np.arange(600))), kn.recipe("kilo-4k", epochs=2, seed=0))
    pairs = [(prepare(picture, (1, 28, 28), "digit"), digit(picture)) for picture in map(drawing, range(100))]
    here, there = (np.stack([one for one in side if one is not None]) for side in zip(*pairs, strict=True))
    predictor = kn.Predictor(model)
    answers = predictor.probabilities(here).argmax(axis=1), predictor.probabilities(there).argmax(axis=1)
    np.testing.assert_array_equal(*answers)
