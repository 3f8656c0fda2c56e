"""Ranks on a GPU: through NCCL where each has one of its own, through the CPU where they share one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parallel import fitting
from parallel.test_losses import over

pytestmark = [pytest.mark.full, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("model", ["tutorial-cnn", "kilo-16k"])
def test_ranks_on_a_gpu_train_as_one_process(model: str, double: bool, tmp_path: Path) -> None:
    """Float32 is compared for the net without a maximum, and timed for both."""
    training = {"epochs": 1, "batch_size": 64, "device": "cuda"}
    task: dict[str, Any] = {
        "source": "mnist-5k",
        "model": model,
        "images": 3200,
        "double": double,
        "training": training,
    }
    fitting.fitted({**task, "images": 640})
    plain = fitting.fitted(task)
    print(f"\n{model}, {'float64' if double else 'float32'}: one process {plain['steps_a_second']:.0f} steps a second")
    for ranks, more in ((1, {"alone": True}), (2, {})):
        found = over(ranks, {**task, **more}, tmp_path)
        assert found["through"] == ("NCCL" if ranks <= torch.cuda.device_count() else "gloo")
        apart = np.abs(np.array(found["losses"]) / plain["losses"] - 1).max()
        print(f"  {ranks} through {found['through']}: {found['steps_a_second']:.0f}, losses {apart:.1e} apart at most")
        if double or model == "tutorial-cnn":
            assert apart < (1e-9 if double else 1e-5)
