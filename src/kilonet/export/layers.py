"""A trained net as a list of plain layers, batch norms folded in: what a page or a C file computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from kilonet.engines.layers import AVG_POOL, CONV, FLATTEN, MAX_POOL, NORM, Plan, UnsupportedError
from kilonet.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from kilonet.engines.layers import Layer as Planned
    from kilonet.images import Preparation
    from kilonet.models import Classifier

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of one map, (C, H, W), to another.

    A linear layer over a flattened map is a convolution whose kernel is the whole map; outputs are then 1 x 1.

    Attributes:
        kind: `conv`; `max` or `mean`, a pool.
        given, out: channels, height and width of its input and its output.
        kernel, stride, padding: by height and width; padding is with zeros, and only a convolution's.
        groups: of a convolution; as many as channels in a depthwise one.
        relu: whether what is negative becomes zero at the end.
        weight: float64, (out channels, in channels / groups, kernel height, kernel width), of a convolution.
        bias: float64, (out channels,), of a convolution.
    """

    kind: Literal["conv", "max", "mean"]
    given: Shape
    out: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    relu: bool
    weight: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None

    @property
    def multiply_adds(self) -> int:
        """Multiplications with a following addition, for one image, padding included."""
        return 0 if self.weight is None else int(np.prod(self.out)) * self.weight[0].size


@dataclass(frozen=True, eq=False)
class Net:
    """A trained net, ready to be written down: the layers are given (pixel - mean) / std, pixels being 0 to 255.

    Attributes:
        name: of the model.
        shape: channels, height and width of an image.
        classes: the name of each class, in the order of the last layer's outputs, the logits, (K, 1, 1).
        preparation: how a picture is made into such an image.
        mean, std: float64, (C,): of the pixels, as the model normalises them.
        layers: from the normalised image to the logits.
    """

    name: str
    shape: Shape
    classes: tuple[str, ...]
    preparation: Preparation
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    layers: tuple[Layer, ...]


def plain_net(model: Classifier, wanted: str) -> Net:
    """A trained model as a list of plain layers.

    Args:
        model: any whose layers the native engine knows.
        wanted: the format that it is for, for the message.

    Raises:
        ModelError: if it has other layers, or is a committee.
    """
    try:
        planned, norms = Plan(model).layers()
    except UnsupportedError as error:
        raise ModelError(
            f"{model.name} can't be written as {wanted}: {error}", "--to onnx takes any model that PyTorch can export"
        ) from None
    values = [_array(p) for p in model.parameters()]
    layers: list[Layer] = []
    for one in planned:
        if one.kind == FLATTEN:
            continue
        if one.kind == NORM:
            mean, var = (_array(norms[one.norm].get_buffer(f"running_{name}")) for name in ("mean", "var"))
            scale = values[one.weight] / np.sqrt(var + one.eps)
            _scale(layers, one, scale, values[one.bias] - mean * scale)
        elif one.kind == CONV:
            layers.append(_convolution(one, values, layers[-1].out if layers else model.shape))
        elif one.kind in (MAX_POOL, AVG_POOL):
            kind: Literal["max", "mean"] = "max" if one.kind == MAX_POOL else "mean"
            layers.append(_layer(one, kind, relu=bool(one.relu)))
        else:
            _rectify(layers, one)
    mean, std = (np.broadcast_to(_array(values).ravel(), model.shape[0]) for values in (model.mean, model.std))
    return Net(model.name, model.shape, model.classes, model.preparation, mean, std, tuple(layers))


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().double().numpy())


def _layer(one: Planned, kind: Literal["conv", "max", "mean"], *, relu: bool) -> Layer:
    given, out = (one.c, one.h, one.w), (one.oc, one.oh, one.ow)
    return Layer(kind, given, out, (one.kh, one.kw), (one.sh, one.sw), (one.ph, one.pw), one.groups, relu)


def _convolution(one: Planned, values: list[NDArray[np.float64]], given: Shape) -> Layer:
    """A convolution; a linear layer becomes one over the whole map that it is given flat."""
    relu, weight = bool(one.relu), values[one.weight]
    bias = values[one.bias] if one.bias >= 0 else np.zeros(one.oc)
    if weight.ndim == 4:
        return replace(_layer(one, "conv", relu=relu), weight=weight, bias=bias)
    matrix = weight if one.in_stride == 1 else weight.T
    whole = matrix.reshape(one.oc, *given)
    return Layer("conv", given, (one.oc, 1, 1), given[1:], (1, 1), (0, 0), 1, relu, whole, bias)


def _scale(layers: list[Layer], one: Planned, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    """Fold a norm into the convolution before it, or make it one of 1 x 1 of each channel by itself."""
    before = layers[-1] if layers else None
    if before is None or before.weight is None or before.bias is None or before.relu:
        alone = _layer(one, "conv", relu=bool(one.relu))
        layers.append(
            replace(alone, kernel=(1, 1), stride=(1, 1), groups=one.c, weight=scale[:, None, None, None], bias=shift)
        )
        return
    weight = before.weight * scale[:, None, None, None]
    layers[-1] = replace(before, weight=weight, bias=before.bias * scale + shift, relu=bool(one.relu))


def _rectify(layers: list[Layer], one: Planned) -> None:
    """Put a ReLU at the end of the layer before it, or of a pool of one value if there is none."""
    if layers:
        layers[-1] = replace(layers[-1], relu=True)
    else:
        layers.append(replace(_layer(one, "max", relu=True), kernel=(1, 1), stride=(1, 1)))
