"""Augmentation: what the warps do to an image, and what they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kilonet.augment import CONTROL, spline, warp, warps
from kilonet.config import Training


def picture(height: int = 11, width: int = 13) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, height, width), dtype=np.uint8))


def bent(move_x: float, move_y: float) -> torch.Tensor:
    """A warp whose control points all move alike."""
    by = torch.zeros(1, 2, 3 + CONTROL**2)
    by[0, 0, 0] = by[0, 1, 1] = 1
    by[0, 0, 3:], by[0, 1, 3:] = move_x, move_y
    return by


@pytest.mark.parametrize("pixels", [1, 2, 9, 28])
def test_the_spline_is_scipys(pixels: int) -> None:
    uniform = BSpline(np.arange(-2, CONTROL + 2), np.eye(CONTROL), 3, extrapolate=False)
    at = np.linspace(1, CONTROL - 2, pixels) if pixels > 1 else np.array([(CONTROL - 1) / 2])
    np.testing.assert_allclose(spline(pixels), uniform(at), atol=1e-6)
    np.testing.assert_allclose(spline(pixels).sum(1), 1, rtol=1e-6)


def test_control_points_that_move_alike_move_the_image() -> None:
    image = picture()
    moved = warp(image, bent(2, -1))
    torch.testing.assert_close(moved[..., 1:, :-2], image[..., :-1, 2:].float(), atol=1e-2, rtol=0)


def test_a_control_point_moves_what_lies_around_it() -> None:
    image, by = picture(28, 28), bent(0, 0)
    by[0, 0, 3 + 1 * CONTROL + 1] = 3.0
    changed = (warp(image, by) - image).abs().amax((0, 1))
    assert changed[0, 0] > 1
    assert (changed[:17, :17] > 1).sum() > 100
    assert changed[19:].max() < 1e-2
    assert changed[:, 19:].max() < 1e-2


def test_bends_are_drawn_besides_what_else_is_asked_for() -> None:
    affine = warps(Training(shift=2, rotate=10, seed=3), 500, 28, 4)
    both = warps(Training(shift=2, rotate=10, elastic=1.5, seed=3), 500, 28, 4)
    assert affine is not None
    assert both is not None
    assert both.shape == (500, 2, 3 + CONTROL**2)
    torch.testing.assert_close(both[:, :, :3], affine, rtol=0, atol=0)
    assert both[:, :, 3:].std().item() == pytest.approx(1.5, rel=0.02)
    assert both[:, :, 3:].mean().item() == pytest.approx(0, abs=0.03)


def test_bends_alone_leave_the_rest_as_it_is() -> None:
    by = warps(Training(elastic=1.0), 3, 28, 0)
    assert by is not None
    torch.testing.assert_close(by[:, :, :3], torch.eye(2, 3).expand(3, 2, 3), rtol=0, atol=0)
    assert warps(Training(), 3, 28, 0) is None


def test_moves_are_in_proportion_to_the_image() -> None:
    large, small = (warps(Training(shift=4, rotate=9, elastic=2), 20, side, 0) for side in (28, 7))
    assert large is not None
    assert small is not None
    torch.testing.assert_close(small[:, :, 2:], large[:, :, 2:] / 4)
    torch.testing.assert_close(small[:, :, :2], large[:, :, :2])


def test_an_image_of_one_pixel_can_leave() -> None:
    image, by = torch.full((1, 1, 1, 1), 200, dtype=torch.uint8), bent(5, 0)
    assert warp(image, by).item() == 0
    assert warp(image, bent(0.25, 0)).item() == pytest.approx(150)
