"""The data doctor finds what is planted, all of it, and says nothing of clean sets."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kilonet as kn
from doctor.planting import Change, change, inverted, named, names, some, transposed, with_test
from kilonet.doctor.data import examine, examine_briefly, picture
from kilonet.doctor.finding import Finding
from kilonet.images import Splits
from kilonet.sources import idx


@pytest.fixture(scope="module")
def mnist(mnist_5k: kn.ImageSet) -> kn.ImageSet:
    return with_test(mnist_5k)


@pytest.fixture(scope="module", params=["mnist-5k", "digits"])
def clean(request: pytest.FixtureRequest) -> kn.ImageSet:
    return with_test(kn.load(request.param))


def noise(images: Any) -> Any:
    return np.random.default_rng(4).integers(0, 6, images.shape)


def ones(images: Any) -> Any:
    return images > 127


@pytest.mark.parametrize("source", ["mnist-5k", "digits"])
def test_nothing_is_said_of_clean_sets(source: str) -> None:
    data = kn.load(source)
    assert examine(data, data.split()) == []
    assert examine_briefly(data.split()) == []


@pytest.mark.full
def test_nothing_is_said_of_full_mnist(full_mnist: kn.ImageSet) -> None:
    assert examine(full_mnist, full_mnist.split()) == []
    assert examine_briefly(full_mnist.split()) == []


def test_nothing_is_said_of_few_images_or_of_noisy_coloured_or_binary_ones(mnist: kn.ImageSet) -> None:
    rng = np.random.default_rng(3)
    few = mnist.take(np.concatenate([np.flatnonzero(mnist.labels == k)[:10] for k in range(10)]))
    tint = rng.uniform(0.3, 1, (len(mnist), 3, 1, 1))
    noisy = np.clip(mnist.images + rng.normal(0, 30, mnist.images.shape), 0, 255)
    sets = {
        "few": replace(few, rows=np.empty(0, np.int64)),
        "coloured": replace(mnist, images=(mnist.images * tint).astype(np.uint8)),
        "noisy": replace(mnist, images=noisy.astype(np.uint8)),
        "binary": replace(mnist, images=np.where(mnist.images > 127, 255, 0).astype(np.uint8)),
    }
    assert {name: examine(data, data.split()) for name, data in sets.items()} == {name: [] for name in sets}


def test_nothing_is_said_of_photographs_numbered_from_0_to_9() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    texture = sum(gaussian_filter(rng.normal(size=(1000, 3, 32, 32)), (0, 0, f, f)) * f for f in (1, 3, 8))
    kinds = gaussian_filter(rng.normal(size=(10, 3, 32, 32)), (0, 0, 5, 5)) * 5
    photos = np.clip(128 + 60 * (texture + kinds[labels]) + rng.normal(0, 30, (1000, 1, 1, 1)), 0, 255)
    for images in (photos, photos[:, :1]):
        data = kn.from_arrays(images.astype(np.uint8), labels)
        assert examine(data, data.split()) == []


def smooth(n: int, channels: int) -> kn.ImageSet:
    """Smooth noise about a prototype a class, stretched to 0 to 255 over the whole set."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(4)
    labels = rng.integers(0, 6, n)
    kinds = gaussian_filter(rng.normal(size=(6, channels, 24, 24)), (0, 0, 3, 3))
    noise = gaussian_filter(rng.normal(size=(n, channels, 24, 24)), (0, 0, 2, 2))
    made = kinds[labels] / kinds.std() + noise / noise.std()
    made = (made - made.min()) / np.ptp(made) * 255
    return kn.from_arrays(made.astype(np.uint8), labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_full_range_that_few_images_use_is_no_offset(channels: int) -> None:
    data = smooth(1500, channels)
    assert examine(data, data.split()) == []
    assert names(examine(change(data, slice(None), lambda x: 128 + x // 2))) == set()
    assert names(examine(change(data, slice(None), lambda x: np.maximum(x, 90)))) == {"scale"}


@pytest.mark.parametrize("seed", [107, 138])
def test_odd_handwriting_is_not_called_turned(seed: int, mnist_5k: kn.ImageSet) -> None:
    order = np.random.default_rng(seed).permutation(len(mnist_5k))
    assert examine(kn.ImageSet(mnist_5k.images[order], mnist_5k.labels[order], mnist_5k.classes, test_from=4000)) == []


@pytest.mark.parametrize("seed", [0, 2])
def test_wrong_labels_are_not_called_turned(seed: int, mnist_5k: kn.ImageSet) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(mnist_5k))
    labels = mnist_5k.labels[order]
    wrong = rng.choice(len(labels), 150, replace=False)
    labels[wrong] = rng.integers(0, 10, 150)
    assert examine(kn.ImageSet(mnist_5k.images[order], labels, mnist_5k.classes, test_from=4000)) == []


def dot(images: Any) -> Any:
    made = np.zeros_like(images)
    made[..., 3:5, 3:5] = 255
    return made


def test_a_dot_is_blank_whatever_its_brightness(mnist: kn.ImageSet) -> None:
    rows = some(mnist, 3)
    found = examine(change(mnist, rows, dot))
    assert list(named(found, "blank").rows) == rows.tolist()
    thin = np.argsort(mnist.images.reshape(len(mnist), -1).mean(1))[:20]
    assert not set(thin.tolist()) & set(named(found, "blank").rows) - set(rows.tolist())


@pytest.mark.parametrize("n", [1, 40, 400])
@pytest.mark.parametrize(
    ("name", "how"),
    [("constant", np.zeros_like), ("constant", lambda x: np.full_like(x, 255)), ("blank", noise),
     ("mixed-polarity", inverted), ("mixed-scale", ones), ("mixed-scale", lambda x: x // 16)],
    ids=["black", "white", "noise", "inverted", "0 to 1", "0 to 16"],
)  # fmt: skip
def test_single_images_are_found_by_row(clean: kn.ImageSet, name: str, how: Change, n: int) -> None:
    rows = some(clean, n)
    found = examine(change(clean, rows, how))
    one = named(found, name)
    assert len(set(one.rows) & set(rows)) >= 0.95 * n
    assert not set(one.rows) - set(rows)
    assert f"{len(one.rows):,} image" in one.what
    assert len(names(found)) == 1 or n > 1


@pytest.mark.parametrize(
    ("name", "how"),
    [("inverted", inverted), ("orientation", transposed), ("orientation", lambda x: x[..., ::-1]),
     ("orientation", lambda x: x[..., ::-1, :]), ("orientation", lambda x: np.rot90(x, 1, (-2, -1))),
     ("orientation", lambda x: transposed(inverted(x))),
     ("scale", ones), ("scale", lambda x: x // 16), ("scale", lambda x: x // 2), ("scale", lambda x: 128 + x // 2),
     ("scale", lambda x: (x.astype(int) - 128) % 256)],
    ids=["inverted", "transposed", "mirrored", "upside down", "turned", "both", "0 to 1", "0 to 15", "0 to 127",
         "128 to 255", "signed"],
)  # fmt: skip
def test_whole_sets_are_seen_through(clean: kn.ImageSet, name: str, how: Change) -> None:
    found = examine(change(clean, slice(None), how))
    assert [one.name for one in found].count(name) == 2, found
    assert names(found) - {"inverted", "duplicates", "shared"} <= {name}
    brief = examine_briefly(change(clean, slice(None), how).split())
    assert name in names(brief)


def test_orientation_is_called_by_its_name(mnist: kn.ImageSet) -> None:
    assert "are transposed:" in examine(change(mnist, slice(None), transposed))[0].what
    assert "upside down" in examine(change(mnist, slice(None), lambda x: x[..., ::-1, :]))[0].what


def pair(data: kn.ImageSet, *digits: int) -> kn.ImageSet:
    rows = np.flatnonzero(np.isin(data.labels, digits))
    return kn.from_arrays(data.images[rows, 0], data.labels[rows])


@pytest.mark.parametrize(
    ("digits", "how"),
    [((3, 7), transposed), ((3, 7), lambda x: transposed(inverted(x))), ((2, 5), lambda x: x[..., ::-1])],
)
def test_two_digits_are_enough_for_orientation(digits: tuple[int, int], how: Change, mnist_5k: kn.ImageSet) -> None:
    data = pair(mnist_5k, *digits)
    assert examine(data, data.split()) == []
    assert "orientation" in names(examine(change(data, slice(None), how)))


def test_two_classes_that_are_no_digits_have_no_orientation() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images = smooth_pair(rng)
        names_of = np.sort(rng.choice(10, 2, replace=False))
        assert examine(kn.from_arrays(images, np.repeat(names_of, 20))) == []


def smooth_pair(rng: np.random.Generator) -> Any:
    """Two kinds of blobs, 20 of each."""
    from scipy.ndimage import gaussian_filter

    kinds = np.repeat(gaussian_filter(rng.normal(size=(2, 28, 28)), (0, 4, 4)) * 12, 20, 0)
    made = np.clip(128 + 60 * kinds + rng.normal(0, 25, (40, 28, 28)), 0, 255)
    return made.astype(np.uint8)


def test_letters_are_compared_with_print() -> None:
    from kilonet.doctor import glyphs

    rng = np.random.default_rng(0)
    letters = [chr(65 + i % 26) for i in range(520)]
    upright = np.stack([np.roll(glyphs.printed(c), rng.integers(-2, 3, 2), (0, 1)) for c in letters])
    upright = np.clip(upright + rng.normal(0, 9, upright.shape), 0, 255)
    for labels in (np.array(letters), np.array([ord(c) - 64 for c in letters])):
        assert examine(kn.from_arrays(np.rint(upright), labels)) == []
        found = examine(kn.from_arrays(np.rint(upright.swapaxes(1, 2)), labels))
        assert "are transposed" in named(found, "orientation").what


@pytest.mark.parametrize(
    ("name", "how"),
    [("polarity-differs", inverted), ("orientation-differs", transposed),
     ("orientation-differs", lambda x: x[..., ::-1, :]), ("scales-differ", ones), ("scales-differ", lambda x: x // 2)],
    ids=["inverted", "transposed", "upside down", "0 to 1", "halved"],
)  # fmt: skip
def test_parts_are_held_against_each_other(clean: kn.ImageSet, name: str, how: Change) -> None:
    found = examine(change(clean, slice(clean.test_from, None), how))
    named(found, name)
    assert names(found) - {"duplicates"} == {name}
    halves = clean.split("50/50")
    assert halves.val is not None
    other = replace(halves.val, images=np.ascontiguousarray(how(halves.val.images)).astype(np.uint8))
    assert name in names(examine_briefly(replace(halves, val=other)))


def test_transposed_images_among_upright_ones_are_found(mnist: kn.ImageSet) -> None:
    rows = some(mnist, 200)
    one = named(examine(change(mnist, rows, transposed)), "mixed-orientation")
    assert one.evidence["symmetry"] == "transposed"
    assert len(set(one.rows) & set(rows)) >= 0.5 * len(rows)
    assert len(set(one.rows) - set(rows)) <= 0.05 * len(one.rows)


def copied(data: kn.ImageSet, source: range, target: range, n: int, *, shift: int = 0) -> tuple[kn.ImageSet, list[int]]:
    images, labels = np.array(data.images), data.labels.copy()
    rng = np.random.default_rng(6)
    here, there = rng.choice(source, n, replace=False), rng.choice(target, n, replace=False)
    images[there], labels[there] = images[here], (labels[here] + shift) % 10
    return replace(data, images=images, labels=labels), sorted(there.tolist())


@pytest.mark.parametrize("n", [1, 50])
def test_duplicates_are_counted(clean: kn.ImageSet, n: int) -> None:
    data, rows = copied(clean, range(500), range(600, 1400), n)
    found = examine(data)
    assert list(named(found, "duplicates").rows) == rows
    assert names(found) == {"duplicates"}


def test_equal_images_of_different_label_are_a_finding_of_their_own(clean: kn.ImageSet) -> None:
    data, rows = copied(clean, range(500), range(600, 1400), 30, shift=1)
    found = examine(data)
    one = named(found, "conflicting-labels")
    assert set(rows) < set(one.rows)
    assert len(one.rows) == 60
    assert one.evidence["groups"] == 30
    assert list(named(found, "duplicates").rows) == rows


@pytest.mark.parametrize("n", [1, 20])
def test_labels_that_conflict_across_parts(clean: kn.ImageSet, n: int) -> None:
    cut = clean.test_from or 0
    data, rows = copied(clean, range(cut), range(cut, len(clean)), n, shift=1)
    found = examine(data, data.split())
    one = named(found, "conflicting-labels")
    assert list(one.rows[:n]) == rows
    assert len(one.rows) == 2 * n
    assert one.evidence["groups"] == n
    assert names(found) == {"shared", "conflicting-labels"}
    assert "conflicting-labels" not in names(examine_briefly(data.split())), "labels of the test part are not read"
    same, _ = copied(clean, range(cut), range(cut, len(clean)), n)
    assert names(examine(same)) == {"shared"}


def test_labels_that_conflict_between_training_and_validation(mnist_5k: kn.ImageSet) -> None:
    splits = mnist_5k.split()
    assert splits.val is not None
    images, labels = np.array(splits.val.images), splits.val.labels.copy()
    images[:3], labels[:3] = splits.train.images[:3], (splits.train.labels[:3] + 1) % 10
    found = examine_briefly(replace(splits, val=replace(splits.val, images=images, labels=labels)))
    assert len(named(found, "conflicting-labels").rows) == 6


@pytest.mark.parametrize(("n", "text"), [(1, "1 image of 4,166 in the training part shows"), (2, "2 images of 4,166")])
def test_findings_are_sentences(n: int, text: str, mnist: kn.ImageSet) -> None:
    data, _ = copied(mnist, range(500), range(600, 1400), n, shift=1)
    found = examine(data)
    assert text in named(found, "duplicates").what
    assert f"in {n} group{'s' * (n > 1)} (" in named(found, "conflicting-labels").what
    assert "in the training part are equal to others" in named(found, "conflicting-labels").what
    constant = named(examine(change(mnist, some(mnist, n), np.zeros_like)), "constant").what
    assert f"in the training part {'is' if n == 1 else 'are'} of one value all over" in constant


@pytest.mark.parametrize("n", [1, 50])
def test_shared_images_are_counted(clean: kn.ImageSet, n: int) -> None:
    cut = clean.test_from or 0
    data, rows = copied(clean, range(cut), range(cut, len(clean)), n)
    one = named(examine(data, data.split()), "shared")
    assert one.evidence["shared"] == n
    assert list(one.rows[:n]) == rows
    brief = [one for one in examine_briefly(data.split()) if one.name == "shared"]
    assert sum(one.evidence["shared"] for one in brief) == n


def test_a_random_split_of_duplicates_shares_them(mnist_5k: kn.ImageSet) -> None:
    data, _ = copied(mnist_5k, range(2500), range(2500, 5000), 400)
    shared = [one.evidence["parts"] for one in examine(data, data.split()) if one.name == "shared"]
    assert ["the training part", "the test part"] in shared
    assert ["the training part", "the validation part"] in shared


def test_a_sorted_source_cut_in_sequence_misses_classes(mnist: kn.ImageSet) -> None:
    order = np.argsort(mnist.labels, kind="stable")
    data = replace(mnist.take(order), rows=np.arange(len(order)), test_from=mnist.test_from)
    found = [one for one in examine(data) if one.name == "missing-classes"]
    assert [one.evidence["part"] for one in found] == ["the training part", "the test part"]
    assert found[0].evidence["classes"] == ["9"]
    assert all("cut in sequence" in one.what for one in found)
    brief = [one for one in examine_briefly(data.split()) if one.name == "missing-classes"]
    assert {one.evidence["part"]: one.evidence["classes"] for one in brief} == {
        "the training part": ["9"], "the validation part": ["9"]
    }  # fmt: skip


def test_classes_without_images(mnist: kn.ImageSet) -> None:
    data = replace(mnist, classes=(*mnist.classes, "ten"))
    assert named(examine(data, data.split()), "missing-classes").evidence["classes"] == ["ten"]


@pytest.mark.parametrize(("keep", "rare"), [(0.05, True), (0.4, True), (0.9, False)])
def test_imbalance(mnist: kn.ImageSet, keep: float, rare: bool) -> None:
    chosen = (mnist.labels != 3) | (np.random.default_rng(0).random(len(mnist)) < keep)
    data = replace(mnist.take(np.flatnonzero(chosen)), rows=np.empty(0, np.int64))
    found = examine(data)
    assert names(found) == ({"imbalance"} if rare else set())
    if rare:
        assert found[0].evidence["rare"] == ["3"]


def test_chance_is_no_imbalance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = np.concatenate([np.arange(10), rng.integers(0, 10, 90)])
        images = rng.integers(0, 256, (100, 6, 6)).astype(np.uint8)
        assert "imbalance" not in names(examine(kn.from_arrays(images, labels)))


class Sealed(kn.ImageSet):
    """An image set that shows nothing of itself but its hashes, and where its rows lie."""

    opened = False

    def __getattribute__(self, name: str) -> Any:
        if name in {"images", "labels", "take", "counts", "sha256"} and not object.__getattribute__(self, "opened"):
            raise AssertionError(f"the test part's {name} were looked at")
        return object.__getattribute__(self, name)

    def __len__(self) -> int:
        return len(self.rows)

    def fingerprints(self) -> Any:
        object.__setattr__(self, "opened", True)
        try:
            return super().fingerprints()
        finally:
            object.__setattr__(self, "opened", False)


def sealed(data: kn.ImageSet) -> kn.ImageSet:
    Sealed.opened = True
    made = Sealed(data.images, data.labels, data.classes, rows=data.rows)
    Sealed.opened = False
    return made


def test_the_short_examination_takes_hashes_alone_of_the_test_part(mnist: kn.ImageSet) -> None:
    cut = mnist.test_from or 0
    data, rows = copied(mnist, range(cut), range(cut, len(mnist)), 20)
    data = change(data, np.arange(cut, cut + 5), np.zeros_like)
    splits = data.split()
    assert splits.test is not None
    closed = replace(splits, test=sealed(splits.test))
    with pytest.raises(AssertionError, match="looked at"):
        _ = closed.test.images  # type: ignore[union-attr]
    shared = [one for one in examine_briefly(closed) if one.name == "shared"]
    assert {row for one in shared for row in one.rows if row >= cut} == set(rows) - set(range(cut, cut + 5))


def write(form: str, folder: Path, data: kn.ImageSet) -> Path:
    images, labels, cut = data.images[:, 0], data.labels.astype(np.uint8), data.test_from or 0
    if form == "npz":
        parts = {"x_train": images[:cut], "y_train": labels[:cut], "x_test": images[cut:], "y_test": labels[cut:]}
        np.savez(folder / "data.npz", **parts)  # type: ignore[arg-type]
        return folder / "data.npz"
    if form == "idx":
        for name, rows in (("train", slice(0, cut)), ("t10k", slice(cut, None))):
            (folder / f"{name}-images-idx3-ubyte").write_bytes(idx.encode(np.ascontiguousarray(images[rows])))
            (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx.encode(labels[rows]))
        return folder
    if form == "csv":
        with (folder / "data.csv").open("w", newline="") as file:
            csv.writer(file).writerows([y, *x.ravel()] for x, y in zip(images, labels, strict=True))
        return folder / "data.csv"
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("train" if i < cut else "test") / str(label)
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"{i:05}.png")
    return folder


@pytest.mark.parametrize("form", ["npz", "idx", "csv", "folder"])
def test_faults_are_found_whatever_the_format(form: str, tmp_path: Path, mnist_5k: kn.ImageSet) -> None:
    mnist = with_test(mnist_5k, 1200)
    faults: dict[str, Change] = {
        "constant": np.zeros_like,
        "blank": noise,
        "mixed-polarity": inverted,
        "mixed-scale": ones,
    }
    data = mnist
    for i, how in enumerate(faults.values()):
        data = change(data, np.arange(10 * i, 10 * i + 10), how)
    data, _ = copied(data, range(100, 300), range(300, 600), 10)
    found = examine(kn.load(str(write(form, tmp_path, data))))
    assert names(found) == {*faults, "duplicates"}
    assert {one.name: len(one.rows) for one in found} == dict.fromkeys([*faults, "duplicates"], 10)


def test_fractions_beside_bytes_are_found(tmp_path: Path, mnist: kn.ImageSet) -> None:
    images, cut = mnist.images[:, 0], mnist.test_from or 0
    labels = {"y_train": mnist.labels[:cut], "y_test": mnist.labels[cut:]}
    np.savez(tmp_path / "data.npz", x_train=images[:cut] / 255, x_test=images[cut:], **labels)  # type: ignore[arg-type]
    assert "scales-differ" in names(examine(kn.load(str(tmp_path / "data.npz"))))


def test_odd_sizes_and_tiny_sets_are_examined() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (2, 3), (3, 3), (5, 40)):
        for n in (2, 30):
            data = kn.from_arrays(rng.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % 2)
            examine(data, Splits(data.take(slice(0, 1)), data.take(slice(1, 2)), None, "by hand"))
    dark = kn.from_arrays(np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2)
    assert names(examine(dark)) == {"constant"}


def test_the_picture_has_a_row_a_finding(mnist: kn.ImageSet) -> None:
    data = change(change(mnist, np.array([3, 9]), np.zeros_like), some(mnist, 30), inverted)
    found = [*examine(data), Finding("imbalance", "", "", "")]
    figure = picture(data, found, each=4)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert len(titles) == 8
    assert titles[:4] == [f"constant\nrow {row}: {data.classes[data.labels[row]]}" for row in (3, 9)] + ["", ""]
    assert all(title.startswith("mixed-polarity\nrow ") for title in titles[4:])
    assert picture(data, found[-1:]).axes == []
