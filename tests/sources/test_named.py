from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import kilonet as kn
from kilonet.sources import idx, named, openml

if TYPE_CHECKING:
    from numpy.typing import NDArray

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KILONET_DATA, empty; no other place has data, and there is no network."""
    data = tmp_path / "data-of-mine"
    data.mkdir()
    monkeypatch.setenv("KILONET_DATA", str(data))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(openml, "fetch", _refuse)
    return data


def _refuse(**asked: int) -> kn.ImageSet:
    raise kn.FetchError(f"no network for {asked}")


def write_set(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], prefix: str = "") -> list[Path]:
    """Four raw IDX files, the last quarter of the images being the test part."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = len(images) * 3 // 4
    contents = {
        "train-images-idx3-ubyte": images[:cut],
        "train-labels-idx1-ubyte": labels[:cut],
        "test-images-idx3-ubyte": images[cut:],
        "test-labels-idx1-ubyte": labels[cut:],
    }
    for name, array in contents.items():
        (folder / f"{prefix}{name}").write_bytes(idx.encode(array))
    return [folder / f"{prefix}{name}" for name in contents]


@pytest.fixture
def known_mnist(monkeypatch: pytest.MonkeyPatch, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """As if MNIST were these twelve images."""
    arrays = (pixels[:9], labels[:9], pixels[9:], labels[9:])
    content = tuple(hashlib.sha256(idx.encode(array)).hexdigest() for array in arrays)
    known = dataclasses.replace(named.SOURCES["mnist"], test_from=9, content=content)
    monkeypatch.setitem(named.SOURCES, "mnist", known)


@pytest.mark.usefixtures("known_mnist")
@pytest.mark.parametrize("inside", [".", "raw", "MNIST/raw"])
def test_kilonet_data_is_looked_into(
    home: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], inside: str
) -> None:
    write_set(home / "mnist" / inside, pixels, labels)
    data = kn.load("mnist")
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert (data.test_from, data.preparation, data.notes) == (9, "digit", ())
    assert data.classes == tuple("0123456789")


@pytest.mark.usefixtures("known_mnist")
def test_kilonet_data_comes_before_torchvisions_folder(
    home: Path, tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    there = tmp_path / "data" / "MNIST" / "raw"
    write_set(there, pixels, labels)
    assert str(there) in kn.load("mnist").origin
    write_set(home / "mnist", pixels, labels)
    assert str(home / "mnist") in kn.load("mnist").origin


@pytest.mark.usefixtures("known_mnist")
@pytest.mark.parametrize("at", range(4))
def test_a_wrong_checksum_is_refused(home: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], at: int) -> None:
    damaged = write_set(home / "mnist", pixels, labels)[at]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    what = ("training images", "training labels", "test images", "test labels")[at]
    with pytest.raises(kn.DataError, match=f"mnist: the {what} .* are not the known data") as raised:
        kn.load("mnist")
    assert raised.value.hint is not None
    assert len(kn.load(home / "mnist")) == 12


def test_other_images_are_not_mnist(home: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    write_set(home / "mnist", pixels, labels)
    with pytest.raises(kn.DataError, match="not the known data"):
        kn.load("mnist")


def test_a_wrong_checksum_of_a_published_gzip_file_is_refused(
    home: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    for path in write_set(home / "kmnist", pixels, labels):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(kn.DataError, match=r"kmnist: the training images .* are not the known data"):
        kn.load("kmnist")


def test_the_training_images_alone_are_not_enough(
    home: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    for path in write_set(home / "mnist", pixels, labels)[2:]:
        path.unlink()
    with pytest.raises(kn.DataError, match="no test images of mnist"):
        kn.load("mnist")


def test_emnist_is_set_upright_and_named(home: Path, pixels: NDArray[np.uint8]) -> None:
    labels = np.array([0, 10, 36, 46] * 3, np.uint8)
    write_set(home / "emnist-balanced", pixels, labels, "emnist-balanced-")
    write_set(home / "emnist-balanced", pixels[:, :2], labels, "emnist-letters-")
    data = kn.load("emnist-balanced")
    assert data.shape == (1, 5, 4)
    assert np.array_equal(data.pixels[:, 0], pixels.swapaxes(1, 2))
    assert len(data.classes) == len(set(data.classes)) == 47
    assert [data.classes[label] for label in data.labels[:4]] == ["0", "A", "a", "t"]
    assert data.test_from == 9
    assert data.notes == ("12 images: not the published number",)


def test_a_label_beyond_the_classes_is_refused(home: Path, pixels: NDArray[np.uint8]) -> None:
    write_set(home / "emnist-balanced", pixels, np.full(12, 47, np.uint8), "emnist-balanced-")
    with pytest.raises(kn.DataError, match="label 47 in row 0 is out of range: 47 classes"):
        kn.load("emnist-balanced")


@pytest.mark.parametrize("name", sorted(named.SOURCES))
def test_what_is_nowhere_says_how_to_get_it(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(named, "_places", lambda name, known: [home / name])
    with pytest.raises(kn.FetchError, match="no network") as raised:
        kn.load(name)
    assert "KILONET_DATA" in str(raised.value.hint)
    assert "mnist-5k" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["minst", "mnist_5k", "fashion"])
def test_an_unknown_name_gets_a_suggestion(home: Path, name: str) -> None:
    with pytest.raises(kn.DataError, match=f"unknown source '{name}'") as raised:
        kn.load(name)
    assert "mnist" in str(raised.value.hint)


def test_a_path_that_is_not_there_is_said_to_be_none(home: Path) -> None:
    with pytest.raises(kn.DataError, match=r"no such file or folder: there/is\.none"):
        kn.load("there/is.none")


def test_a_file_of_no_known_format_says_what_is(home: Path) -> None:
    (home / "notes.txt").write_text("nothing to see")
    with pytest.raises(kn.DataError, match="no image data"):
        kn.load(home / "notes.txt")


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"the package dataset-fashion-mnist is not installed ({FASHION})")
def test_debians_fashion_mnist(home: Path) -> None:
    data = kn.load("fashion-mnist")
    assert data.images.shape == (70_000, 1, 28, 28)
    assert data.counts().tolist() == [7000] * 10
    assert (data.classes[0], data.test_from, data.preparation) == ("T-shirt/top", 60_000, "resize")
    assert isinstance(kn.load("fashion-mnist").images, np.memmap)


@pytest.mark.parametrize(("name", "shape"), [("mnist-5k", (5000, 1, 28, 28)), ("digits", (1797, 1, 8, 8))])
def test_bundled_sets_need_nothing(home: Path, name: str, shape: tuple[int, ...]) -> None:
    data = kn.load(name)
    assert data.images.shape == shape
    assert data.classes == tuple("0123456789")
    assert data.pixels.max() == 255


@pytest.mark.full
def test_all_of_mnist(full_mnist: kn.ImageSet) -> None:
    assert full_mnist.images.shape == (70_000, 1, 28, 28)
    assert full_mnist.counts()[:2].tolist() == [6903, 7877]
    assert [len(part) for part in full_mnist.split().parts().values()] == [50_000, 10_000, 10_000]
