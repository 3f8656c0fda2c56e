"""The figures: the curves of many runs, and pictures in a grid."""

from __future__ import annotations

import numpy as np
import pytest

from kilonet import plots
from kilonet.history import Epoch, History


def histories(n: int, val: bool = True) -> list[History]:
    """The first of them has five epochs, the others three."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        figures = rng.random((5 if i == 0 else 3, 3))
        records = [
            Epoch(e + 1, a, b if val else None, c if val else None, 1e-3, 1.0) for e, (a, b, c) in enumerate(figures)
        ]
        found.append(History(records, f"seed-{i}"))
    return found


def test_many_runs_are_thin_lines_around_their_median() -> None:
    many = histories(30)
    loss, accuracy = plots.curves(many).axes
    legend = loss.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training, median of 30", "validation, median of 30"]
    assert [len(lines.get_segments()) for lines in (*loss.collections, *accuracy.collections)] == [30, 30, 30]  # type: ignore[attr-defined]
    first = [np.median([history.epochs[e].train_loss for history in many]) for e in range(3)]
    last = [record.train_loss for record in many[0].epochs[3:]]
    assert np.allclose(np.asarray(loss.lines[0].get_ydata(), float), [*first, *last])
    shares = [100 * np.median([history.epochs[e].val_accuracy or 0 for history in many]) for e in range(3)]
    assert np.allclose(np.asarray(accuracy.lines[0].get_ydata(), float)[:3], shares)
    assert accuracy.get_xlim()[1] > 5


def test_many_runs_without_validation() -> None:
    loss, accuracy = plots.curves(histories(12, val=False)).axes
    assert len(loss.lines) == 1
    assert [text.get_text() for text in accuracy.texts] == ["no validation part"]


def test_ten_runs_have_their_own_colours() -> None:
    loss, accuracy = plots.curves(histories(10)).axes
    assert len(loss.lines) == 20
    assert len({line.get_color() for line in accuracy.lines}) == 10


@pytest.mark.parametrize(
    ("n", "columns", "size"), [(1, None, (28, 28)), (9, 3, (28, 28)), (7, None, (10, 30)), (4, 4, (9, 1))]
)
def test_pictures_lie_apart_in_their_shape_each_under_its_caption(
    n: int, columns: int | None, size: tuple[int, int]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (n, 1, *size)).astype(np.uint8)
    figure = plots.images(pictures, [f"{i}\nrow" for i in range(n)], [i == 0 for i in range(n)], columns, "a title")
    (axes,) = figure.axes
    boxes = [tuple(image.get_extent()) for image in axes.images]
    assert [text.get_text() for text in axes.texts] == [f"{i}\nrow" for i in range(n)]
    assert [text.get_color() == "black" for text in axes.texts] == [i != 0 for i in range(n)]
    for i, (left, right, bottom, top) in enumerate(boxes):
        assert (bottom - top) / (right - left) == pytest.approx(size[0] / size[1])
        assert 0 <= left < right <= axes.get_xlim()[1]
        assert 0 < top < bottom <= axes.get_ylim()[0]
        x, y = axes.texts[i].get_position()
        assert left < x < right
        assert y < top
        apart = [r <= left or right <= l or b <= top or bottom <= t for l, r, b, t in boxes[:i]]  # noqa: E741
        assert all(apart)
        assert np.array_equal(np.asarray(axes.images[i].get_array()), pictures[i, 0])
