"""Pixels that stay on the disk are what an array of them is, however they are looked at, and take no memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kilonet as kn
from kilonet import mapped, models
from kilonet.mapped import Mapped, lazily

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = (7, 1, 12)
N = sum(LENGTHS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.uint8]]:
    """Three mapped files, behind a header as IDX has it."""
    rng = np.random.default_rng(0)
    found: list[NDArray[np.uint8]] = []
    for number, length in enumerate(LENGTHS):
        path = tmp_path_factory.mktemp("files") / f"{number}"
        path.write_bytes(bytes(16) + rng.integers(0, 256, (length, 3, 4, 5), np.uint8).tobytes())
        found.append(np.memmap(path, np.uint8, "r", 16, (length, 3, 4, 5)))
    return found


def indices(n: int) -> st.SearchStrategy[Any]:
    """What an array of n rows may be indexed with."""
    some = st.lists(st.integers(-n, n - 1), max_size=30).map(lambda rows: np.array(rows, np.int64))
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    return st.one_of(st.slices(n), some, masks) if n else st.slices(0)


@given(st.data(), st.integers(1, 3))
def test_it_is_indexed_as_an_array(files: list[NDArray[np.uint8]], data: st.DataObject, number: int) -> None:
    plain = np.concatenate(files[:number])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "SMALL", 0)
        patch.setattr(mapped, "PIECE", 200)
        view = Mapped(files[:number])
        for _ in range(data.draw(st.integers(0, 3))):
            which = data.draw(indices(len(plain)))
            plain, taken = plain[which], view.take(which)
            assert isinstance(taken, Mapped)
            view = taken
        assert view.shape == plain.shape
        assert (len(view), view.nbytes, view.dtype, view.ndim) == (len(plain), plain.nbytes, plain.dtype, plain.ndim)
        np.testing.assert_array_equal(np.array(view), plain)
        np.testing.assert_array_equal(np.concatenate([plain[:0], *view.pieces()]), plain)
        np.testing.assert_array_equal(np.stack(list(view)) if len(plain) else plain, plain)
        which = data.draw(indices(len(plain)))
        np.testing.assert_array_equal(view[which], plain[which])
        view.want(np.arange(len(plain)))
        view.let_go()
        if len(plain):
            row = data.draw(st.integers(-len(plain), len(plain) - 1))
            np.testing.assert_array_equal(view[row], plain[row])
        if (there := view.in_place()) is not None:
            np.testing.assert_array_equal(there[0] if there[1] is None else there[0][there[1]], plain)


def test_rows_that_are_not_there_are_refused(files: list[NDArray[np.uint8]]) -> None:
    view = Mapped(files)
    for which in (N, -N - 1, np.array([0, N]), np.array([-N - 1]), np.ones(N + 1, bool)):
        with pytest.raises(IndexError):
            view[which]
        with pytest.raises(IndexError):
            view.take(np.atleast_1d(which))


def test_answers_are_copies_and_few_rows_are_plain_arrays(files: list[NDArray[np.uint8]]) -> None:
    view = Mapped(files[:1])
    for found in (view[:], view[2], view[np.array([1])], view.take(slice(2, 4)), np.asarray(view)):
        assert isinstance(found, np.ndarray)
        assert not np.shares_memory(found, files[0])


def test_all_in_one_file_are_found_there(files: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SMALL", 0)
    view = Mapped(files)
    one, several = view.take(np.array([9, 8, 19])), view.take(np.array([6, 7]))
    assert isinstance(one, Mapped)
    assert isinstance(several, Mapped)
    there = one.in_place()
    assert there is not None
    assert there[0] is files[2]
    assert several.in_place() is None


def test_only_large_mapped_files_stay_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 5), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    ways = {mode: np.load(tmp_path / "x.npy", mmap_mode=mode) for mode in ("r", "c")}
    assert not any(isinstance(lazily(array), Mapped) for array in ways.values())
    monkeypatch.setattr(mapped, "LARGE", pixels.nbytes)
    assert isinstance(lazily(ways["r"]), Mapped)
    assert isinstance(lazily(ways["r"].reshape(20, 1, 5, 4)), Mapped)
    for other in (ways["c"], ways["r"].transpose(0, 1, 3, 2), ways["r"][::2], ways["r"][1:], pixels):
        assert lazily(other) is other


def test_what_is_known_of_images_does_not_depend_on_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_5k: kn.ImageSet
) -> None:
    np.save(tmp_path / "images.npy", mnist_5k.pixels)
    np.save(tmp_path / "labels.npy", mnist_5k.labels)
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(mapped, "SMALL", 0)
    monkeypatch.setattr(mapped, "PIECE", 100_000)
    there = kn.load(tmp_path)
    here = replace(there, images=np.array(mnist_5k.pixels))
    rows = np.random.default_rng(0).permutation(5000)[:2000]
    for one, other in (
        (there, here),
        (there.take(rows), here.take(rows)),
        (there.take(slice(9, 99)), here.take(slice(9, 99))),
    ):
        assert one.is_large
        assert not other.is_large
        assert one.sha256() == other.sha256()
        assert np.array_equal(one.fingerprints(), other.fingerprints())
        assert one.extremes() == other.extremes() == (other.pixels.min(), other.pixels.max())
        assert models._statistics(one) == models._statistics(other)
        assert one.histograms() is one.histograms()  # pixels on a disk are read once
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 5, 7), np.uint8)
    data = kn.from_arrays(images, np.arange(11) % 2)
    means, stds = models._statistics(data)
    assert means == pytest.approx(images.mean((0, 2, 3), dtype=np.float64), rel=1e-6)
    assert stds == pytest.approx(images.std((0, 2, 3), dtype=np.float64), rel=1e-6)


TRAINING = """
import sys, threading, time
import torch
from kilonet import cli, mapped

def own():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

def train(source):
    words = ["train", source, "--model", "linear", "--epochs", "1", "--project", sys.argv[1] + "/runs", "--json"]
    try:
        cli.main(words)
    except SystemExit as ended:
        assert ended.code == 0

if len(sys.argv) > 2:
    mapped.LARGE = int(sys.argv[2])
train("digits")
before = most = own()

def watch():
    global most
    while True:
        most = max(most, own())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
train(sys.argv[1])
print(most - before, file=sys.stderr)
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell its memory")
@pytest.mark.parametrize("stays", [True, False], ids=["on disk", "in memory"])
def test_training_takes_no_memory_for_pixels(tmp_path: Path, stays: bool) -> None:
    """A file with holes, so that nothing is written; the same in memory shows that the bound would be broken."""
    n = 600_000
    with (tmp_path / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (n, 28, 28)})
        file.truncate(file.tell() + n * 784)
    np.save(tmp_path / "labels.npy", np.arange(n, dtype=np.uint8) % 10)
    words = [sys.executable, "-c", TRAINING, str(tmp_path), *(["400000000"] if stays else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megabytes = int(done.stderr.splitlines()[-1])
    print(f"{megabytes} MB for {n * 784 // 10**6} MB of pixels")
    assert (megabytes < 300) == stays
