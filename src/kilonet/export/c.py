"""A net as C99: one `.c` and one `.h`, in floats or, quantised, in integers."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import files
from kilonet.errors import ConfigError, ModelError
from kilonet.export import forward, integers
from kilonet.export.c_layers import Written, in_floats, in_integers
from kilonet.export.c_prepare import Preparer, preparer
from kilonet.export.c_text import array, comment, identifier, number, part, string
from kilonet.export.compiled import compiler, run, version
from kilonet.export.integers import QuantisedNet

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from kilonet.export.layers import Net


def write(net: Net | QuantisedNet, path: Path, example: NDArray[np.uint8]) -> None:
    """Write a net as C: `path` and, beside it, the header of the same name.

    Args:
        net: in floats; or quantised, and then in integers.
        path: ends in `.c`; what it is called before that begins every name in it, so that nets can be linked together.
        example: uint8, (C, H, W): the image of the self-test.

    Raises:
        ConfigError: if the path's name can't stand in an `#include`.
        ModelError: if a weight is no finite number.
    """
    if not re.fullmatch(r"[\w. -]+\.c", path.name, re.ASCII):
        raise ConfigError(
            f"can't write C to {path.name!r}: expected a name of letters, digits, '-', '_' and '.' that ends in .c"
        )
    header = path.with_suffix(".h")
    source, declarations = texts(net, header.name, example)
    files.write(header, declarations)
    files.write(path, source)


def texts(net: Net | QuantisedNet, header: str, example: NDArray[np.uint8]) -> tuple[str, str]:
    """The `.c` and the `.h`, which has this name; see `write`."""
    plain, prefix = _plain(net), identifier(header.removesuffix(".h"))
    check(plain)
    written, prepare = _written(net, prefix), preparer(plain, prefix)
    kind = _kind(net)
    source = [
        f'/* {comment(_title(net))}; see the header. Written by Kilonet. */\n#include "{header}"\n\n',
        prepare.memory,
        _memory(net, written, prepare, prefix),
        written.code,
        part("probabilities.c", prefix),
        prepare.code,
        _test(net, prefix, example),
        _classes(plain, prefix),
    ]
    figures = facts(net)
    channels, height, width = plain.shape
    unit = number(2.0**-net.fraction_bits) if isinstance(net, QuantisedNet) else ""
    declarations = part(
        "header.h", prefix, title=comment(_title(net)), ram=figures["ram_bytes"], width=width, height=height,
        channels=channels, image_bytes=prod(plain.shape), class_count=len(plain.classes),
        weight_bytes=figures["weight_bytes"], multiply_adds=figures["multiply_adds"],
        outputs=part(f"outputs_{kind}.h", prefix, unit=unit), prepare=prepare.declaration,
    )  # fmt: skip
    return "".join(source), declarations


def facts(net: Net | QuantisedNet) -> dict[str, Any]:
    """Figures of a net as C.

    Returns:
        `ram_bytes`: static memory; `weight_bytes`: weights, biases and multipliers, which lie in flash beside the code;
        `multiply_adds`: for an image, padding included.
    """
    plain = _plain(net)
    written, prepare = _written(net, "net"), preparer(plain, "net")
    return {
        "ram_bytes": max(written.map_values * _value_bytes(net), prepare.memory_bytes) + 4 * len(plain.classes),
        "weight_bytes": written.weight_bytes,
        "multiply_adds": sum(layer.multiply_adds for layer in plain.layers),
    }


def logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the written C gives, compiled with warnings as errors and run: float64, (N, K).

    The self-test is run first, and the answers of `classify` are held against the logits.

    Args:
        path: of the `.c`.
        images: uint8, (N, C, H, W).

    Raises:
        MissingToolError: without a C compiler.
        ModelError: if the C doesn't compile, or fails.
    """
    return run(path, images, compiler())


def tool() -> str:
    """What `logits` compiles with, with its version."""
    return version(compiler())


def _plain(net: Net | QuantisedNet) -> Net:
    return net.net if isinstance(net, QuantisedNet) else net


def _kind(net: Net | QuantisedNet) -> str:
    return "int8" if isinstance(net, QuantisedNet) else "float"


def _value_bytes(net: Net | QuantisedNet) -> int:
    return 1 if isinstance(net, QuantisedNet) else 4


def _title(net: Net | QuantisedNet) -> str:
    return f"{_plain(net).name}, {'in integers' if isinstance(net, QuantisedNet) else 'in floats'}"


def check(net: Net) -> None:
    """Make sure that a net can be written as C.

    Raises:
        ModelError: if a weight is no finite number.
    """
    with np.errstate(over="ignore"):
        values = [v.astype(np.float32) for layer in net.layers for v in (layer.weight, layer.bias) if v is not None]
    if not all(np.isfinite(v).all() for v in values):
        raise ModelError(
            f"{net.name} can't be written as C: a weight is no finite number", "train it again with a lower --lr"
        )


def _written(net: Net | QuantisedNet, prefix: str) -> Written:
    return in_integers(net, prefix) if isinstance(net, QuantisedNet) else in_floats(net, prefix)


def _memory(net: Net | QuantisedNet, written: Written, prepare: Preparer, prefix: str) -> str:
    """All static memory: for the maps or, at another time, for preparing a picture; and for the outputs."""
    value, found = ("uint8_t", "int32_t") if isinstance(net, QuantisedNet) else ("float", "float")
    members = [f"    {value} maps[{written.map_values}];\n"] if written.map_values else []
    members += [f"    {prefix}_preparation preparation;\n"] if prepare.memory else []
    room = f"static union {{\n{''.join(members)}}} {prefix}_memory;\n" if members else ""
    return f"{room}static {found} {prefix}_found[{prefix.upper()}_CLASS_COUNT];\n\n"


def _test(net: Net | QuantisedNet, prefix: str, example: NDArray[np.uint8]) -> str:
    by_pixel = example.transpose(1, 2, 0)
    top, left, box = _without_border(by_pixel)
    pixels = array("uint8_t", f"{prefix}_test_pixels", box)
    if isinstance(net, QuantisedNet):
        expected = integers.scores(net, example[None])[0]
        answer = array("int32_t", f"{prefix}_test_scores", expected)
    else:
        expected = forward.logits(net, example[None])[0]
        answer = array("float", f"{prefix}_test_logits", expected)
    width, channels = by_pixel.shape[1:]
    code = part(
        f"test_{_kind(net)}.c", prefix, test_class=int(np.argmax(expected)), test_bytes=box.size,
        test_first=(top * width + left) * channels, test_row=box[0].size,
    )  # fmt: skip
    return pixels + answer + code


def _without_border(image: NDArray[np.uint8]) -> tuple[int, int, NDArray[np.uint8]]:
    """The part of an image, (H, W, C), outside of which it is black, and that part's first row and column."""
    lit = image.max(axis=2) > 0
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, 0, image[:1, :1]
    top, left = int(rows[0]), int(columns[0])
    return top, left, image[top : rows[-1] + 1, left : columns[-1] + 1]


def _classes(net: Net, prefix: str) -> str:
    names = "".join(f"    {string(name)},\n" for name in net.classes)
    return f"\nconst char *const {prefix}_classes[{prefix.upper()}_CLASS_COUNT] = {{\n{names}}};\n"
