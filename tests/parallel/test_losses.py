"""The same global batch gives what one process gives: losses, weights, batch norm, validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parallel import fitting
from parallel.launching import HERE, finished

RECIPE = {"optimizer": "adamw", "schedule": "one-cycle", "lr": 1e-2, "weight_decay": 1e-2}
WARPED = {"shift": 1.5, "rotate": 8.0, "zoom": 0.08, "shear": 4.0, "elastic": 2.0}


def over(ranks: int, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "task.json").write_text(json.dumps(task))
    launch = finished(ranks, str(HERE / "fitting.py"), "task.json", "found.json", folder=folder, seconds=300)
    assert launch.process.returncode == 0, launch.said()
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def assert_equal(one: dict[str, Any], many: dict[str, Any], relative: float) -> None:
    assert len(one["losses"]) == len(many["losses"])
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=relative)
    assert [record[2] for record in many["records"]] == [record[2] for record in one["records"]]
    losses = [[record[:2] for record in found["records"]] for found in (many, one)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=relative)


def test_three_ranks_train_as_one_process(tmp_path: Path) -> None:
    """With batch norm, and a last batch of two images, which leaves a rank without any."""
    task = {
        "source": "digits", "model": "kilo-4k", "images": 4 * 64 + 2, "double": True,
        "training": {"epochs": 2, "batch_size": 64, "label_smoothing": 0.1, "val_batch_size": 50, **RECIPE},
    }  # fmt: skip
    one, many = fitting.fitted(task), over(3, task, tmp_path)
    assert_equal(one, many, 1e-9)
    np.testing.assert_allclose(many["weights"], one["weights"], rtol=1e-6, atol=1e-9)


def test_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    launch = finished(3, str(HERE / "norming.py"), "found.json", folder=tmp_path)
    assert launch.process.returncode == 0, launch.said()
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 3 * 5 * 3 * 2
    for case, far in found.items():
        running, most = far.pop("running"), max(far.values())
        if case.endswith("100000"):
            assert running < 1e-9, case
            assert most < 1e-8, case
        else:
            assert max(running, most) < 1e-12, case


@pytest.mark.full
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("model", "settings"),
    [("tutorial-cnn", {}), ("kilo-4k", {**RECIPE, **WARPED}), ("kilo-16k", {**RECIPE, **WARPED})],
    ids=["tutorial-cnn", "kilo-4k", "kilo-16k"],
)
def test_an_epoch_in_float64(model: str, settings: dict[str, Any], ranks: int, tmp_path: Path) -> None:
    task = {
        "source": "mnist-5k", "model": model, "double": True, "images": 1601,
        "training": {"epochs": 1, "batch_size": 64, **settings},
    }  # fmt: skip
    assert_equal(fitting.fitted(task), over(ranks, task, tmp_path), 1e-9)


@pytest.mark.full
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("model", ["tutorial-cnn", "normed"])
def test_fifty_steps_in_float32(model: str, ranks: int, tmp_path: Path) -> None:
    """Nets whose losses in float32 don't hang on which of two all but equal values is the greater."""
    task = {
        "source": "mnist-5k", "model": f"{HERE / 'nets.py'}:Normed" if model == "normed" else model, "images": 3200,
        "training": {"epochs": 1, "batch_size": 64},
    }  # fmt: skip
    one, many = fitting.fitted(task), over(ranks, task, tmp_path)
    assert len(one["losses"]) == 50
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-5)
