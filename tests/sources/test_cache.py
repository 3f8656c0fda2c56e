from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kilonet as kn
from kilonet.sources import cache


class Decoder:
    """Makes an image set, and counts how often it was asked to."""

    def __init__(self, shade: int = 7) -> None:
        self.shade = shade
        self.calls = 0

    def __call__(self) -> kn.ImageSet:
        self.calls += 1
        images = np.full((4, 1, 2, 3), self.shade, np.uint8)
        labels = np.array([0, 1, 2, 1])
        return kn.ImageSet(images, labels, ("a", "b", "c"), "a test", 3, "digit", notes=("made up",))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"some bytes")
    return path


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


def get(source: Path, decoder: Decoder) -> kn.ImageSet:
    return cache.get("test", cache.stamps([source]), decoder)


def entry() -> Path:
    """The folder of the only entry."""
    (found,) = (path for path in cache.root().iterdir() if path.is_dir())
    return found


def check(data: kn.ImageSet, shade: int = 7) -> None:
    expected = Decoder(shade)()
    assert np.array_equal(data.images, expected.images)
    assert np.array_equal(data.labels, expected.labels)
    for name in ("classes", "origin", "test_from", "preparation", "notes"):
        assert getattr(data, name) == getattr(expected, name)


def test_the_second_load_is_memory_mapped_and_decodes_nothing(source: Path, decoder: Decoder) -> None:
    check(get(source, decoder))
    second = get(source, decoder)
    check(second)
    assert decoder.calls == 1
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_decoded_anew_and_takes_the_old_ones_place(
    source: Path, decoder: Decoder, change: str
) -> None:
    old = get(source, decoder)
    stat = source.stat()
    if change == "size":
        source.write_bytes(b"more bytes than that")
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    other = Decoder(9)
    check(get(source, other), 9)
    check(get(source, other), 9)
    assert (decoder.calls, other.calls) == (1, 1)
    check(old)
    entry()


def test_equal_files_at_two_places_have_entries_of_their_own(source: Path, decoder: Decoder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(source.read_bytes())
    get(source, decoder)
    check(get(other, Decoder(9)), 9)
    check(get(source, decoder))
    assert decoder.calls == 1


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json"])
@pytest.mark.parametrize("size", [0, 5, -1, None], ids=["empty", "5-bytes", "less-1", "gone"])
def test_an_entry_cut_short_is_made_anew(source: Path, decoder: Decoder, name: str, size: int | None) -> None:
    get(source, decoder)
    file = entry() / name
    if size is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:size])
    check(get(source, decoder))
    check(get(source, decoder))
    assert decoder.calls == 2


@pytest.mark.parametrize("meta", [[], {}, {"version": 0}, {"version": 1}, None])
def test_an_entry_that_describes_itself_otherwise_is_made_anew(source: Path, decoder: Decoder, meta: object) -> None:
    get(source, decoder)
    (entry() / "meta.json").write_text(json.dumps(meta))
    check(get(source, decoder))
    assert decoder.calls == 2


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 1, 2, 3], ["a", "b", "c", "d"]], ids=["few", "far", "text"])
def test_an_entry_whose_labels_do_not_fit_is_made_anew(source: Path, decoder: Decoder, labels: list[object]) -> None:
    get(source, decoder)
    np.save(entry() / "labels.npy", np.array(labels))
    check(get(source, decoder))
    assert decoder.calls == 2


def test_an_entry_says_no_more_of_many_files_than_of_one(source: Path, decoder: Decoder) -> None:
    sizes = []
    for number in (1, 1000):
        cache.get("test", cache.stamps([source] * number), decoder)
        sizes += [path.stat().st_size for path in sorted(cache.root().rglob("meta.json"), key=os.path.getmtime)[-1:]]
    assert sizes[0] == sizes[1]


def test_a_decoder_that_fails_leaves_nothing(source: Path) -> None:
    def fail() -> kn.ImageSet:
        raise kn.DataError("no")

    with pytest.raises(kn.DataError, match="no"):
        cache.get("test", cache.stamps([source]), fail)
    assert [path.name for path in cache.root().iterdir() if path.suffix != ".lock"] == []


def test_a_write_that_fails_leaves_nothing_and_still_loads(
    source: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    check(get(source, decoder))
    assert [path.name for path in cache.root().iterdir() if path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_there_still_loads(
    source: Path, decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check(get(source, decoder))
    check(get(source, decoder))
    assert decoder.calls == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_a_cache_that_cannot_be_written_still_loads(source: Path, decoder: Decoder) -> None:
    cache.root().mkdir(parents=True)
    cache.root().chmod(0o500)
    try:
        check(get(source, decoder))
        assert list(cache.root().iterdir()) == []
    finally:
        cache.root().chmod(0o700)


def test_a_lock_that_cannot_be_had_still_loads(source: Path, decoder: Decoder) -> None:
    get(source, Decoder())
    lock = entry().with_name(f"{entry().name}.lock")
    (entry() / "meta.json").unlink()
    lock.unlink(missing_ok=True)
    lock.mkdir()
    check(get(source, decoder))
    assert decoder.calls == 1


RACER = """
import sys, time
from pathlib import Path
import numpy as np
from kilonet.images import ImageSet
from kilonet.sources import cache

source, here, there = map(Path, sys.argv[1:])

def decode():
    (here.parent / f"{here.name}.decoded").touch()
    time.sleep(0.3)
    return ImageSet(np.full((2000, 1, 28, 28), 7, np.uint8), np.arange(2000) % 10, tuple("0123456789"))

here.touch()
while not there.exists():
    time.sleep(0.001)
data = cache.get("race", cache.stamps([source]), decode)
assert (data.images == 7).all() and data.labels.tolist() == [n % 10 for n in range(2000)]
"""


def test_two_processes_at_once_decode_once_and_leave_no_litter(source: Path, tmp_path: Path) -> None:
    names = [tmp_path / "one", tmp_path / "two"]
    racers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", RACER, source, here, there])
        for here, there in (names, names[::-1])
    ]
    try:
        assert [racer.wait(60) for racer in racers] == [0, 0]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert len(list(tmp_path.glob("*.decoded"))) == 1
    assert sorted(path.name for path in entry().iterdir()) == ["images.npy", "labels.npy", "meta.json"]
    assert [path.name for path in cache.root().iterdir() if path.suffix != ".lock"] == [entry().name]


def test_a_real_source_is_not_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = kn.load("mnist-5k")
    monkeypatch.setattr(np, "loadtxt", None)
    second = kn.load("mnist-5k")
    assert isinstance(second.images, np.memmap)
    assert first.sha256() == second.sha256()
