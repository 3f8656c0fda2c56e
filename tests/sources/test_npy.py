from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kilonet as kn
from fuzz.guard import frugal

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Touch:
    """Leaves a file behind where a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def load_npz(folder: Path, **arrays: Any) -> kn.ImageSet:
    np.savez(folder / "some.npz", **arrays)
    return kn.load(folder / "some.npz")


@pytest.mark.parametrize("keys", ["images labels", "x y", "X Y", "data target", "data labels", "arr_0 arr_1"])
def test_npz_of_one_part(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], keys: str) -> None:
    data = load_npz(tmp_path, **dict(zip(keys.split(), (pixels, labels), strict=True)))
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert data.test_from is None


@pytest.mark.parametrize(
    "keys",
    [
        "x_train y_train x_test y_test",
        "train_images train_labels test_images test_labels",
        "train_x train_y test_x test_y",
        "images_train labels_train images_test labels_test",
        "training_images training_labels testing_images testing_labels",
    ],
)
def test_npz_of_training_and_test(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], keys: str
) -> None:
    parts = (pixels[:9], labels[:9], pixels[9:], labels[9:])
    data = load_npz(tmp_path, **dict(zip(keys.split(), parts, strict=True)))
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert data.test_from == 9


def test_medmnists_three_parts_with_labels_in_a_column(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    column = labels[:, None]
    data = load_npz(
        tmp_path,
        test_images=pixels[9:],
        test_labels=column[9:],
        train_images=pixels[:6],
        train_labels=column[:6],
        val_images=pixels[6:9],
        val_labels=column[6:9],
    )
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert data.test_from == 9


def test_validation_images_are_no_test_part(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    data = load_npz(tmp_path, x_train=pixels[:9], y_train=labels[:9], x_val=pixels[9:], y_val=labels[9:])
    assert len(data) == 12
    assert data.test_from is None


def test_npz_may_name_its_classes(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    data = load_npz(tmp_path, images=pixels, labels=labels, classes=["cat", "dog", "eel", "fox"])
    assert data.classes == ("cat", "dog", "eel", "fox")
    assert np.array_equal(data.labels, labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_become_channels_rows_columns(tmp_path: Path, labels: NDArray[np.uint8], channels: int) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (12, channels, 4, 4), np.uint8)
    for images in (expected, np.moveaxis(expected, 1, 3), expected.reshape(12, -1)):
        assert np.array_equal(load_npz(tmp_path, images=images, labels=labels).images, expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type_stay_themselves(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], dtype: type[Any]
) -> None:
    data = load_npz(tmp_path, images=pixels.astype(dtype), labels=labels)
    assert np.array_equal(data.images, pixels[:, None])
    assert data.notes == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fractions_to_1_are_multiplied_by_255_and_it_is_said(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], dtype: type[Any]
) -> None:
    data = load_npz(tmp_path, images=(pixels / 255).astype(dtype), labels=labels)
    assert np.array_equal(data.images, pixels[:, None])
    assert data.notes == ("pixels ran from 0 to 1: multiplied by 255",)


@pytest.mark.parametrize("dtype", [np.bool_, np.float32])
def test_black_and_white_becomes_0_and_255(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], dtype: type[Any]
) -> None:
    data = load_npz(tmp_path, images=(pixels > 127).astype(dtype), labels=labels)
    assert np.array_equal(data.pixels[:, 0], np.where(pixels > 127, 255, 0))
    assert len(data.notes) == 1


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [(np.nan, np.float64, "nan"), (np.inf, np.float32, "inf"), (256, np.int64, "256"), (-1, np.int16, "-1"),
     (255.5, np.float64, "255.5")],
)  # fmt: skip
def test_a_pixel_that_is_none_is_named_with_its_image(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], value: float, dtype: type[Any], shown: str
) -> None:
    images = pixels.astype(dtype)
    images[7, 2, 3] = value
    with pytest.raises(kn.DataError, match=f"pixel {shown} in image 7: expected a number from 0 to 255"):
        load_npz(tmp_path, images=images, labels=labels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([*range(11), -1], "label -1 in row 11"),
        ([0, 1, 0.5, *range(9)], "label 0.5 in row 2"),
        ([0, np.nan, *range(10)], "label nan in row 1"),
        ([0, 1, 1000, *[2] * 9], "label 1000 in row 2 is out of range"),
        (["a", "b", "", *"abcabcabc"], "label in row 2 is missing"),
        ([0, 1, 2], "12 images but 3 labels"),
        (np.zeros((12, 2)), "labels of shape"),
        (np.zeros(12, np.complex64), "labels of type complex64"),
        (3, "labels is a single value"),
    ],
)
def test_faults_of_labels_are_named(tmp_path: Path, pixels: NDArray[np.uint8], change: Any, said: str) -> None:
    with pytest.raises(kn.DataError, match=said):
        load_npz(tmp_path, images=pixels, labels=np.array(change))


def test_labels_beyond_the_named_classes_are_refused(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    with pytest.raises(kn.DataError, match="label 2 in row 2 is out of range: 2 classes"):
        load_npz(tmp_path, images=pixels, labels=labels, classes=["a", "b"])


def test_labels_of_text_become_names(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    data = load_npz(tmp_path, images=pixels, labels=np.array([f"c{n % 11}" for n in range(12)]))
    assert data.classes == tuple(f"c{n}" for n in range(11))
    assert data.labels.tolist() == [*range(11), 0]


@pytest.mark.parametrize("name", ["some.npz", "images.npy"])
def test_pickles_are_refused_unopened(tmp_path: Path, labels: NDArray[np.uint8], name: str) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Touch(trace)] * 12, object)
    if name == "some.npz":
        np.savez(tmp_path / name, images=objects, labels=labels)
    else:
        np.save(tmp_path / name, objects)
        np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(kn.DataError, match=r"cannot be loaded|Python objects"):
        kn.load(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["some.npz", "images.npy"])
@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip", b"\x80\x04."])
def test_what_is_no_array_is_refused(tmp_path: Path, labels: NDArray[np.uint8], name: str, content: bytes) -> None:
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kn.DataError, match=f"{name} is no") as raised:
        kn.load(tmp_path / name)
    assert "\n" not in raised.value.message


def test_npz_cut_short_is_refused(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    path = tmp_path / "some.npz"
    np.savez_compressed(path, images=pixels, labels=labels)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(kn.DataError, match=r"no \.npz file that can be read"):
        kn.load(path)


def test_npz_with_a_damaged_member_is_refused(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, images=pixels, labels=labels)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.infolist()[0].header_offset + 250] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(kn.DataError, match=r"no \.npz file that can be read"):
        kn.load(path)


def test_other_names_in_npz_are_listed(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(kn.DataError, match="holds photos, tags: expected images and labels"):
        load_npz(tmp_path, photos=pixels, tags=pixels)


def test_parts_of_npz_are_of_one_size(tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    with pytest.raises(kn.DataError, match="training and test do not fit together"):
        load_npz(tmp_path, x_train=pixels, y_train=labels, x_test=pixels[:, :3], y_test=labels)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_pair_of_npy_is_named_by_either_file(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], name: str
) -> None:
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "labels.npy", labels)
    data = kn.load(tmp_path / name)
    assert np.array_equal(data.images, pixels[:, None])
    assert np.array_equal(data.labels, labels)
    assert not data.pixels.flags.owndata


@pytest.mark.parametrize(
    "names", ["x_train y_train x_test y_test", "train-images train-labels test-images test-labels"]
)
def test_a_folder_of_npy_holds_training_and_test(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], names: str
) -> None:
    for name, array in zip(names.split(), (pixels[:9], labels[:9], pixels[9:], labels[9:]), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    data = kn.load(tmp_path)
    assert np.array_equal(data.images, pixels[:, None])
    assert data.test_from == 9


def test_npy_without_its_other_half_says_so(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "images.npy", pixels)
    with pytest.raises(kn.DataError, match="other half"):
        kn.load(tmp_path / "images.npy")


def test_npz_under_the_name_of_npy_is_refused(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    np.savez(tmp_path / "some.npz", images=pixels)
    (tmp_path / "some.npz").rename(tmp_path / "images.npy")
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(kn.DataError, match=r"images\.npy is n"):
        kn.load(tmp_path / "images.npy")


@pytest.mark.parametrize("images", [5, -5, [1, 2], np.zeros((2, 4, 4, 5)), np.zeros((2, 3, 4, 5, 6)), []])
def test_arrays_that_are_no_images_are_refused(images: Any) -> None:
    with pytest.raises(kn.DataError, match=r"images of shape|no images"):
        kn.from_arrays(images, [0, 1][: np.size(images)])


def npy(header: str, body: bytes = b"", version: bytes = b"\1\0", length: int | None = None) -> bytes:
    """An `.npy` file with any header, written without NumPy."""
    length = len(header) if length is None else length
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", length) + header.encode() + body


def described(shape: str, dtype: str = "'|u1'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE = {
    "no-literal": npy("{'descr"),
    "open-bracket": npy("{(" * 40),
    "unprintable": npy(described("(12,)").replace("shape", "sh\x13ape'\x13")),
    "nested": npy("[" * 3000),
    "null": npy("\0"),
    "python-2": npy(described("(12L, 4L, 5L)"), b"a" * 239),
    "long": npy(described("(12, 4, 5)") + " " * 60_000, bytes(240)),
    "longer": npy(described("(12, 4, 5)"), bytes(240), b"\2\0", 2**32 - 1),
    "version-3": npy(described("(12, 4, 5)"), bytes(240), b"\3\0"),
    "objects": npy(described("(12, 4, 5)", "'|O'"), b"\x80\x04]."),
    "objects-inside": npy(described("(12,)", "[('a', '|O')]"), b"\x80\x04]."),
    "structured": npy(described("(12, 4, 5)", "[('a', '|u1'), ('b', '|u1')]"), bytes(480)),
    "subarray": npy(described("(1,)", "('|u1', (100000, 100000))"), bytes(9)),
    "nothing-each": npy(described("(1099511627776, 1, 1)", "'|S0'")),
    "void": npy(described("(12, 4, 5)", "'|V1'"), bytes(240)),
    "huge": npy(described("(2147483647, 28, 28)"), bytes(240)),
    "huger": npy(described("(9223372036854775808, 4, 5)"), bytes(240)),
    "wraps-around": npy(described("(4294967296, 4294967296)"), bytes(240)),
    "below-0": npy(described("(-12, -4, 5)"), bytes(240)),
    "truth": npy(described("(True, 4, 5)"), bytes(240)),
    "many": npy(described("(" + "1, " * 100 + ")"), bytes(1)),
    "short": npy(described("(12, 4, 5)"), bytes(239)),
    "more": npy(described("(12, 4, 5)"), bytes(241)),
    "no-columns": npy(described("(12, 4, 0)")),
    "none-of-many": npy(described("(1099511627776, 0, 4)")),
    "text": npy(described("(12, 4, 5)", "'<U1'"), b"\xff\xff\xff\xff" * 240),
}


@pytest.mark.parametrize("name", ["some.npz", "images.npy", "labels.npy"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused(tmp_path: Path, pixels: NDArray[np.uint8], case: str, name: str) -> None:
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "labels.npy", np.arange(12) % 3)
    (tmp_path / name).write_bytes(HOSTILE[case])
    if name == "some.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "labels.npy", "labels.npy")
            archive.writestr("images.npy", HOSTILE[case])
    with frugal(), pytest.raises(kn.DataError) as raised:
        kn.load(tmp_path / name)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("part", ["labels", "classes"])
@pytest.mark.parametrize("order", "<>")
def test_text_beyond_the_last_character_is_refused(
    tmp_path: Path, pixels: NDArray[np.uint8], part: str, order: str
) -> None:
    broken = np.full((12, 2), 0x110000, f"{order}u4").view(f"{order}U2")[:, 0]
    with pytest.raises(kn.DataError, match="holds no characters"):
        load_npz(tmp_path, **{"images": pixels, "labels": np.arange(12) % 3, part: broken})


def test_members_that_are_no_arrays_are_passed_over_or_refused(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    np.savez(tmp_path / "some.npz", images=pixels, labels=np.arange(12) % 3)
    with zipfile.ZipFile(tmp_path / "some.npz", "a") as archive:
        archive.writestr("note.txt", "hello")
    assert len(kn.load(tmp_path / "some.npz")) == 12
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
        archive.writestr("images", "hello")
        archive.writestr("labels", "hello")
    with pytest.raises(kn.DataError, match=r"no \.npz file"):
        kn.load(tmp_path / "some.npz")


def test_names_of_members_are_shown_without_control_characters(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
        archive.writestr("a\x1b[31m\n" + "b" * 5000, "hello")
    with pytest.raises(kn.DataError, match="expected images and labels") as raised:
        kn.load(tmp_path / "some.npz")
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_know_no_bounds_are_refused(tmp_path: Path, pixels: NDArray[np.uint8], method: int) -> None:
    np.savez(tmp_path / "plain.npz", images=pixels, labels=np.arange(12) % 3)
    with (
        zipfile.ZipFile(tmp_path / "plain.npz") as plain,
        zipfile.ZipFile(tmp_path / "some.npz", "w", method) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(kn.DataError, match="packed by method"):
        kn.load(tmp_path / "some.npz")


def npz_of_zeros(path: Path, images: int) -> Path:
    """As many honest images of 1024 x 1024 zeros, and a label each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(npy(described(f"({images}, 1024, 1024)")))
            for _ in range(images):
                member.write(bytes(1 << 20))
        labels = io.BytesIO()
        np.save(labels, np.arange(images) % 2)
        archive.writestr("labels.npy", labels.getvalue())
    return path


@pytest.mark.parametrize("images", [64, pytest.param(10_240, marks=pytest.mark.full)], ids=["64-MB", "10-GB"])
def test_a_bomb_is_refused_by_the_size_that_it_declares(tmp_path: Path, images: int) -> None:
    path = npz_of_zeros(tmp_path / "some.npz", images)
    with frugal(), pytest.raises(kn.DataError, match=r"at most .* are believed"):
        kn.load(path)


@pytest.mark.parametrize("declared", [0, 200, 2**32 - 2])
def test_a_bomb_that_declares_another_size_is_refused(tmp_path: Path, declared: int) -> None:
    path = npz_of_zeros(tmp_path / "some.npz", 64)
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(mark) + at, declared)
    path.write_bytes(content)
    with frugal(), pytest.raises(kn.DataError):
        kn.load(path)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_links_do_not_lead_out_of_a_folder(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], name: str
) -> None:
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):
        np.save(folder / "images.npy", pixels)
        np.save(folder / "labels.npy", labels)
    (tmp_path / "inside" / f"{name}.npy").unlink()
    (tmp_path / "inside" / f"{name}.npy").symlink_to(tmp_path / f"{name}.npy")
    with pytest.raises(kn.DataError, match="holds no pictures"):
        kn.load(tmp_path / "inside")
    if name == "labels":
        with pytest.raises(kn.DataError, match="other half"):
            kn.load(tmp_path / "inside" / "images.npy")


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "some.npz"])
def test_nobody_waits_for_a_pipe(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], name: str
) -> None:
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name,) if name == "some.npz" else (tmp_path / name, tmp_path / "images.npy", tmp_path):
        with frugal(), pytest.raises(kn.DataError):
            kn.load(path)
