"""A model worked through, layer by layer: sizes by the formula, parameters, multiply-adds, bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kilonet.models import Classifier, size_text
from kilonet.zoo import Linear, LinearFromScratch

_IN_PLACE = (nn.BatchNorm2d, nn.ReLU, nn.Flatten, nn.Dropout, nn.Identity)


@dataclass(frozen=True)
class Layer:
    """One layer, worked through.

    Attributes:
        kind: the layer's class.
        output: `HxWxC` of its output for one image, or `1xK`.
        formula: the output-size formula with this layer's numbers, for convolutions and pools.
        parameters: its trained values.
        multiply_adds: multiplications with a following addition, for one image.
        weight_bytes: bytes of its parameters as float32.
        output_bytes: bytes of its output as float32, for one image.
    """

    kind: str
    output: str
    formula: str
    parameters: int
    multiply_adds: int
    weight_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Summary:
    """A model worked through, layer by layer.

    Attributes:
        name: the model's name.
        input: `HxWxC` of an image.
        layers: each layer in the order of the forward pass.
        parameters: all trained values.
        multiply_adds: of a forward pass for one image.
        bytes: of all parameters as float32.
        path: the sizes from input to logits, where they change.
        live_int8: the most bytes that a layer's input and output take together, a byte a value: what activations need
            where layers follow one another and norms and ReLUs work in place.
    """

    name: str
    input: str
    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    multiply_adds: int = 0
    bytes: int = 0
    path: str = ""
    live_int8: int = 0


def summarise(model: Classifier) -> Summary:
    """Work a model through, layer by layer, by running one blank image through it."""
    layers: list[Layer] = []
    live = [0]

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers.append(_layer(layer, inputs[0], output))
        if not isinstance(layer, _IN_PLACE):
            live.append(inputs[0].numel() + output.numel())

    leaves = [m for m in model.net.modules() if not any(True for _ in m.children())]
    hooks = [leaf.register_forward_hook(record) for leaf in leaves]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros((1, *model.shape), dtype=torch.uint8, device=model.mean.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    sizes = [size_text(model.shape)]
    for layer in layers:
        if layer.output != sizes[-1] and not (layer.kind == "AdaptiveMaxPool2d" or layer.output.startswith("1x1x")):
            sizes.append(layer.output)
    total = model.parameter_count()
    adds = sum(layer.multiply_adds for layer in layers)
    return Summary(model.name, sizes[0], layers, total, adds, 4 * total, " -> ".join(sizes), max(live))


def _layer(layer: nn.Module, given: Tensor, output: Tensor) -> Layer:
    parameters = sum(p.numel() for p in layer.parameters())
    adds, formula = 0, ""
    if isinstance(layer, nn.Conv2d):
        adds = output[0].numel() * layer.weight[0].numel()
    elif isinstance(layer, (Linear, nn.Linear)):
        adds = output[0].numel() * layer.in_features
    elif isinstance(layer, LinearFromScratch):
        adds = layer.weights.numel()
    elif isinstance(layer, nn.BatchNorm2d):
        adds = output[0].numel()
    if isinstance(layer, (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)):
        formula = _formula(layer, given, output)
    shape = output.shape[1:]
    size = f"{shape[1]}x{shape[2]}x{shape[0]}" if len(shape) == 3 else "x".join(map(str, (1, *shape)))
    return Layer(type(layer).__name__, size, formula, parameters, adds, 4 * parameters, 4 * output[0].numel())


def _formula(layer: nn.Module, given: Tensor, output: Tensor) -> str:
    """`floor((28 - 3 + 2*1) / 2) + 1 = 14`, for the height, and for the width where that differs."""
    texts = []
    for axis in (0, 1):
        k, p, s = (_along(value, axis) for value in (layer.kernel_size, layer.padding, layer.stride))
        texts.append(f"floor(({given.shape[2 + axis]} - {k} + 2*{p}) / {s}) + 1 = {output.shape[2 + axis]}")
    return texts[0] if texts[0] == texts[1] else ", ".join(texts)


def _along(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, tuple) else value
