"""Batch norm over ranks, held against PyTorch's over the whole batch: `torchrun ... norming.py TO.json`.

Writes, for each case, the greatest differences of outputs, gradients and running statistics.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kilonet import ranks
from kilonet.engines.norms import over_ranks

SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (), nn.BatchNorm2d: (4, 5), nn.BatchNorm3d: (2, 3, 4),
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {},
    {"momentum": None},
    {"affine": False},
    {"track_running_stats": False},
    {"eps": 0.3, "momentum": 0.5},
]


def differences(kind: type[nn.Module], settings: dict[str, Any], images: int, mean: float) -> dict[str, float]:
    """Of two batches, one after the other; the second backward."""
    torch.manual_seed(images)
    whole = kind(3, dtype=torch.float64, **settings)
    for p in whole.parameters():
        nn.init.normal_(p)
    shared = copy.deepcopy(whole)
    start, end = ranks.share(images)
    counted = end > start
    mine = slice(start, end) if counted else slice(0, 1)
    outputs: list[tuple[Tensor, Tensor]] = []
    for _ in range(2):
        batch = torch.randn(images, 3, *SHAPES[kind], dtype=torch.float64) * 2 + mean
        weight = torch.randn_like(batch)
        of_whole = batch.clone().requires_grad_()
        of_shared = batch[mine].clone().requires_grad_()
        expected = whole(of_whole)
        with over_ranks(shared, counted):
            found = shared(of_shared)
            (found * weight[mine]).sum().mul(float(counted)).backward()
        (expected * weight).sum().backward()
        gradient = of_whole.grad[mine] if counted else torch.zeros_like(of_shared)  # type: ignore[index]
        outputs += [(found, expected[mine]), (of_shared.grad, gradient)]  # type: ignore[list-item]
    for p, q in zip(shared.parameters(), whole.parameters(), strict=True):
        outputs.append((ranks.total(p.grad), q.grad))  # type: ignore[arg-type]
    running = [(value, whole.state_dict()[name]) for name, value in shared.state_dict().items()]
    names = ["output", "gradient", "output", "gradient", *["parameter"] * len(list(shared.parameters()))]
    far: dict[str, float] = {"running": max([float((a - b).abs().max()) for a, b in running], default=0.0)}
    for name, (a, b) in zip(names, outputs, strict=True):
        far[name] = max(far.get(name, 0.0), float((a - b).abs().max()) / (1 + float(b.abs().max())))
    return far


def main() -> None:
    found = {}
    with ranks.joined() as number:
        for kind in SHAPES:
            for i, settings in enumerate(CASES):
                for images in (2, 7, 64):
                    for mean in (0.0, 1e5):
                        far = differences(kind, settings, images, mean)
                        of_all = ranks.gather(far)
                        worst = {name: max(one[name] for one in of_all) for name in far}
                        found[f"{kind.__name__} {i} {images} {mean:g}"] = worst
    if number == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
