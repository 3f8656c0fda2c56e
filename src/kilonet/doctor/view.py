"""`View`: a net seen from inside, its activations over some images, wherever PyTorch computes them."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from kilonet.images import ImageSet
    from kilonet.models import Classifier

SAMPLE = 1_000
_BATCH = 250
_ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU", "celu": "CELU",
    "gelu": "GELU", "silu": "SiLU", "mish": "Mish", "hardswish": "Hardswish", "softplus": "Softplus",
    "sigmoid": "Sigmoid", "hardsigmoid": "Hardsigmoid", "tanh": "Tanh", "hardtanh": "Hardtanh",
    "clamp": "clamp", "clamp_min": "clamp", "softmax": "Softmax",
}  # fmt: skip
_CONVOLUTIONS = {f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3)}
_PRODUCTS = {"linear", "matmul", "rmatmul", "mm", "addmm", "bmm", "einsum"}


@dataclass(frozen=True, eq=False)
class Layer:
    """An activation of a net, as some images met it.

    Attributes:
        name: of the module it is, or of the weighted layer that it follows where it is a function call.
        kind: what it computes, such as `ReLU`.
        low, high: (units, positions): the least and the greatest value over the images.
    """

    name: str
    kind: str
    low: Tensor
    high: Tensor

    @property
    def dead(self) -> NDArray[np.int64]:
        """The units that give the same for every image, int64."""
        scale = max(float(self.high.abs().max()), float(self.low.abs().max()))
        return np.flatnonzero(((self.high - self.low).amax(1) <= 1e-6 * scale).cpu().numpy())

    @property
    def units(self) -> int:
        """The number of its channels, or of its outputs behind a linear layer."""
        return len(self.low)


@dataclass(frozen=True, eq=False)
class View:
    """A model as seen from inside, over some images.

    Attributes:
        layers: its activations that follow a weighted layer, in the order of the forward pass.
        final: the activation behind the last weighted layer, one of `layers`, or None.
        logits: float64, (N, K).
        labels: int64, (N,).
    """

    layers: list[Layer]
    final: Layer | None
    logits: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def right(self) -> tuple[int, int]:
        """How many of the images are classified rightly, and how many there are."""
        return int((self.logits.argmax(1) == self.labels).sum()), len(self.labels)

    @property
    def constant(self) -> NDArray[np.int64]:
        """The classes whose logit is the same for every image, int64."""
        span = np.ptp(self.logits, axis=0)
        return np.flatnonzero(span <= 1e-6 * np.abs(self.logits).max())


def look(model: Classifier, data: ImageSet) -> View | None:
    """Watch a copy of the model at work on a sample of images; the model itself and its hooks are not touched.

    Activations are seen wherever PyTorch computes them, in a module such as `nn.ReLU` or by a call such as `F.relu`.

    Args:
        model: any classifier, on any device.
        data: at most 1,000 of its images are looked at, drawn with a fixed seed.

    Returns:
        What was seen, or None for a model that can't be copied or watched.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(data))[:SAMPLE])
    images = torch.from_numpy(np.ascontiguousarray(data.images[rows])).to(model.mean.device)
    watches, logits = [], []
    try:
        with undisturbed(model) as copy, torch.no_grad():
            for batch in torch.split(images, _BATCH):
                with _Watch(copy) as watch:
                    logits.append(copy(batch))
                watches.append(watch)
        layers = [_merged(same) for same in zip(*(watch.layers for watch in watches), strict=True)]
    except Exception:
        return None
    final = layers[-1] if layers and watches[0].ends_with_activation else None
    return View(layers, final, torch.cat(logits).double().cpu().numpy(), data.labels[rows])


@contextmanager
def undisturbed(model: Classifier) -> Iterator[Classifier]:
    """A copy of a model for measuring; PyTorch's global generators are put back afterwards."""
    device = model.mean.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield deepcopy(model).eval()


def _merged(layers: tuple[Layer, ...]) -> Layer:
    """One activation over all batches."""
    low, high = (torch.stack([getattr(layer, name) for layer in layers]) for name in ("low", "high"))
    return Layer(layers[0].name, layers[0].kind, low.amin(0), high.amax(0))


class _Watch(TorchFunctionMode):
    """Takes note of each activation of one forward pass that follows a weighted layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.ends_with_activation = False
        self._inside: list[tuple[str, nn.Module]] = [("", model)]
        self._weighted = ""
        self._units: Callable[[Tensor], Tensor] | None = None
        self._hooks = []
        for name, module in model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(partial(self._enter, name)))
            self._hooks.append(module.register_forward_hook(self._leave))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let PyTorch compute, and look at what came out."""
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if isinstance(found, Tensor) and found.is_floating_point() and found.dim() > 1:
            if name in _CONVOLUTIONS or name in _PRODUCTS:
                self._weigh(found, name in _CONVOLUTIONS)
            elif name in _ACTIVATIONS and self._units is not None:
                self._note(_ACTIVATIONS[name], self._units(found))
        return found

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def _enter(self, name: str, module: nn.Module, _: Any) -> None:
        self._inside.append((name, module))

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def _weigh(self, found: Tensor, convolution: bool) -> None:
        """Remember a weighted layer and how its units lie in a tensor; a convolution's are its channels."""
        self.ends_with_activation = False
        self._weighted = self._inside[-1][0]
        if convolution:
            channels = found.shape[1]
            self._units = lambda x: x.reshape(len(x), channels, -1)
        else:
            outputs = found.shape[-1]
            self._units = lambda x: x.reshape(len(x), -1, outputs).transpose(1, 2)

    def _note(self, kind: str, values: Tensor) -> None:
        """Remember an activation, its values by image, unit and position."""
        path, module = self._inside[-1]
        own = path != self._weighted and not any(module.children())
        name = path if own else f"the {kind} call behind {self._weighted}"
        if name in {layer.name for layer in self.layers}:
            name = f"{name} ({len(self.layers) + 1})"
        self.layers.append(Layer(name, kind, values.amin(0), values.amax(0)))
        self.ends_with_activation = True
