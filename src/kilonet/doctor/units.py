"""What is wrong inside the net: weights that are no numbers, units that are dead, logits kept within bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from kilonet.doctor.finding import Finding
from kilonet.errors import ModelError
from kilonet.models import assemble

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from kilonet.doctor.view import View
    from kilonet.models import Classifier

_BOUNDS = {"Softmax": 1.0, "Sigmoid": 1.0, "Hardsigmoid": 1.0, "Tanh": 2.0, "Hardtanh": 2.0}


def broken(model: Classifier, view: View | None) -> Finding | None:
    """Weights, or logits, that are no finite numbers."""
    names = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    names += [name for name, b in model.named_buffers() if b.is_floating_point() and bool(b.isnan().any())]
    bad = 0 if view is None else int((~np.isfinite(view.logits)).any(1).sum())
    if not names and not bad:
        return None
    what = f"{', '.join(names[:3])} hold NaN or infinity" if names else ""
    return Finding(
        "broken-weights",
        what or f"the logits of {bad:,} of {len(view.labels) if view else 0:,} images are NaN or infinite",
        "one such number spoils every one that is computed from it",
        "train again with a lower learning rate; the last good weights, if any, are in the run's weights/",
        evidence={"weights": names, "images": bad},
    )


def moved(model: Classifier, seed: int) -> float | None:
    """The greatest share of its first size by which any of a model's weight tensors has changed since it was built.

    Of a model of the zoo the first weights follow from the seed; of any other they are not known, and it is None.
    PyTorch's global generator stays as it was. Tensors that begin at zero are left out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            first = assemble(
                model.name, model.shape, model.classes, model.preparation, _numbers(model.mean), _numbers(model.std)
            )
        except ModelError:
            return None
    now, then = (dict(of.named_parameters()) for of in (model, first))
    if {name: p.shape for name, p in now.items()} != {name: p.shape for name, p in then.items()}:
        return None
    shares = [_change(now[name].detach().cpu(), p.detach()) for name, p in then.items() if bool(p.any())]
    return max(shares, default=None)


def _change(now: Tensor, then: Tensor) -> float:
    return float((now - then).norm() / then.norm())


def _numbers(of: Tensor) -> list[float]:
    return [float(x) for x in of.flatten()]


def squashed(view: View) -> Finding | None:
    """Logits that a last activation keeps within bounds, so that no answer can be sure."""
    if view.final is None or view.final.kind not in _BOUNDS or np.ptp(view.logits) > _BOUNDS[view.final.kind]:
        return None
    least = math.log1p((view.logits.shape[1] - 1) * math.exp(-_BOUNDS[view.final.kind]))
    return Finding(
        "squashed-logits",
        f"{view.final.name}, a {view.final.kind}, stands behind the last weighted layer: no loss below {least:.3f}",
        "cross-entropy takes logits of any size, and applies the softmax itself",
        f"take that {view.final.kind} out",
        evidence={"cause": view.final.name, "least_loss": least},
    )


def dead_units(view: View, lr: float) -> Finding | None:
    """Layers of which a third and more of the units give the same for every image; the last activation left out."""
    bad = [layer for layer in view.layers if layer is not view.final and len(layer.dead) > max(1, layer.units / 3)]
    bad += [layer for layer in view.layers if layer is not view.final and layer.units == 1 and len(layer.dead)]
    if not bad:
        return None
    worst = max(bad, key=lambda layer: len(layer.dead) / layer.units)
    whole = len(worst.dead) == worst.units
    told = [f"{layer.name} ({layer.kind}) {len(layer.dead)} of {layer.units}: {numbers(layer.dead)}" for layer in bad]
    return Finding(
        "dead-units",
        f"units that give the same for every image of {len(view.labels):,}: {'; '.join(told)}",
        f"nothing of an image gets through {worst.name}, and no gradient back"
        if whole
        else "no gradient reaches them: they take no part, and most never recover",
        f"lower the learning rate: --lr {lr / 10:g}; or look at the initial weights and biases of the layer before",
        evidence={"layers": dead_by_layer(view), "looked_at": len(view.labels)},
    )


def dead_by_layer(view: View) -> dict[str, list[int]]:
    """The numbers of the dead units of each layer that has any."""
    return {layer.name: layer.dead.tolist() for layer in view.layers if len(layer.dead)}


def numbers(found: NDArray[np.int64], most: int = 12) -> str:
    """Numbers of units, the first of them."""
    return ", ".join(map(str, found[:most])) + (", ..." if len(found) > most else "")
