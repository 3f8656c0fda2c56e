"""Splits: every image in one part, classes in every part, the tutorial's cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kilonet as kn


def images(labels: list[int], test_from: int | None = None) -> kn.ImageSet:
    pixels = np.arange(len(labels), dtype=np.uint32).view(np.uint8).reshape(-1, 1, 2, 2)
    return kn.from_arrays(pixels, np.array(labels), test_from=test_from)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=30, max_size=200), st.sampled_from(["standard", "60/40", "0.5/0.3/0.2"]))
def test_stratified_splits_take_every_image_once(labels: list[int], how: str) -> None:
    labels = [*labels, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    parts = images(labels).split(how, seed=1).parts()
    rows = np.concatenate([part.rows for part in parts.values()])
    assert sorted(rows) == list(range(len(labels)))
    assert all(set(part.labels) == {0, 1, 2, 3} for part in parts.values())


def test_standard_keeps_the_sources_own_test_part() -> None:
    labels = [0, 1] * 35
    parts = images(labels, test_from=60).split().parts()
    assert {name: part.rows.tolist() for name, part in parts.items()} == {
        "train": list(range(50)), "val": list(range(50, 60)), "test": list(range(60, 70))
    }  # fmt: skip


def test_full_trains_on_all_that_is_not_test() -> None:
    data = images([0, 1] * 50)
    full, standard = data.split("full", seed=3), data.split("standard", seed=3)
    assert full.val is None
    assert full.test is not None
    assert standard.test is not None
    assert np.array_equal(full.test.rows, standard.test.rows)
    assert len(full.train) + len(full.test) == 100


def test_tutorial_cuts_in_sequence() -> None:
    parts = images([0, 1] * 35).split("tutorial").parts()
    assert [len(part) for part in parts.values()] == [50, 20]
    assert parts["val"].rows.tolist() == list(range(50, 70))


def test_a_source_in_class_order_is_shuffled_and_that_is_said(mnist_5k: kn.ImageSet) -> None:
    splits = mnist_5k.split("tutorial", seed=4)
    assert splits.val is not None
    assert "shuffled with seed 4" in splits.notes[0]
    assert set(splits.val.labels) == set(range(10))
    assert not np.array_equal(splits.val.rows, mnist_5k.split("tutorial", seed=5).parts()["val"].rows)


def test_test_part_in_class_order_still_validates_on_every_class() -> None:
    splits = images([0] * 30 + [1] * 30 + [0, 1] * 5, test_from=60).split()
    assert splits.val is not None
    assert set(splits.val.labels) == {0, 1}
    assert splits.notes


@pytest.mark.parametrize(
    ("how", "words"),
    [("standrad", "did you mean standard"), ("50/20", "sum to 1 or 100"), ("1/0", "above 0"), ("a/b", "unknown split"),
     ("nan/nan", "sum to 1"), ("100", "two or three parts")],
)  # fmt: skip
def test_splits_that_will_not_do(how: str, words: str) -> None:
    with pytest.raises(kn.ConfigError, match=words):
        images([0, 1] * 50).split(how)


@pytest.mark.parametrize(
    ("labels", "words"), [([0] * 50, "one class only"), ([0, 0, 0, 0, 0, 1, 1], "class '1' has 2 images")]
)
def test_sets_that_can_not_be_split(labels: list[int], words: str) -> None:
    with pytest.raises(kn.DataError, match=words):
        images(labels).split()


def test_fewer_images_than_classes() -> None:
    few = kn.ImageSet(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), ("a", "b", "c"))
    with pytest.raises(kn.DataError, match="2 images for 3 classes"):
        few.split()


def test_fingerprints_are_equal_for_equal_images_alone(mnist_5k: kn.ImageSet) -> None:
    prints = mnist_5k.fingerprints()
    distinct = np.unique(mnist_5k.pixels.reshape(5000, -1), axis=0)
    assert len(np.unique(prints)) == len(distinct)
