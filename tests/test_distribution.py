"""The picture of many accuracies: a dot for each, where it is; the figures beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kilonet import plots
from kilonet.distribution import distribution

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

WHY = "its process was killed by SIGKILL, as happens where memory runs out"


def named(accuracies: Any) -> dict[str, float]:
    return {f"seed-{i}": float(accuracy) for i, accuracy in enumerate(accuracies)}


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in (*axes.texts, axes._left_title)]  # type: ignore[attr-defined]


def dots(figure: Figure, panel: int = 0) -> np.ndarray:
    return np.asarray(figure.axes[panel].collections[0].get_offsets())


def clusters(n: int) -> np.ndarray:
    """As the tutorial's CNN has them: with no to three dead classes."""
    rng = np.random.default_rng(n)
    return np.asarray(0.89 - 0.095 * rng.integers(0, 4, n) + rng.normal(0, 0.006, n))


@pytest.mark.parametrize("n", [1, 2, 5, 100, 10_000])
def test_every_run_is_a_dot_where_it_belongs(n: int) -> None:
    accuracies = clusters(n)
    figure = distribution({"val": named(accuracies)}, {}, "some")
    found, across = dots(figure), np.ptp(100 * accuracies) * 1.08 or 1
    assert len(found) == n
    assert np.abs(found[:, 0] - np.sort(100 * accuracies)).max() <= across / 64 * 1.01
    assert found[:, 1].min() > 0
    assert found[:, 1].max() < figure.axes[0].get_ylim()[1]
    assert len({(round(x, 6), round(y, 6)) for x, y in found}) == n


def test_equal_accuracies_are_one_stack_and_steps_of_images_make_no_false_peaks() -> None:
    right = np.repeat(np.arange(9900, 9971), 10)
    heights = dots(distribution({"test": named(right / 10_000)}, {}))
    _, counts = np.unique(heights[:, 0].round(6), return_counts=True)
    assert set(counts[1:-1]) == {20}
    same = dots(distribution({"val": named([0.5] * 7)}, {}))
    assert np.allclose(same[:, 0], 50)
    assert np.allclose(np.diff(same[:, 1]), np.diff(same[:, 1])[0])


def test_the_figures_beside_the_dots() -> None:
    accuracies = {"seed-3": 0.70, "seed-4": 0.80, "seed-6": 0.75, "seed-9": 0.95}
    figure = distribution({"val": accuracies, "test": accuracies}, {"seed-5": WHY}, "a net, 5 seeds")
    said = texts(figure)
    assert len(figure.axes) == 2
    assert {"validation accuracy, %", "test accuracy, %", "a net, 5 seeds", f"left out: seed-5 ({WHY})"} <= set(said)
    assert said.count("worst: seed-3, 70.00") == said.count("best: seed-9, 95.00") == 2
    assert "median 77.50, quartiles 73.75 to 83.75" in said
    half = 3.182446 * np.std([70, 80, 75, 95], ddof=1) / 2  # Student's t, 3 degrees of freedom, from a table
    assert f"mean 80.00, 95 % interval {80 - half:.2f} to {80 + half:.2f}" in said


def test_many_that_are_left_out_are_counted() -> None:
    figure = distribution({"val": named(clusters(90))}, {f"seed-{i}": WHY for i in range(90, 100)})
    assert f"left out: seed-90 ({WHY}), seed-91, seed-92 and 7 more" in texts(figure)


def test_a_single_run_has_no_interval(tmp_path: Path) -> None:
    figure = distribution({"val": {"seed-0": 0.9}}, {})
    assert {"mean 90.00", "each 90.00"} <= set(texts(figure))
    plots.save(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000
