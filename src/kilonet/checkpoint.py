"""Weight files: safetensors with the model's description in one key of sorted JSON; never a pickle."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kilonet import files
from kilonet.errors import ModelError, RunError
from kilonet.images import ImageSet
from kilonet.models import ZOO, Classifier, RawClassifier, adopt, assemble, is_file, load_class, make_instance

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kilonet.images import Preparation

FORMAT = 1
_KEY = "kilonet"


def save_model(model: Classifier, path: Path) -> None:
    """Write a model: weights, normalisation, classes, preparation and architecture; equal models give equal bytes."""
    description = {
        "format": FORMAT,
        "model": model.name,
        "zoo": model.name in ZOO,
        "raw": isinstance(model, RawClassifier),
        "shape": list(model.shape),
        "classes": list(model.classes),
        "preparation": model.preparation,
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.net.state_dict().items()}
    files.write(path, save(tensors, {_KEY: json.dumps(description, sort_keys=True)}))


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
    description, tensors = _read(path)
    if description.get("format") != FORMAT:
        raise RunError(f"{path} is of format {description.get('format')!r}: this version reads {FORMAT}")
    try:
        model = _described(path, description, model_file)
        model.net.load_state_dict(tensors)
        if model_file is not None:
            adopt(model.net, _blank(model))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise RunError(f"{path}: the weights don't fit their description: {reason}") from None
    return model.eval()


def _blank(model: Classifier) -> ImageSet:
    """Blank images of the kind that a model takes."""
    return ImageSet(np.zeros((2, *model.shape), np.uint8), np.zeros(2, np.int64), model.classes)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise RunError(f"{path} holds no model of Kilonet's")
            description = json.loads(metadata[_KEY])
            if not isinstance(description, dict):
                raise RunError(f"{path}: its description is damaged")
            return description, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is no weight file that can be read: {str(error)[:160]}") from None


def _described(path: Path, description: dict[str, Any], model_file: str | None) -> Classifier:
    shape = tuple(int(n) for n in description["shape"])
    if len(shape) != 3 or not all(0 < n <= 4096 for n in shape):
        raise RunError(f"{path}: images of shape {shape} can't be")
    channels, height, width = shape
    classes = tuple(files.printable(str(name)) for name in description["classes"])
    preparation: Preparation = "digit" if description["preparation"] == "digit" else "resize"
    mean, std = ([float(n) for n in description[key]] for key in ("mean", "std"))
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0 or len(set(classes)) < len(classes):
        raise RunError(f"{path}: its description is damaged")
    if description["zoo"] and model_file is not None:
        raise ModelError(f"{path} holds a {description['model']}", "leave out --model")
    if description["zoo"]:
        with torch.random.fork_rng(devices=[]):
            return assemble(description["model"], (channels, height, width), classes, preparation, mean, std)
    name = files.printable(str(description["model"]))
    if model_file is None or not is_file(model_file):
        raise ModelError(
            f"{path} holds weights of {name!r}, a model from a user's file",
            "give it: --model path/to/file.py:ClassName",
        )
    with torch.random.fork_rng(devices=[]):
        net = make_instance(load_class(model_file), model_file)
    kind = RawClassifier if description["raw"] else Classifier
    return kind(
        net,
        name=name,
        shape=(channels, height, width),
        classes=classes,
        preparation=preparation,
        mean=mean,
        std=std,
    )
