"""Likely label errors: planted ones are found, the arithmetic is confident learning's, nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import kilonet as kn
from kilonet.doctor.labels import FOLDS, folds, label_errors, suggested


def with_errors(data: kn.ImageSet, share: float) -> tuple[kn.ImageSet, set[int]]:
    rng = np.random.default_rng(8)
    wrong = rng.random(len(data)) < share
    labels = np.where(wrong, (data.labels + rng.integers(1, 10, len(data))) % 10, data.labels)
    return replace(data, labels=labels), set(np.flatnonzero(wrong).tolist())


def test_planted_errors_are_found_first_and_reproducibly() -> None:
    data, wrong = with_errors(kn.load("digits"), 0.02)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    told: list[float] = []
    found = label_errors(data, 0, told.append)
    assert found is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(set(found.rows) & wrong) >= 0.8 * len(wrong)
    assert len(set(found.rows[: len(wrong)]) & wrong) >= 0.7 * len(wrong)
    first = found.evidence["suspects"][0]
    assert first["label"] == data.classes[data.labels[first["row"]]]
    assert first["suggested"] == str(kn.load("digits").labels[first["row"]])


def test_the_same_seed_gives_the_same_finding() -> None:
    data, _ = with_errors(kn.load("digits").take(np.arange(400)), 0.03)
    assert label_errors(data, 3) == label_errors(data, 3)


def test_suspects_are_those_of_the_confident_joint() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.4), 300)
    labels = rng.integers(0, 4, 300)
    expected = []
    usual = [probabilities[labels == k, k].mean() for k in range(4)]
    for p, label in zip(probabilities, labels, strict=True):
        above = [k for k in range(4) if p[k] >= usual[k]]
        best = max(above, key=lambda k: p[k], default=label)
        expected.append(best if best != label else -1)
    assert suggested(probabilities, labels).tolist() == expected


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_tiny_sets_are_looked_through_without_a_warning(classes: int) -> None:
    digits = kn.load("digits")
    rows = np.concatenate([np.flatnonzero(digits.labels == k)[:4] for k in range(classes)])
    told: list[float] = []
    data = kn.from_arrays(digits.pixels[rows, 0], digits.labels[rows])
    found = label_errors(data, watch=told.append)
    assert found is None or set(found.rows) <= set(range(len(rows)))
    assert told[-1] == 1


def test_folds_hold_every_class_evenly() -> None:
    labels = np.repeat(np.arange(5), [4, 7, 40, 41, 400])
    fold = folds(labels, 0)
    for k in range(5):
        counts = np.bincount(fold[labels == k], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(fold, folds(labels, 1))


@pytest.mark.full
def test_errors_of_mnist_that_any_eye_tells_come_first(full_mnist: kn.ImageSet) -> None:
    """Plain digits under a wrong label, among those published with confident learning (Northcutt et al. 2021)."""
    found = label_errors(full_mnist)
    assert found is not None
    suggestions = {suspect["row"]: suspect["suggested"] for suspect in found.evidence["suspects"][:20]}
    plain = {43454: "3", 40144: "3", 10994: "9", 59915: "7"}
    assert {row: suggestions.get(row) for row in plain} == plain
