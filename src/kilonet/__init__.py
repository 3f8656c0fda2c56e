"""Kilobyte-sized image classifiers, trained in seconds, measured honestly.

import kilonet as kn

data = kn.load("mnist").split()
model = kn.build("kilo-4k", data.train, seed=0)
history = kn.fit(model, data, kn.recipe("kilo-4k", epochs=15, seed=0))
report = kn.evaluate(model, data.test)
kn.plots.save(kn.plots.curves(history), "curves.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilonet import plots
    from kilonet.arrays import from_arrays
    from kilonet.checkpoint import load_model, save_model
    from kilonet.committee import Committee
    from kilonet.config import Training, recipe
    from kilonet.errors import (
        ConfigError,
        DataError,
        DivergedError,
        FetchError,
        Interrupted,
        KilonetError,
        ModelError,
        RunError,
    )
    from kilonet.evaluation import evaluate
    from kilonet.history import Epoch, History
    from kilonet.images import ImageSet, Splits
    from kilonet.models import Classifier, build
    from kilonet.predict import Predictor
    from kilonet.ranks import joined
    from kilonet.seeds import resume
    from kilonet.significance import across_seeds, compare
    from kilonet.sources import load
    from kilonet.train import epochs, fit

_HOMES = {
    "kilonet.checkpoint": ("load_model", "save_model"),
    "kilonet.committee": ("Committee",),
    "kilonet.config": ("Training", "recipe"),
    "kilonet.errors": (
        "ConfigError",
        "DataError",
        "DivergedError",
        "FetchError",
        "Interrupted",
        "KilonetError",
        "ModelError",
        "RunError",
    ),
    "kilonet.evaluation": ("evaluate",),
    "kilonet.arrays": ("from_arrays",),
    "kilonet.images": ("ImageSet", "Splits"),
    "kilonet.models": ("Classifier", "build"),
    "kilonet.predict": ("Predictor",),
    "kilonet.ranks": ("joined",),
    "kilonet.sources": ("load",),
    "kilonet.history": ("Epoch", "History"),
    "kilonet.seeds": ("resume",),
    "kilonet.significance": ("across_seeds", "compare"),
    "kilonet.train": ("epochs", "fit"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Classifier",
    "Committee",
    "ConfigError",
    "DataError",
    "DivergedError",
    "Epoch",
    "FetchError",
    "History",
    "ImageSet",
    "Interrupted",
    "KilonetError",
    "ModelError",
    "Predictor",
    "RunError",
    "Splits",
    "Training",
    "across_seeds",
    "build",
    "compare",
    "epochs",
    "evaluate",
    "fit",
    "from_arrays",
    "joined",
    "load",
    "load_model",
    "plots",
    "recipe",
    "resume",
    "save_model",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first asked for, so that `import kilonet` costs nothing."""
    if name == "plots":
        return importlib.import_module("kilonet.plots")
    if name in _HOME:
        found = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'kilonet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
