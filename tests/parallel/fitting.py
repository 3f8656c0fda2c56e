"""Train a net, and write the losses of its steps and what became of it: `python fitting.py TASK.json TO.json`.

Under torchrun its ranks do so together. The task names a model, a source and how many of its images, settings, whether
to compute in float64, and whether a single rank is to send its messages, too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import kilonet as kn
from kilonet import engines, ranks, world
from kilonet.config import Training
from kilonet.images import Splits
from kilonet.state import State, begin
from kilonet.train import advance, share


def splits(task: dict[str, Any]) -> Splits:
    data = kn.load(task["source"]).split("70/15/15")
    if "images" in task:
        return Splits(data.train.take(slice(0, task["images"])), data.val, None, data.how)
    return data


def fitted(task: dict[str, Any]) -> dict[str, Any]:
    """Losses of the steps, records of the epochs and the weights at the end."""
    data = splits(task)
    training = Training(**{"threads": 1, "engine": "torch", **task["training"]})
    model = kn.build(task["model"], data.train, seed=0)
    if task.get("double"):
        model.double()
    model.to(world.device(training.device))
    torch.backends.cudnn.allow_tf32 = False  # its products have 10 bits, and other sums for other sizes of a batch
    losses: list[float] = []
    before = 0.0

    def watch(state: State) -> None:
        nonlocal before
        before = before if state.step > 1 else 0.0
        images = min(training.batch_size, len(data.train) - (state.step - 1) * training.batch_size)
        losses.append((state.loss_sum - before) / images)
        before = state.loss_sum

    state = begin(model, len(data.train), training)
    share(state, data, training)
    start = time.perf_counter()
    records = list(advance(state, data, training, watch))
    seconds = time.perf_counter() - start
    weights = torch.cat([value.double().flatten() for value in model.state_dict().values()]).tolist()
    measured = [(record.train_loss, record.val_loss, record.val_accuracy) for record in records]
    return {"losses": losses, "records": measured, "weights": weights, "steps_a_second": len(losses) / seconds}


@contextmanager
def one_rank_as_many() -> Iterator[int]:
    """One rank that computes as several do, messages included."""
    ranks._group = ranks._join(0, 1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engines, "choose", lambda *_: engines._over_ranks("torch"))
            yield 0
    finally:
        ranks.leave()


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    with one_rank_as_many() if task.get("alone") else ranks.joined() as number:
        found = fitted(task)
        found["through"] = "NCCL" if ranks._group and ranks._group.gpus else "gloo" if ranks._group else "nothing"
        if number == 0:
            Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
