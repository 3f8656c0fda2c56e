"""Weight files: safetensors with a description in one key of sorted JSON, sealed with a checksum; never a pickle."""

from __future__ import annotations

import hashlib
import json
import math
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from kilonet import files
from kilonet.committee import Committee
from kilonet.config import FORMAT, MOST_MEMBERS
from kilonet.errors import ModelError, RunError
from kilonet.images import ImageSet
from kilonet.models import Classifier, RawClassifier, adopt, assemble, is_file, load_class, make_instance
from kilonet.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from kilonet.images import Preparation

_KEY = "kilonet"
_UNSEALED = "0" * 64
_LIMIT = 1 << 32


def write(path: Path, tensors: dict[str, Tensor], description: dict[str, Any], keep: Path | None = None) -> None:
    """Write tensors with their description: equal ones give equal bytes. The file that was there goes to `keep`.

    The description gains `format`, `version` (Kilonet's) and `sha256`: the checksum of the whole file with 64
    zeros in its place.
    """
    files.write(path, sealed(tensors, description), keep)


def sealed(tensors: dict[str, Tensor], description: dict[str, Any]) -> bytes:
    """The bytes that `write` writes."""
    full = {**description, "format": FORMAT, "version": version("kilonet"), "sha256": _UNSEALED}
    content = save(tensors, {_KEY: json.dumps(full, sort_keys=True)})
    at = content.index(_place(_UNSEALED)) + len(_place(""))
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + 64 :]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file that `write` wrote.

    Raises:
        RunError: for a file that is missing, damaged, of another format, or not Kilonet's.
    """
    if not path.is_file():
        raise RunError(f"no weight file {files.printable(str(path))}")
    try:
        if path.stat().st_size > _LIMIT:
            raise RunError(f"{path} is larger than the {_LIMIT:,} bytes that a weight file may have")
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror}") from None
    try:
        description = _description(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RunError(f"{path} is damaged, or no weight file of Kilonet's") from None
    seal = str(description.get("sha256"))
    at = content.find(_place(seal)) + len(_place(""))
    whole = hashlib.sha256(content[:at] + _UNSEALED.encode() + content[at + 64 :]).hexdigest() == seal
    if description.get("format") != FORMAT and (whole or "sha256" not in description):
        raise RunError(f"{path} {other_format(description.get('format'), description.get('version'))}")
    if not whole:
        raise RunError(f"{path} is damaged: its checksum does not match")
    try:
        return description, load(content)
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{path} is no weight file that can be read: {str(error)[:160]}") from None


def other_format(found: object, by: object) -> str:
    """What to say of a run or a weight file that is of another format than this version's."""
    writer = f", written by Kilonet {files.printable(str(by))[:20]}" if by else ""
    needed = f"it needs Kilonet {files.printable(str(by))[:20]}" if by else "it needs the version that wrote it"
    return f"is of format {str(found)[:20]!r}{writer}: Kilonet {version('kilonet')} reads {FORMAT}; {needed}"


def _place(seal: str) -> bytes:
    """The checksum as it stands in the file: JSON within JSON."""
    return b'\\"sha256\\": \\"' + seal.encode(errors="replace")


def _description(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length].decode())
    found = json.loads(header["__metadata__"][_KEY])
    if not isinstance(found, dict):
        raise TypeError
    return found


def save_model(model: Classifier, path: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a model: weights, normalisation, classes, preparation and architecture; equal models give equal bytes.

    A committee's file holds the weights of all its members.

    Args:
        model: what is written.
        path: where to; by custom it ends in `.safetensors`.
        weights: the net's weights, if not those that it has now.
    """
    description = {
        "model": model.name,
        "zoo": model.name in ZOO,
        "raw": isinstance(model, RawClassifier),
        "shape": list(model.shape),
        "classes": list(model.classes),
        "preparation": model.preparation,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
    }
    if isinstance(model.net, Committee):
        description["committee"] = len(model.net.members)
    named = model.net.state_dict() if weights is None else weights
    write(path, {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}, description)


def load_model(path: Path, model_file: str | None = None) -> Classifier:
    """The model in a weight file, ready to predict, on the CPU.

    Args:
        path: a `.safetensors` file that Kilonet wrote.
        model_file: `path/to/file.py:ClassName`, for the weights of a model of the user's own: its code is never
            looked up by what the weight file says.

    Raises:
        RunError: for a file that is missing, damaged, of another format, or not Kilonet's.
        ModelError: if the weights are of a user's own model and no file was given, or do not fit it.
    """
    description, tensors = read(path)
    try:
        model = _described(path, description, tensors, model_file)
        model.net.load_state_dict(tensors)
        if model_file is not None:
            for net in model.net.members if isinstance(model.net, Committee) else [model.net]:
                adopt(net, _blank(model))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise RunError(f"{path}: the weights don't fit their description: {reason}") from None
    return model.eval()


def _blank(model: Classifier) -> ImageSet:
    """Blank images of the kind that a model takes."""
    return ImageSet(np.zeros((2, *model.shape), np.uint8), np.zeros(2, np.int64), model.classes)


def _described(
    path: Path, description: dict[str, Any], tensors: dict[str, Tensor], model_file: str | None
) -> Classifier:
    """The model that a description is of, with weights that are yet to be replaced."""
    make = _maker(path, description, model_file)
    with torch.random.fork_rng(devices=[]):
        first = make()
        if "committee" not in description:
            return first
        n = description["committee"]
        if not 1 <= n <= MOST_MEMBERS:
            raise RunError(f"{path}: its description is damaged")
        of_one = first.net.state_dict()
        expected = {f"members.{i}.{name}": tensor.shape for i in range(n) for name, tensor in of_one.items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != expected:
            raise RunError(f"{path}: the weights are not those of a committee of {n} {first.name}")
        return Committee.of([first, *(make() for _ in range(n - 1))])


def _maker(path: Path, description: dict[str, Any], model_file: str | None) -> Callable[[], Classifier]:
    """What makes a model, or a committee's member, of the kind that a description is of."""
    shape = tuple(int(n) for n in description["shape"])
    if len(shape) != 3 or not all(0 < n <= 4096 for n in shape):
        raise RunError(f"{path}: images of shape {shape} can't be")
    channels, height, width = shape
    classes = tuple(files.printable(str(name)) for name in description["classes"])
    preparation: Preparation = "digit" if description["preparation"] == "digit" else "resize"
    mean, std = ([float(n) for n in description[key]] for key in ("mean", "std"))
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0 or not {len(mean), len(std)} <= {1, channels}:
        raise RunError(f"{path}: its description is damaged")
    if not classes or len(set(classes)) < len(classes):
        raise RunError(f"{path}: its description is damaged")
    if description["zoo"] and model_file is not None:
        raise ModelError(f"{path} holds a {description['model']}", "leave out --model")
    if description["zoo"]:
        return partial(assemble, description["model"], (channels, height, width), classes, preparation, mean, std)
    name = files.printable(str(description["model"]))
    if model_file is None or not is_file(model_file):
        raise ModelError(
            f"{path} holds weights of {name!r}, a model from a user's file",
            "give it: --model path/to/file.py:ClassName",
        )
    with torch.random.fork_rng(devices=[]):
        own = load_class(model_file)
    kind = RawClassifier if description["raw"] else Classifier
    return lambda: kind(
        make_instance(own, model_file),
        name=name,
        shape=(channels, height, width),
        classes=classes,
        preparation=preparation,
        mean=mean,
        std=std,
    )
