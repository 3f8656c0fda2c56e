"""Figures against formulas written out by hand, and against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilonet import metrics


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(counts: tuple[int, int]) -> None:
    k, n = counts
    z, p = 1.959963984540054, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert metrics.wilson(k, n) == pytest.approx((max(0, centre - half), min(1, centre + half)), abs=1e-9)


def test_report_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]))
    labels = np.array([0, 1, 1, 2])
    found = metrics.report(logits, labels, ("a", "b", "c"), np.array([10, 11, 12, 13]))
    assert (found.correct, found.n, found.accuracy) == (3, 4, 0.75)
    assert found.loss == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean())
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert [(c.precision, c.recall) for c in found.classes] == [(0.5, 1.0), (1.0, 0.5), (1.0, 1.0)]
    assert found.worst().tolist() == [2]
    torch_loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found.loss == pytest.approx(torch_loss.item())


def test_a_report_made_in_pieces_and_in_place_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits, labels, rows = rng.normal(size=(10, 3)), rng.integers(0, 3, 10), np.arange(10)
    whole = metrics.report(logits.copy(), labels, ("a", "b", "c"), rows)
    monkeypatch.setattr(metrics, "_PIECE", 4)
    apart = metrics.report(logits, labels, ("a", "b", "c"), rows)
    own = metrics.report(in_place := logits.copy(), labels, ("a", "b", "c"), rows, own=True)
    for found in (apart, own):
        assert (found.figures(), found.ece) == (whole.figures(), whole.ece)
        np.testing.assert_array_equal(found.probabilities, whole.probabilities)
        np.testing.assert_array_equal(found.predicted, whole.predicted)
    assert own.probabilities is in_place


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    expected = abs(0.5 - 0.95) * 0.5 + abs(1.0 - 0.6) * 0.5
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(expected)


def test_calibration_error_keeps_neighbouring_bins_apart() -> None:
    probabilities = np.array([[0.95, 0.05], [0.9, 0.1]])
    expected = 0.95 * 0.5 + 0.1 * 0.5
    assert metrics.calibration_error(probabilities, np.array([1, 0])) == pytest.approx(expected)


def test_calibration_error_of_the_calibrated_is_small() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 200_000)
    labels = (rng.uniform(size=p.size) > p).astype(np.int64)
    assert metrics.calibration_error(np.stack([p, 1 - p], 1), labels) < 0.01


def test_over_seeds_is_students_interval() -> None:
    found = metrics.over_seeds([1.0, 2.0, 3.0, 4.0])
    assert found["mean"] == 2.5
    assert found["std"] == pytest.approx(np.std([1, 2, 3, 4], ddof=1))
    assert found["interval"] == pytest.approx([2.5 - 3.182446 * found["std"] / 2, 2.5 + 3.182446 * found["std"] / 2])
    assert metrics.over_seeds([1.0])["interval"] is None
    assert metrics.over_seeds([4.0, 1.0, 2.0])["quantiles"] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert metrics.over_seeds([1.0])["quantiles"] == [1.0] * 5
