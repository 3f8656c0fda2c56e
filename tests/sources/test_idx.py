from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import kilonet as kn
from fuzz.guard import frugal

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = {"train": "train-{}-idx{}-ubyte", "test": "t10k-{}-idx{}-ubyte"}


def idx(array: NDArray[np.uint8]) -> bytes:
    """The format as its description has it, written without the code under test."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">i", size) for size in array.shape)
    return head + array.tobytes()


def write(path: Path, content: bytes, *, packed: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path = path.with_name(f"{path.name}.gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    return path


def write_pair(
    folder: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], part: str = "train", *, packed: bool = False
) -> Path:
    """A pair of files under MNIST's names; returns that of the images."""
    write(folder / NAMES[part].format("labels", 1), idx(labels), packed=packed)
    return write(folder / NAMES[part].format("images", 3), idx(pixels), packed=packed)


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("named", ["images", "labels"])
def test_a_pair_is_named_by_either_file(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], named: str, packed: bool
) -> None:
    images = write_pair(tmp_path, pixels, labels, packed=packed)
    path = images if named == "images" else next(tmp_path.glob("*labels*"))
    data = kn.load(str(path))
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert data.classes == ("0", "1", "2")
    assert data.test_from is None


def test_a_raw_pair_is_memory_mapped(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    images = kn.load(write_pair(tmp_path, pixels, labels)).pixels
    assert not images.flags.owndata
    assert not images.flags.writeable


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("inside", [".", "raw", "MNIST/raw"])
def test_a_folder_holds_training_and_test(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], inside: str, packed: bool
) -> None:
    write_pair(tmp_path / inside, pixels[:9], labels[:9], packed=packed)
    write_pair(tmp_path / inside, pixels[9:], labels[9:], "test", packed=packed)
    data = kn.load(tmp_path)
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert data.test_from == 9


def test_raw_files_beside_their_gzipped_ones_are_one_data_set(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    for packed in (False, True):
        write_pair(tmp_path, pixels, labels, packed=packed)
    assert np.array_equal(kn.load(tmp_path).images, pixels[:, None])


def test_several_data_sets_in_a_folder_are_not_guessed_between(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}-images-idx3-ubyte", idx(pixels))
        write(tmp_path / f"{name}-labels-idx1-ubyte", idx(labels))
    with pytest.raises(kn.DataError, match="several data sets: a-images-idx3-ubyte, b-images-idx3-ubyte"):
        kn.load(tmp_path)


@pytest.mark.parametrize("named", ["images", "labels"])
def test_without_its_other_half_a_file_says_so(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], named: str
) -> None:
    write_pair(tmp_path, pixels, labels)
    alone = tmp_path / "alone" / next(tmp_path.glob(f"*{named}*")).name
    alone.parent.mkdir()
    next(tmp_path.glob(f"*{named}*")).rename(alone)
    with pytest.raises(kn.DataError, match="other half"):
        kn.load(alone)
    with pytest.raises(kn.DataError, match="no images with their labels"):
        kn.load(alone.parent)


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"PNG!" + content[4:], "is not IDX: magic number 504e4721"),
        (lambda content: b"\0\0\x07\x03" + content[4:], "is not IDX: magic number 00000703"),
        (lambda content: b"", "is not IDX: magic number nothing"),
        (lambda content: content[:10], "cut short inside its header"),
        (lambda content: content[:-1], "cut short: 239 bytes of the 240"),
        (lambda content: content + b"!", "longer than the 240 bytes"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "cut short"),
        (lambda content: b"\0\0\x08\x01" + struct.pack(">i", 12) + content[-12:], "images have 3"),
        (lambda content: content[:4] + struct.pack(">iii", 0, 4, 5), "0 images but|no images"),
    ],
    ids=["no-magic", "no-type", "empty", "in-header", "short", "long", "giant", "labels-as-images", "none"],
)
def test_damage_is_named(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], change: object, said: str, packed: bool
) -> None:
    assert callable(change)
    write_pair(tmp_path, pixels, labels, packed=packed)
    path = write(tmp_path / NAMES["train"].format("images", 3), change(idx(pixels)), packed=packed)
    with pytest.raises(kn.DataError, match=said) as raised:
        kn.load(path)
    assert "\n" not in raised.value.message
    assert path.name in raised.value.message


def test_a_gzip_file_cut_short_is_named(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = write_pair(tmp_path, pixels, labels, packed=True)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(kn.DataError, match=r"images-idx3-ubyte\.gz is cut short or damaged"):
        kn.load(path)


def test_a_damaged_gzip_file_is_named(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = write_pair(tmp_path, pixels, labels, packed=True)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(kn.DataError, match="cut short or damaged"):
        kn.load(path)


def test_what_is_named_gz_has_to_be_gzip(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = write_pair(tmp_path, pixels, labels, packed=True)
    path.write_bytes(idx(pixels))
    with pytest.raises(kn.DataError, match="is not gzip"):
        kn.load(path)


def test_gzip_without_its_ending_is_read_all_the_same(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    path = write_pair(tmp_path, pixels, labels)
    path.write_bytes(gzip.compress(idx(pixels)))
    assert np.array_equal(kn.load(path).images, pixels[:, None])


def test_as_many_labels_as_images(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = write_pair(tmp_path, pixels, labels[:-1])
    with pytest.raises(kn.DataError, match="12 images but train-labels-idx1-ubyte 11 labels"):
        kn.load(path)


def test_training_and_test_are_of_one_size(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    write_pair(tmp_path, pixels, labels)
    write_pair(tmp_path, pixels[:, :3], labels, "test")
    with pytest.raises(kn.DataError, match="differ in size"):
        kn.load(tmp_path)


def test_wider_types_are_read_big_endian(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = write_pair(tmp_path, pixels, labels)
    head = bytes([0, 0, 0x0C, 3]) + struct.pack(">iii", *pixels.shape)
    path.write_bytes(head + pixels.astype(">i4").tobytes())
    assert np.array_equal(kn.load(path).images, pixels[:, None])


def bomb(path: Path, head: bytes, zeros: int = 64 << 20, times: int = 160) -> Path:
    """A gzip file of some bytes and then very many zeros, 10 GB if not said otherwise, in about 10 MB."""
    path.write_bytes(gzip.compress(head) + gzip.compress(bytes(zeros), 1) * times)
    return path


@pytest.mark.parametrize("times", [1, 160], ids=["64-MB", "10-GB"])
def test_a_bomb_is_refused_by_the_size_that_it_declares(tmp_path: Path, labels: NDArray[np.uint8], times: int) -> None:
    path = write_pair(tmp_path, np.zeros((0, 0, 0), np.uint8), labels, packed=True)
    bomb(path, struct.pack(">HBBIII", 0, 8, 3, 1 << 16, 1 << 10, times), times=times)
    with frugal(), pytest.raises(kn.DataError, match=r"at most .* are believed"):
        kn.load(path)


def test_a_bomb_is_refused_by_its_true_size(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    path = bomb(write_pair(tmp_path, pixels, labels, packed=True), idx(pixels))
    with frugal(), pytest.raises(kn.DataError, match="longer than the 240 bytes"):
        kn.load(path)


def test_large_data_is_no_bomb(tmp_path: Path) -> None:
    """Twenty million bytes of images that hardly any file packs better, and of labels in class order."""
    pixels = np.zeros((25_000, 28, 28), np.uint8)
    pixels[:, 4:24, 14] = np.random.default_rng(0).integers(0, 256, (25_000, 20))
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2500)
    path = write(tmp_path / f"{NAMES['train'].format('images', 3)}.gz", gzip.compress(idx(pixels), 1))
    write(tmp_path / f"{NAMES['train'].format('labels', 1)}.gz", gzip.compress(idx(labels), 1))
    with frugal():
        assert np.array_equal(kn.load(path).images, pixels[:, None])


@pytest.mark.parametrize("outside", ["images", "labels", "both"])
def test_links_do_not_lead_out_of_a_folder(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], outside: str
) -> None:
    images = write_pair(tmp_path / "elsewhere", pixels, labels)
    inside = write_pair(tmp_path / "inside", pixels, labels)
    for name, path in (("images", inside), ("labels", inside.with_name(NAMES["train"].format("labels", 1)))):
        if outside in (name, "both"):
            path.unlink()
            path.symlink_to(images.with_name(path.name))
    with frugal(), pytest.raises(kn.DataError, match=r"no images with their labels|holds no pictures"):
        kn.load(tmp_path / "inside")
    if outside == "labels":
        with frugal(), pytest.raises(kn.DataError, match="other half"):
            kn.load(inside)


def test_links_may_lead_out_of_the_folder_of_a_well_known_set(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for part in ("train", "test"):
        for path in (write_pair(tmp_path / "elsewhere", pixels, labels, part)).parent.iterdir():
            (tmp_path / "data" / "mnist" / path.name).unlink(missing_ok=True)
            (tmp_path / "data" / "mnist" / path.name).symlink_to(path)
    monkeypatch.setenv("KILONET_DATA", str(tmp_path / "data"))
    with frugal(), pytest.raises(kn.DataError, match="not the known data"):
        kn.load("mnist")


@pytest.mark.parametrize("piped", ["images", "labels"])
def test_nobody_waits_for_a_pipe(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], piped: str
) -> None:
    images = write_pair(tmp_path, pixels, labels)
    pipe = next(tmp_path.glob(f"*{piped}*"))
    pipe.unlink()
    os.mkfifo(pipe)
    for path in (images, tmp_path, pipe):
        with frugal(), pytest.raises(kn.DataError):
            kn.load(path)


def test_a_device_is_no_source() -> None:
    with frugal(), pytest.raises(kn.DataError, match="a pipe or a device"):
        kn.load("/dev/zero")
