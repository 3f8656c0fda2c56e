"""What the tests of sources share: a cache of their own, and small images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """Twelve images, 4x5, no two alike."""
    return np.random.default_rng(0).integers(0, 256, (12, 4, 5), np.uint8)


@pytest.fixture
def labels() -> NDArray[np.uint8]:
    return np.arange(12, dtype=np.uint8) % 3
