"""A trained net as one HTML file that needs nothing else: draw, and it answers."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.export import browser
from kilonet.export.layers import plain_net

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.export.layers import Layer, Net
    from kilonet.models import Classifier

SOURCES = Path(__file__).parent / "page"
SCRIPTS = ("net.js", "prepare.js", "pad.js", "pictures.js", "answer.js", "maps.js", "main.js")
_AT_ONCE = 4_000_000
"""Bytes of images that the browser is handed at a time."""


def page(model: Classifier) -> str:
    """The page of a model: its weights, the code that computes it, and views of it; equal models give equal bytes.

    It loads nothing and runs nothing but its own script, as its content-security policy says.

    Raises:
        ModelError: if the model has layers that can't be written down plainly, or is a committee.
    """
    net = plain_net(model, "html")
    weights = _weights(net)
    style = _source("page.css")
    script = '(() => {\n"use strict";\n\n' + "\n".join(_source(name) for name in SCRIPTS) + "})();\n"
    name = _text(net.name)
    return Template(_source("page.html")).substitute(
        policy=_policy(style, script),
        icon=_base64((SOURCES / "icon.svg").read_bytes()),
        name=name,
        title=_title(net),
        size=f"{net.shape[1]} × {net.shape[2]} pixels",
        about=f"{name}: {model.parameter_count():,} parameters, {len(net.classes)} classes, "
        f"{len(weights) / 1000:,.1f} kB of weights.",
        net=_json(net),
        weights=_base64(weights),
        style=style,
        script=script,
    )


def logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The logits, float64, (N, K), that a page computes, in Chromium, without any network.

    Args:
        path: the file.
        images: uint8, (N, C, H, W), as the model takes them.

    Raises:
        MissingToolError: if Playwright or Chromium is missing.
        KilonetError: if the page reports an error, breaks its own policy or asks for anything but itself.
    """
    with ThreadPoolExecutor(1) as thread:  # Playwright won't work where an event loop runs, as in a notebook
        return thread.submit(_computed, path, images).result()


def tool() -> str:
    """What `logits` runs, with its version."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(browser.tool).result()


def _computed(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    each = max(1, _AT_ONCE // images[0].size)
    with browser.opened(path) as tab:
        parts = [tab.evaluate(_COMPUTE, _base64(images[i : i + each].tobytes())) for i in range(0, len(images), each)]
    found = np.frombuffer(b"".join(map(base64.b64decode, parts)), "<f4")
    return found.reshape(len(images), -1).astype(np.float64)


_COMPUTE = """text => {
    const pixels = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const bytes = new Uint8Array(kilonet.logits(pixels).buffer);
    let found = "";
    for (let i = 0; i < bytes.length; i += 8192) found += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(found);
}"""


def _weights(net: Net) -> bytes:
    """Each convolution's weights, then its biases, little-endian float32."""
    arrays = [array for layer in net.layers for array in (layer.weight, layer.bias) if array is not None]
    return b"".join(array.astype("<f4").tobytes() for array in arrays)


def _json(net: Net) -> str:
    """The net but for its weights, as JSON for a script element: plain ASCII, and no tag can begin in it."""
    described = {
        "name": net.name,
        "shape": net.shape,
        "classes": net.classes,
        "preparation": net.preparation,
        "mean": net.mean.tolist(),
        "std": net.std.tolist(),
        "layers": [_described(layer) for layer in net.layers],
    }
    return json.dumps(described, separators=(",", ":")).replace("<", "\\u003c")


def _described(layer: Layer) -> dict[str, Any]:
    names = ("kind", "given", "out", "kernel", "stride", "padding", "groups", "relu")
    return {name: getattr(layer, name) for name in names}


def _title(net: Net) -> str:
    if all(len(name) == 1 and name in "0123456789" for name in net.classes):
        return "Draw a digit"
    return "Draw a character" if net.preparation == "digit" else "Draw, or drop a picture"


def _policy(style: str, script: str) -> str:
    """Nothing from anywhere, but this style, this script, and pictures that the page itself holds."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Text from outside as HTML's; what is no Unicode is replaced."""
    return escape(text.encode(errors="replace").decode())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
