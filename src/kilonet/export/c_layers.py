"""A net's layers as C: constants, the functions that compute them, and where in memory their maps lie."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.export.c_text import array, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from kilonet.export.integers import QuantisedNet
    from kilonet.export.layers import Layer, Net

SUMS = {"conv": "sum", "mean": "mean", "max": "maximum"}


@dataclass(frozen=True)
class Written:
    """A net's layers in C.

    Attributes:
        code: constants and functions, those of the interface included.
        map_values: how many values the maps need, where two that follow each other lie in memory at a time.
        weight_bytes: of the constants: weights, biases and, in integers, multipliers.
    """

    code: str
    map_values: int
    weight_bytes: int


def in_floats(net: Net, prefix: str) -> Written:
    """The layers in floats: the first map is the normalised image, the last map becomes the logits."""
    layers, planar = net.layers, net.layers[-1].out[1:] != (1, 1)
    map_values, places = _places([prod(net.shape), *(prod(layer.out) for layer in layers[:-1])])
    constants, rows, weight_bytes = "", [], 0
    for at, layer in enumerate(layers):
        names = ["0", "0"]
        if layer.weight is not None and layer.bias is not None:
            names = [f"{prefix}_weight_{at}", f"{prefix}_bias_{at}"]
            constants += array("float", names[0], _by_pixel(layer.weight)) + array("float", names[1], layer.bias)
            weight_bytes += 4 * (layer.weight.size + layer.bias.size)
        rows.append([*names, *_sizes(layer), int(layer.relu)])
    for name in ("mean", "std"):
        constants += array("float", f"{prefix}_{name}_pixel", getattr(net, name))
    functions = ""
    for kind, last in _used(layers, apart=planar):
        value = f"const float value = {prefix}_{SUMS[kind]}(layer, given, y, x, channel);"
        result = f"{_target(planar=last)} = layer->relu && value < 0 ? 0 : value;"
        functions += _each(prefix, _function(kind, last=last), "float", "float", value, result)
    calls = [f"{prefix}_normalise(image, maps + {places[0]});"]
    for at, layer in enumerate(layers):
        last = at + 1 == len(layers)
        name = _function(layer.kind, last=last and planar)
        calls.append(_call(prefix, name, at, f"maps + {places[at]}", "logits" if last else f"maps + {places[at + 1]}"))
    code = part("layers_float.c", prefix, size=_size(layers))
    code += constants + _table(prefix, rows) + _sums(prefix, layers, "float", "float") + functions
    code += part("api_float.c", prefix, calls=_lines(calls))
    return Written(code, map_values, weight_bytes)


def in_integers(net: QuantisedNet, prefix: str) -> Written:
    """The layers in integers: the first reads the image itself, the last gives the scores."""
    layers = [layer.layer for layer in net.layers]
    map_values, places = _places([prod(layer.out) for layer in layers[:-1]])
    constants, rows, weight_bytes = "", [], 0
    for at, layer in enumerate(net.layers):
        names = []
        for name, kind, values in (
            ("weight", "int8_t", None if layer.weight is None else _by_pixel(layer.weight)),
            ("bias", "int32_t", layer.bias),
            ("multiplier", "int32_t", layer.multiplier),
        ):
            names.append("0" if values is None else f"{prefix}_{name}_{at}")
            if values is not None:
                constants += array(kind, names[-1], values)
                weight_bytes += values.nbytes
        rows.append([*names, *_sizes(layer.layer), layer.zero_given, layer.zero_out, layer.shift])
    functions, scaled = "", False
    for kind, last in _used(layers, apart=True):
        value = f"{prefix}_{SUMS[kind]}(layer, given, y, x, channel)"
        if kind != "max":
            scaled = scaled or not last
            value = f"{prefix}_{'score' if last else 'byte'}(layer, channel, {value})"
        result = f"{_target(planar=last)} = {value};"
        functions += _each(prefix, _function(kind, last=last), "uint8_t", "int32_t" if last else "uint8_t", result)
    where = ["image", *(f"{prefix}_memory.maps + {place}" for place in places), "scores"]
    calls = [
        _call(prefix, _function(layer.kind, last=at + 1 == len(layers)), at, where[at], where[at + 1])
        for at, layer in enumerate(layers)
    ]
    code = part("layers_int8.c", prefix, size=_size(layers))
    code += constants + _table(prefix, rows) + _sums(prefix, layers, "uint8_t", "int8")
    code += (part("byte_int8.c", prefix) if scaled else "") + part("score_int8.c", prefix) + functions
    code += part("api_int8.c", prefix, calls=_lines(calls))
    return Written(code, map_values, weight_bytes)


def _places(sizes: Sequence[int]) -> tuple[int, list[int]]:
    """Room for maps of which one and the next must not overlap, and where in it each lies: by turns at both ends."""
    room = max([*sizes[:1], *(a + b for a, b in pairwise(sizes))], default=0)
    return room, [room - size if at % 2 else 0 for at, size in enumerate(sizes)]


def _by_pixel(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights by output channel, row, column and input channel, as maps lie in C."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def _sizes(layer: Layer) -> list[int]:
    given, out = ((*shape[1:], shape[0]) for shape in (layer.given, layer.out))
    return [*given, *out, *layer.kernel, *layer.stride, *layer.padding, layer.groups]


def _size(layers: Iterable[Layer]) -> str:
    """The smallest type that holds the layers' sizes."""
    most = max(max(_sizes(layer)) for layer in layers)
    return "uint8_t" if most < 2**8 else "uint16_t" if most < 2**16 else "int32_t"


def _table(prefix: str, rows: Iterable[Sequence[object]]) -> str:
    lines = "".join(f"    {{{', '.join(str(value) for value in row)}}},\n" for row in rows)
    return f"static const {prefix}_layer {prefix}_layers[] = {{\n{lines}}};\n\n"


def _used(layers: Sequence[Layer], *, apart: bool) -> list[tuple[str, bool]]:
    """The kinds of layers that there are, and whether the last one's is meant, which may be a kind apart."""
    last = len(layers) - 1
    return sorted({(layer.kind, apart and at == last) for at, layer in enumerate(layers)})


def _sums(prefix: str, layers: Iterable[Layer], value: str, suffix: str) -> str:
    kinds = sorted({layer.kind for layer in layers})
    files = {"conv": f"sum_{suffix}.c", "mean": f"mean_{suffix}.c", "max": "maximum.c"}
    return "".join(part(files[kind], prefix, value=value) for kind in kinds)


def _function(kind: str, *, last: bool) -> str:
    return {"conv": "convolve", "mean": "mean_pool", "max": "max_pool"}[kind] + ("_last" if last else "")


def _target(*, planar: bool) -> str:
    """Where a value goes: logits lie channel by channel, if a channel has several."""
    return "out[(channel * layer->out_height + y) * layer->out_width + x]" if planar else "*out++"


def _each(prefix: str, name: str, given: str, out: str, *statements: str) -> str:
    return part("each.c", prefix, name=name, given=given, out=out, statements=f"\n{' ' * 16}".join(statements))


def _call(prefix: str, name: str, at: int, given: str, out: str) -> str:
    return f"{prefix}_{name}(&{prefix}_layers[{at}], {given}, {out});"


def _lines(calls: Iterable[str]) -> str:
    return "".join(f"    {call}\n" for call in calls)
