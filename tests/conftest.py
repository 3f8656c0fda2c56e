"""What all tests share: caches of their own, and full MNIST where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import kilonet as kn

settings.register_profile("kilonet", deadline=None, derandomize=True)
settings.load_profile("kilonet")


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("caches")
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    os.environ["SCIKIT_LEARN_DATA"] = str(root / "scikit_learn_data")


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """Leave PyTorch's number of threads as it was: trainings set it for their process."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def full_mnist() -> kn.ImageSet:
    if not (Path(os.environ.get("KILONET_DATA", "")) / "mnist").is_dir():
        pytest.skip("KILONET_DATA names no folder that holds mnist/")
    return kn.load("mnist")


@pytest.fixture(scope="session")
def mnist_5k() -> kn.ImageSet:
    return kn.load("mnist-5k")
