"""The connected parts of a mask are those that SciPy finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from kilonet.components import label


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.35, 0.45, 0.6, 0.9, 1.0])
def test_scipy_finds_the_same(share: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 65, 2)) < share
        labels, n = label(mask)
        expected, count = ndimage.label(mask, np.ones((3, 3)))
        assert n == count
        np.testing.assert_array_equal(labels, expected)
