"""A model as ONNX: raw uint8 images in, logits out, as many at once as wanted, with what it knows in its metadata."""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kilonet import files
from kilonet.errors import ConfigError, ModelError
from kilonet.export.proof import MissingToolError
from kilonet.preprocess import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from kilonet.models import Classifier

OPSET = 18
"""Of ONNX's operators; ONNX Runtime reads it from 1.14 on."""
_BATCH = 999


def write(model: Classifier, path: Path) -> None:
    """Write a model as an ONNX file, which the ONNX checker has passed.

    The input is `images`, uint8, (n, C, H, W), 0 to 255; the output `logits`, float32, (n, K). The metadata has
    `classes`, a JSON list of names; `preparation`, a JSON object that says how a picture is made into an image
    (`kilonet.preprocess`); `model`; and `kilonet`, the version.

    Args:
        model: any that PyTorch can export, on the CPU.
        path: where to.

    Raises:
        ConfigError: if onnx or onnxscript is not installed.
        ModelError: if PyTorch can't export the model.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  PyTorch's exporter needs it
    except ImportError as error:
        raise ConfigError(f"--to onnx needs {error.name}", "pip install 'kilonet[onnx]'") from None
    made = _exported(model.eval())
    described = {
        "model": model.name,
        "classes": json.dumps(model.classes),
        "preparation": json.dumps(recipe(model.preparation)),
        "kilonet": version("kilonet"),
    }
    _strip(made.graph)
    del made.metadata_props[:]
    for key, value in described.items():
        made.metadata_props.add(key=key, value=value)
    made.producer_name, made.producer_version = "kilonet", described["kilonet"]
    onnx.checker.check_model(made, full_check=True)
    files.write(path, made.SerializeToString(deterministic=True))


def logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What ONNX Runtime answers with such a file: logits, float64, (N, K), of images, uint8, (N, C, H, W).

    Raises:
        MissingToolError: if ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingToolError("onnxruntime is not installed") from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts]).astype(np.float64)


def tool() -> str:
    """What `logits` runs, with its version."""
    return f"ONNX Runtime {version('onnxruntime')}"


def _exported(model: Classifier) -> Any:
    """PyTorch's ONNX of a model."""
    example = torch.zeros((2, *model.shape), dtype=torch.uint8)
    try:
        with _quietly():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=OPSET,
                verbose=False,
            )
            return program.model_proto  # type: ignore[union-attr]
    except Exception as error:
        reason = files.printable((str(error).splitlines() or [type(error).__name__])[0])[:200]
        raise ModelError(f"PyTorch can't export {model.name} to onnx: {reason}", "--debug tells more") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's warnings of its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(graph: Any) -> None:
    """Remove what the exporter tells of the source code, file paths included."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.metadata_props[:]
    graph.doc_string = ""
