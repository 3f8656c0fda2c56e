"""Any source, written as a folder of mapped files, is the source; and large ones are decoded some images at a time."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import kilonet as kn
from kilonet import cli, mapped, sources
from kilonet.sources import cache, store, streams
from kilonet.sources import csv as csv_reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

N = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 6), np.uint8)
COLOURED = np.random.default_rng(1).integers(0, 256, (N, 6, 6, 3), np.uint8)
LABELS = np.arange(N, dtype=np.uint8) % 3
CUT = 40


def idx(array: NDArray[np.uint8]) -> bytes:
    """The format as its description has it, written without the code under test."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def idx_pairs(folder: Path, *, packed: bool = False) -> Path:
    for part, rows in (("train", slice(0, CUT)), ("t10k", slice(CUT, None))):
        for what, array in (("images-idx3", PIXELS[rows]), ("labels-idx1", LABELS[rows])):
            path = folder / f"{part}-{what}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


def idx_pair(folder: Path) -> Path:
    (folder / "labels-idx1-ubyte").write_bytes(idx(LABELS))
    (folder / "images-idx3-ubyte").write_bytes(idx(PIXELS))
    return folder / "images-idx3-ubyte"


def npy_of(images: NDArray[np.generic]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", LABELS)
        return folder

    return write


def npy_parts(folder: Path) -> Path:
    for part, rows in (("train", slice(0, CUT)), ("test", slice(CUT, None))):
        np.save(folder / f"{part}_x.npy", PIXELS[rows] / 255)
        np.save(folder / f"{part}_y.npy", LABELS[rows])
    return folder


def npz(folder: Path, *, fortran: bool = False) -> Path:
    x = np.asfortranarray(PIXELS) if fortran else PIXELS
    parts: dict[str, Any] = {"x_train": x[:CUT], "y_train": LABELS[:CUT], "x_test": x[CUT:], "y_test": LABELS[CUT:]}
    if fortran:
        parts = {"images": x, "labels": LABELS}
    np.savez_compressed(folder / "some.npz", classes=np.array(["cat", "dog", "eel"]), **parts)
    return folder / "some.npz"


def csv(
    folder: Path, names: tuple[str, ...] = ("cat", "dog", "eel"), pixels: NDArray[Any] = PIXELS, *, last: bool = False
) -> Path:
    """A table; with the label last it has a header, and is packed."""
    labelled = [
        ([names[label]], [str(pixel) for pixel in image.ravel()]) for label, image in zip(LABELS, pixels, strict=True)
    ]
    rows = [[*numbers, *name] if last else [*name, *numbers] for name, numbers in labelled]
    head = [[*(f"p{i}" for i in range(36)), "label"]] if last else []
    text = "".join(",".join(row) + "\n" for row in [*head, *rows])
    path = folder / f"some.csv{'.gz' if last else ''}"
    path.write_bytes(gzip.compress(text.encode()) if last else text.encode())
    return path


def pictures(folder: Path, *, coloured: bool = False) -> Path:
    for i, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        part = folder / ("train" if i < CUT else "test") / f"{label}"
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURED[i] if coloured and i == N - 1 else image).save(part / f"{i}.png")
    return folder


SOURCES: dict[str, Callable[[Path], Path | str]] = {
    "idx pair": idx_pair,
    "idx folder": idx_pairs,
    "idx folder, gz": lambda folder: idx_pairs(folder, packed=True),
    "npy": npy_of(PIXELS),
    "npy, flat": npy_of(PIXELS.reshape(N, -1)),
    "npy, coloured, channels last": npy_of(COLOURED),
    "npy, coloured, channels first": npy_of(np.ascontiguousarray(COLOURED.transpose(0, 3, 1, 2))),
    "npy, one channel last": npy_of(PIXELS[..., None]),
    "npy, Fortran's order": npy_of(np.asfortranarray(PIXELS)),
    "npy, 0 to 1": npy_of(PIXELS / 255),
    "npy, fractions": npy_of(PIXELS * 0.99),
    "npy, whole floats": npy_of(PIXELS.astype(np.float32)),
    "npy, int32, big-endian": npy_of(PIXELS.astype(">i4")),
    "npy, bool": npy_of(PIXELS > 127),
    "npy parts, 0 to 1": npy_parts,
    "npz": npz,
    "npz, Fortran's order": lambda folder: npz(folder, fortran=True),
    "csv": csv,
    "csv, numbers": lambda folder: csv(folder, ("3", "4", "10")),
    "csv, 0 to 1": lambda folder: csv(folder, pixels=PIXELS / 255),
    "csv, some fractions": lambda folder: csv(
        folder, pixels=np.where(np.arange(36).reshape(6, 6) > 30, PIXELS / 2, PIXELS)
    ),
    "csv, packed, with a header": lambda folder: csv(folder, last=True),
    "csv, numbers and words": lambda folder: csv(folder, ("07", "7.0", "x"), last=True),
    "pictures": pictures,
    "pictures, one coloured": lambda folder: pictures(folder, coloured=True),
    "bundled": lambda _: "digits",
}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Callable[[], None]:
    """From when it is called, everything is too large for memory, and the cache empty."""

    def begin() -> None:
        for name, size in (("LARGE", 0), ("SMALL", 0), ("PIECE", 250)):
            monkeypatch.setattr(mapped, name, size)
        monkeypatch.setattr(csv_reader, "_VALUES", 37 * 7)
        shutil.rmtree(own_cache)

    return begin


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_and_what_is_written_of_it_are_the_same(
    kind: str, tmp_path: Path, large: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "source"
    home.mkdir()
    source = SOURCES[kind](home)
    expected = kn.load(source)
    small = sources.convert(source, tmp_path / "small")
    large()
    monkeypatch.setattr(streams.Stream, "whole", lambda _: pytest.fail("decoded in memory"))
    found, written = kn.load(source), sources.convert(source, tmp_path / "large")
    assert {file.name for file in (tmp_path / "large").iterdir()} == {"images.npy", "labels.npy", "meta.json"}
    assert found.is_large or kind == "bundled", "it stays on the disk or is streamed there"
    assert written.is_large
    for one in (found, written, kn.load(tmp_path / "large"), small, kn.load(str(tmp_path / "small"))):
        np.testing.assert_array_equal(one.pixels, expected.pixels)
        np.testing.assert_array_equal(one.labels, expected.labels)
        assert one.sha256() == expected.sha256()
        assert (one.classes, one.test_from, one.preparation) == (
            expected.classes,
            expected.test_from,
            expected.preparation,
        )
        assert one.notes == expected.notes
        assert one.origin in (
            expected.origin,
            *(f"{tmp_path / name} (from {expected.origin})" for name in ("small", "large")),
        )
    for name in ("images.npy", "labels.npy"):
        assert (tmp_path / "large" / name).read_bytes() == (tmp_path / "small" / name).read_bytes()


def test_raw_files_with_a_test_part_are_not_copied(tmp_path: Path, large: Callable[[], None], own_cache: Path) -> None:
    idx_pairs(tmp_path)
    large()
    data = kn.load(tmp_path)
    assert data.is_large
    assert data.test_from == CUT
    assert not list(own_cache.rglob("*.npy"))
    splits = data.split()
    assert splits.test is not None
    np.testing.assert_array_equal(splits.test.pixels[:, 0], PIXELS[CUT:])
    np.testing.assert_array_equal(splits.train.pixels[:, 0], PIXELS[splits.train.rows])


@pytest.mark.parametrize("kind", ["npy, 0 to 1", "idx folder, gz", "npz", "pictures"])
def test_streams_are_decoded_once(
    kind: str, tmp_path: Path, large: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES[kind](tmp_path)
    large()
    first = kn.load(source)
    monkeypatch.setattr(streams.Stream, "pieces", None, raising=False)
    monkeypatch.setattr(store, "write", lambda *_: pytest.fail("written again"))
    assert kn.load(source).sha256() == first.sha256()


def wrong_pixel(folder: Path) -> Path:
    images = PIXELS.astype(np.int64)
    images[41, 2, 3] = 256
    return npy_of(images)(folder)


def cut_gz(folder: Path) -> Path:
    path = idx_pairs(folder, packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    return folder


def long_gz(folder: Path) -> Path:
    (idx_pairs(folder, packed=True) / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(PIXELS[CUT:]) + b"1"))
    return folder


def bad_npz(folder: Path) -> Path:
    path = folder / "some.npz"
    np.savez(path, images=PIXELS, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(PIXELS[10].tobytes())] ^= 1
    path.write_bytes(content)
    return path


def other_size(folder: Path) -> Path:
    Image.fromarray(PIXELS[0, :5]).save(pictures(folder) / "test" / "0" / "odd.png")
    return folder


def pixel_in_line_45(folder: Path) -> Path:
    path = csv(folder)
    lines = path.read_text().split("\n")
    lines[44] = lines[44].replace(",", ",x", 1)
    path.write_text("\n".join(lines))
    return path


def no_label_in_line_30(folder: Path) -> Path:
    path = csv(folder)
    lines = path.read_text().split("\n")
    lines[29] = lines[29].replace(lines[29].split(",")[0], "", 1)
    path.write_text("\n".join(lines))
    return path


def long_line(folder: Path) -> Path:
    path = csv(folder)
    path.write_text(path.read_text() + "1,2\n" + ",".join("1" * 40) + "\n")
    return path


BROKEN = {
    "csv pixel": (pixel_in_line_45, "the pixel in line 45, column 1 is 'x"),
    "csv label": (no_label_in_line_30, "the label in line 30 is missing"),
    "csv line": (long_line, "no CSV file that can be read|is missing"),
    "pixel": (wrong_pixel, "pixel 256 in image 41: expected a number from 0 to 255"),
    "cut gz": (cut_gz, "cut short"),
    "long gz": (long_gz, "is longer than"),
    "checksum": (bad_npz, "Bad CRC-32"),
    "size": (other_size, "pictures of different size"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_named_and_leaves_nothing(
    kind: str, tmp_path: Path, large: Callable[[], None], own_cache: Path
) -> None:
    make, message = BROKEN[kind]
    home = tmp_path / "source"
    home.mkdir()
    source = make(home)
    large()
    with pytest.raises(kn.DataError, match=message):
        sources.convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert [path for path in own_cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return int(str(ended.value.code))


def test_the_command_says_what_it_wrote_and_trains_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "digits"
    assert command("data", "digits", "--to", str(target), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["to"] == str(target)
    assert shown["bytes"] == sum(file.stat().st_size for file in target.iterdir())
    assert shown["sha256"] == kn.load("digits").sha256()
    assert command("data", str(target)) == 0
    assert shown["sha256"] in capsys.readouterr().out
    words = ("--model", "linear", "--epochs", "1", "--project", str(tmp_path / "runs"))
    assert command("train", str(target), *words) == 0
    assert command("evaluate", str(tmp_path / "runs" / "train"), "--data", "digits") == 0
    trained = len(kn.load("digits").split().train)
    assert f"{trained:,} of these 1,797 images are among those that this run was trained on" in capsys.readouterr().out


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    for target in (tmp_path, tmp_path / "mine"):
        assert command("data", "digits", "--to", str(target)) == 1
        assert f"error: {target} exists already" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"
    assert command("data", "--to", str(tmp_path / "new")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = kn.load("digits")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=129_383))
    with pytest.raises(kn.DataError, match=r"No space left on device") as failure:
        store.convert(data, tmp_path / "target")
    assert failure.value.hint == "129,384 bytes are needed: give a folder that has room"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    data = kn.load("mnist-5k")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=True)
    try:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
        with pytest.raises(kn.DataError, match=r"can't write .*: No space left on device"):
            store.convert(data, small / "target")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_no_room_in_the_cache_is_told_of_what_must_be_decoded_there(
    tmp_path: Path, large: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    idx_pairs(tmp_path, packed=True)
    large()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(kn.DataError, match=r"unpacks to 2,160 bytes, which can't be kept in .*: No space") as failure:
        kn.load(tmp_path)
    assert "XDG_CACHE_HOME" in str(failure.value.hint)
    assert not list(cache.root().rglob("*.npy"))


def test_what_is_large_is_not_decoded_in_memory_where_there_can_be_no_cache(
    tmp_path: Path, large: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    idx_pairs(tmp_path, packed=True)
    large()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(kn.DataError, match=r"unpacks to 2,160 bytes, which can't be kept in .*: it can't be written"):
        kn.load(tmp_path)


def test_a_meta_json_of_someone_else_is_passed_over(tmp_path: Path) -> None:
    npy_of(PIXELS)(tmp_path)
    for text in ("{}", '{"classes": ["a"]}', "[]", "no JSON", "[" * 100_000):
        (tmp_path / "meta.json").write_text(text)
        assert kn.load(tmp_path).origin == str(tmp_path / "images.npy")


DAMAGE: dict[str, dict[str, Any]] = {
    "version": {"kilonet_images": 2},
    "classes": {"classes": ["0", "1"]},
    "twice": {"classes": ["0", "0", "1"]},
    "no list": {"classes": "012"},
    "unprintable": {"classes": ["0", "1", "\x1b[31m"]},
    "test part": {"test_from": 100},
    "preparation": {"preparation": "none"},
    "notes": {"notes": [1]},
    "origin": {"origin": None},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_description_is_told(damage: str, tmp_path: Path) -> None:
    npy_of(PIXELS)(tmp_path)
    target = tmp_path / "target"
    sources.convert(tmp_path / "images.npy", target)
    meta = json.loads((target / "meta.json").read_text())
    (target / "meta.json").write_text(json.dumps({**meta, **DAMAGE[damage]}))
    with pytest.raises(kn.DataError, match=r"target (is damaged|was written by another version)"):
        kn.load(target)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("how", ["gone", "cut", "link"])
def test_a_damaged_file_is_told(name: str, how: str, tmp_path: Path) -> None:
    npy_of(PIXELS)(tmp_path)
    target = tmp_path / "target"
    sources.convert(tmp_path / "images.npy", target)
    content = (target / name).read_bytes()
    (target / name).unlink()
    if how == "cut":
        (target / name).write_bytes(content[:-1])
    if how == "link":
        (target / name).symlink_to(tmp_path / name)
    with pytest.raises(kn.DataError, match=r"target (is damaged|lacks its)"):
        kn.load(target)
