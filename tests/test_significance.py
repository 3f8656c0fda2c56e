"""Significance against published tables, sums written out by hand, and simulations in which there is no difference."""

from __future__ import annotations

from dataclasses import replace
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kilonet as kn
from kilonet import metrics
from kilonet.significance import LEVEL, AcrossSeeds, Paired, across_seeds, compare, holm, mcnemar, newcombe

COUNTS = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda counts: sum(counts) > 0)
SHARES = st.lists(st.integers(0, 1000).map(lambda count: count / 1000), min_size=2, max_size=6)


def table(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Results of two nets over images in such numbers."""
    counts = (both, only_a, only_b, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def binomial_sum(b: int, c: int) -> float:
    """Twice the lesser tail of Binomial(b + c, 1/2), 1 at most, in whole numbers."""
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return float(min(1.0, 2 * tail / 2 ** (b + c)))


def test_published_paired_tables() -> None:
    """Fagerland, Lydersen and Laake (2017), chapter 8: complete response, and airway hyper-responsiveness."""
    cavo = mcnemar(*table(59, 6, 16, 80))
    assert (cavo.n, cavo.only_a, cavo.only_b) == (161, 6, 16)
    assert round(cavo.difference, 4) == -0.0621
    assert (round(cavo.interval[0], 4), round(cavo.interval[1], 4)) == (-0.1186, -0.0046)
    bentur = mcnemar(*table(1, 1, 7, 12))
    assert bentur.p == pytest.approx(0.0703125)
    assert round(bentur.difference, 3) == -0.286


def test_agresti_approval_of_the_prime_minister() -> None:
    """Agresti (2002), table 10.1: 794 approve, 150 and 86 change, 570 disapprove; 0.0400, z = 4.17."""
    found = mcnemar(*table(794, 150, 86, 570))
    assert found.difference == pytest.approx(64 / 1600)
    assert found.p == pytest.approx(binomial_sum(150, 86))
    assert found.p < 1e-4


@given(COUNTS)
def test_exact_mcnemar_is_a_sum_of_binomials(counts: tuple[int, int, int, int]) -> None:
    found = mcnemar(*table(*counts))
    assert found.p == pytest.approx(binomial_sum(counts[1], counts[2]), rel=1e-9)
    assert found.difference == (counts[1] - counts[2]) / sum(counts)


@given(COUNTS)
def test_newcombe_is_its_formula(counts: tuple[int, int, int, int]) -> None:
    a, b, c, d = counts
    n, z = sum(counts), 1.959963984540054

    def wilson(k: int) -> tuple[float, float]:
        centre, half = 2 * k + z * z, z * sqrt(z * z + 4 * k * (1 - k / n))
        return (centre - half) / (2 * (n + z * z)), (centre + half) / (2 * (n + z * z))

    (l1, u1), (l2, u2) = wilson(a + b), wilson(a + c)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    corrected = cross - n / 2 if cross > n / 2 else min(cross, 0)
    phi = corrected / sqrt(product) if product else 0
    p1, p2 = (a + b) / n, (a + c) / n
    low = p1 - p2 - sqrt(abs((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2))
    high = p1 - p2 + sqrt(abs((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2))
    assert newcombe(a, b, c, d) == pytest.approx((low, high), abs=1e-7)


@given(COUNTS)
def test_swapping_two_nets_turns_the_sign(counts: tuple[int, int, int, int]) -> None:
    one, other = table(*counts)
    there, back = mcnemar(one, other), mcnemar(other, one)
    assert (there.difference, there.only_a) == (-back.difference, back.only_b)
    assert there.p == pytest.approx(back.p)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-12)
    assert there.interval[0] <= there.difference <= there.interval[1]
    assert -1 - 1e-12 <= there.interval[0] <= there.interval[1] <= 1 + 1e-12


@pytest.mark.parametrize("right", [[True] * 9, [False] * 9, [True, False, True], [True]])
def test_nets_that_agree_everywhere(right: list[bool]) -> None:
    found = mcnemar(np.array(right), np.array(right))
    assert (found.p, found.difference, found.least_p) == (1.0, 0.0, 1.0)
    assert found.interval[0] <= 0 <= found.interval[1]


def test_fewer_than_six_images_can_never_be_more_than_noise() -> None:
    for count in range(1, 8):
        found = mcnemar(*table(50, count, 0, 3))
        assert found.p == pytest.approx(found.least_p)
        assert (found.p < LEVEL) == (count >= 6)


@pytest.mark.parametrize(("one", "other"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_results_that_can_not_be_paired(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(kn.DataError, match="shapes"):
        mcnemar(np.ones(one, bool), np.ones(other, bool))


def test_mcnemar_keeps_its_rate_of_false_findings_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(size=(2000, 300)) < 0.1
    one, other = (rng.uniform(size=hard.shape) < np.where(hard, 0.5, 0.97) for _ in range(2))
    found = [mcnemar(a, b) for a, b in zip(one, other, strict=True)]
    rate = np.mean([f.p < LEVEL for f in found])
    covered = np.mean([f.interval[0] <= 0 <= f.interval[1] for f in found])
    assert 0.01 < rate < 0.05
    assert 0.93 < covered < 0.985


def test_mcnemar_finds_a_difference_that_is_there() -> None:
    rng = np.random.default_rng(1)
    found = [mcnemar(rng.uniform(size=750) < 0.97, rng.uniform(size=750) < 0.90) for _ in range(100)]
    assert np.mean([f.p < LEVEL for f in found]) > 0.95
    assert np.mean([f.interval[0] <= 0.07 <= f.interval[1] for f in found]) > 0.9


def test_welch_by_hand() -> None:
    """Means 3 and 6, variances 1 and 4, n = 3 and 3: t = -3 / sqrt(5/3), df = (5/3)^2 / (1/18 + 16/18)."""
    found = across_seeds([2.0, 3.0, 4.0], [4.0, 6.0, 8.0])
    assert found.t == pytest.approx(-3 / sqrt(5 / 3))
    assert found.df == pytest.approx(50 / 17)
    assert found.difference == -3
    assert found.interval is not None
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(-3)
    assert (high - low) / 2 == pytest.approx(3.2188 * sqrt(5 / 3), rel=2e-4)
    assert LEVEL < found.p < 0.15


def test_welch_of_equal_spreads_is_students_table() -> None:
    """n = 2 and 2 with equal variances: 2 degrees of freedom, for which p = 1 - t / sqrt(2 + t^2)."""
    found = across_seeds([0.90, 0.92], [0.96, 0.98])
    t = 0.06 / sqrt(0.0002)
    assert found.df == pytest.approx(2)
    assert found.p == pytest.approx(1 - t / sqrt(2 + t * t))


def test_one_net_against_several_by_hand() -> None:
    """Mean 2, deviation 1, n = 3: t = (5 - 2) / sqrt(4/3), 2 degrees of freedom, 4.302653 of them for 95 %."""
    found = across_seeds([5.0], [1.0, 2.0, 3.0])
    t = 3 / sqrt(4 / 3)
    assert found.t == pytest.approx(t)
    assert found.df == 2
    assert found.p == pytest.approx(1 - t / sqrt(2 + t * t))
    assert found.interval == pytest.approx((3 - 4.302653 * sqrt(4 / 3), 3 + 4.302653 * sqrt(4 / 3)))


@given(SHARES, SHARES)
def test_swapping_two_sets_turns_the_sign(a: list[float], b: list[float]) -> None:
    for one, other in ((a, b), (a[:1], b)):
        there, back = across_seeds(one, other), across_seeds(other, one)
        assert there.difference == -back.difference
        assert there.p == pytest.approx(back.p)
        assert 0 <= there.p <= 1
        if there.interval and back.interval:
            assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


@pytest.mark.parametrize("b", [[0.9, 0.9, 0.9], [0.8, 0.8], [0.8]])
def test_seeds_without_spread_show_nothing(b: list[float]) -> None:
    found = across_seeds([0.9, 0.9], b)
    assert found == AcrossSeeds((0.9, 0.9), tuple(b), found.difference, None, None, None, 1.0)
    assert found.difference == pytest.approx(0.9 - b[0])


def test_spread_on_one_side_is_enough() -> None:
    found = across_seeds([0.97, 0.97, 0.97], [0.90, 0.91, 0.92])
    assert found.df == pytest.approx(2)
    t = 0.06 / (0.01 / sqrt(3))
    assert found.p == pytest.approx(1 - t / sqrt(2 + t * t))


@pytest.mark.parametrize(("a", "b"), [([], [0.9, 0.8]), ([0.9], [0.8]), ([0.9], [])])
def test_too_few_seeds(a: list[float], b: list[float]) -> None:
    with pytest.raises(kn.DataError, match="seeds"):
        across_seeds(a, b)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 8), (1, 5)])
def test_seeds_keep_their_rate_of_false_findings(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    draws = [[rng.normal(0.97, 0.003, size).tolist() for size in sizes] for _ in range(1500)]
    rate = np.mean([across_seeds(a, b).p < LEVEL for a, b in draws])
    assert 0.03 < rate < 0.065


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lessens(p: list[float]) -> None:
    found, given_p = holm(p), np.array(p)
    assert (found >= given_p).all()
    assert (found <= np.minimum(1, len(p) * given_p)).all()
    assert (np.diff(found[np.argsort(given_p, kind="stable")]) >= 0).all()


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    rng = np.random.default_rng(3)
    assert np.mean([holm(rng.uniform(size=10)).min() < LEVEL for _ in range(2000)]) < 0.065


def reports() -> tuple[metrics.Report, metrics.Report]:
    rng = np.random.default_rng(4)
    labels, rows = np.arange(300) % 3, np.arange(300) + 7
    logits = np.eye(3)[labels] + rng.normal(0, 0.4, (2, 300, 3)) * np.array([1, 2])[:, None, None]
    one, other = (metrics.report(part, labels, ("a", "b", "c"), rows) for part in logits)
    return one, other


def test_reports_of_the_same_images_are_compared() -> None:
    one, other = reports()
    found = kn.compare(one, other)
    assert isinstance(found, Paired)
    assert found.difference == pytest.approx(one.accuracy - other.accuracy)
    assert (found.n, found.only_a - found.only_b) == (300, one.correct - other.correct)
    assert found.p < LEVEL


def test_reports_of_other_images_are_refused() -> None:
    one, other = reports()
    shifted, turned = replace(other, rows=other.rows + 1), replace(other, labels=np.roll(other.labels, 1))
    for changed in (shifted, turned, replace(other, labels=other.labels[:9])):
        with pytest.raises(kn.DataError, match="different images"):
            compare(one, changed)
