"""A trained model taken out of PyTorch, once, in a process of its own: what answers requests never imports it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import KilonetError, ModelError, RunError
from kilonet.serve.packed import Packed, PackedNet

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import Array

    from numpy.typing import NDArray
    from torch import Tensor

    from kilonet.batches import Resident
    from kilonet.models import Classifier


def pack(run: str, project: Path, model_file: str | None = None) -> Packed:
    """A run's model, packed; PyTorch is imported by another process, which is gone when this returns.

    Args:
        run: as on the command line.
        project: the folder of the runs.
        model_file: `path/to/file.py:ClassName`, for a model of a user's own file.

    Raises:
        KilonetError: if there is no such run, or its model won't load or gives no finite numbers.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "kilonet.serve.packing",
        run,
        str(project),
        *([model_file] if model_file else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, start_new_session=True)  # noqa: S603  it is this module
    if done.returncode:
        raise RunError(f"the process that loads the model died, exit status {done.returncode}")
    found: Packed | tuple[str, str | None] = pickle.loads(done.stdout)  # noqa: S301  it is this module's, too
    if isinstance(found, tuple):
        raise RunError(*found)
    return found


def _main(run: str, project: str, model_file: str | None = None) -> None:
    """Write a run's model, packed, to the standard output, or a refusal's words."""
    output = os.dup(1)
    os.dup2(2, 1)  # what a user's own file prints is no part of it
    try:
        found: Packed | tuple[str, str | None] = _pack_run(run, Path(project), model_file)
    except KilonetError as error:
        found = error.message, error.hint
    with os.fdopen(output, "wb") as file:
        pickle.dump(found, file)


def _pack_run(run: str, project: Path, model_file: str | None) -> Packed:
    from kilonet import seals, shelf
    from kilonet.config import weight_file

    found = shelf.single(shelf.find(run, project))
    model = found.model(model_file)
    weights = found.weights or found.path / weight_file(found.config)
    return pack_model(model, seals.sha256_of(weights))


def by_torch(
    run: str, project: Path, model_file: str | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """Class probabilities, float64, (N, K), of images, uint8, (N, C, H, W), by PyTorch in this process."""
    import torch

    from kilonet import shelf
    from kilonet.predict import Predictor

    torch.set_num_threads(1)
    return Predictor(shelf.single(shelf.find(run, project)).model(model_file)).probabilities


def pack_model(model: Classifier, sha256: str) -> Packed:
    """A model, packed. Where the native kernels can't compute it, `nets` is empty.

    Args:
        model: a trained one.
        sha256: of its weight file.

    Raises:
        ModelError: if it gives logits that are no finite numbers.
    """
    from kilonet.committee import members
    from kilonet.engines import native
    from kilonet.evaluation import finite_logits

    mean, std = (np.broadcast_to(values.numpy().ravel(), model.shape[0]) for values in (model.mean, model.std))
    finite_logits(model, _probes(model), 500)
    known = all(native.why_not(member) is None for member in members(model))
    return Packed(
        name=model.name,
        shape=model.shape,
        classes=model.classes,
        preparation=model.preparation,
        parameters=model.parameter_count(),
        sha256=sha256,
        page=_page(model),
        mean=mean.astype(np.float64),
        std=std.astype(np.float64),
        nets=tuple(_pack_net(member) for member in members(model)) if known else (),
    )


def _probes(model: Classifier) -> Resident:
    """Images that show whether a model computes at all: black, white, noise."""
    import torch

    from kilonet.batches import Resident

    noise = np.random.default_rng(0).integers(0, 256, model.shape, np.uint8)
    images = np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])
    return Resident(torch.from_numpy(images), torch.zeros(len(images)))


def _page(model: Classifier) -> str | None:
    """The page, or None for a model that a page can't compute."""
    from kilonet.export import html

    try:
        page: str = html.page(model)
    except ModelError:
        return None
    return page


def _pack_net(model: Classifier) -> PackedNet:
    from kilonet.engines import native
    from kilonet.engines.layers import Layer, Plan

    layers, norms = Plan(model).layers()
    packed: Array[Layer] = (Layer * len(layers))(*layers)
    return PackedNet(
        kernels=str(native.BUILT / f"{native.library().variant}.so"),
        layers=bytes(packed),
        count=len(layers),
        parameters=tuple(_array(p) for p in model.parameters()),
        running=tuple(_array(norm.get_buffer(f"running_{name}")) for norm in norms for name in ("mean", "var")),
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


if __name__ == "__main__":
    _main(*sys.argv[1:])
