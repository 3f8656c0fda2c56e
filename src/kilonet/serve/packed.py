"""A packed model: plain arrays, and the native kernels called on them without PyTorch."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from kilonet.images import Preparation

    Logits = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class PackedNet:
    """A net in the terms of the native kernels.

    Attributes:
        kernels: the library's path.
        layers: an array of `KnLayer`, as bytes.
        count: how many layers these are.
        parameters: the trained values, float32 or float64, in the order in which the layers name them.
        running: mean and variance of each norm, of the same type.
    """

    kernels: str
    layers: bytes
    count: int
    parameters: tuple[NDArray[Any], ...]
    running: tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class Packed:
    """A trained model, ready to answer in a process that has no PyTorch.

    Attributes:
        name: of the model.
        shape: channels, height and width of an image.
        classes: the name of each class.
        preparation: how a picture is made into such an image.
        parameters: the number of trained values.
        sha256: of the weight file.
        page: the page that computes this model in a browser, or None where there can be none.
        mean, std: float64, (C,): the nets are given (pixel - mean) / std.
        nets: the net, or a committee's; empty where only PyTorch can compute the model.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    preparation: Preparation
    parameters: int
    sha256: str
    page: str | None
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    nets: tuple[PackedNet, ...]


class _Images(Structure):
    """`KnImages` of `kernels/interface.h`."""

    _fields_ = (
        *((name, c_void_p) for name in ("pixels", "labels", "rows", "warps")),
        ("n", c_int64),
        ("bends", c_int32),
    )


class _Net:
    """A packed net in the kernels' memory; one call at a time."""

    def __init__(self, packed: Packed, net: PackedNet) -> None:
        ctypes.CDLL(str(Path(net.kernels).with_name("portable.so")))
        self._calls, self._handle, self._net = ctypes.CDLL(net.kernels), c_void_p(), net
        self._type, self._classes = net.parameters[0].dtype, len(packed.classes)
        sizes = (c_int64 * len(net.parameters))(*(p.size for p in net.parameters))
        _check(
            self._calls.kn_create(
                byref(self._handle), c_int(self._type == np.float64), net.layers, c_int(net.count),
                _pointers(net.parameters), sizes, c_int(len(net.parameters)),
                _pointers(net.running), c_int(len(net.running) // 2),
                *((c_double * len(values))(*values) for values in (packed.mean, packed.std)), *map(c_int, packed.shape),
            )
        )  # fmt: skip
        self._calls.kn_logits.argtypes = (c_void_p, POINTER(_Images), c_void_p, c_int)

    def __call__(self, images: NDArray[np.uint8], threads: int) -> NDArray[Any]:
        """Logits, (N, K), of images, uint8, (N, C, H, W), contiguous."""
        found = np.empty((len(images), self._classes), self._type)
        asked = _Images(images.ctypes.data, None, None, None, len(images), 0)
        _check(self._calls.kn_logits(self._handle, byref(asked), found.ctypes.data, threads))
        return found


class Native:
    """Class probabilities by the native kernels; the interpreter is free while they run."""

    def __init__(self, packed: Packed) -> None:
        self._nets = [_Net(packed, net) for net in packed.nets]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class probabilities, float64, (N, K), of images, uint8, (N, C, H, W); not from two threads at once."""
        images = np.ascontiguousarray(images)
        found = [softmax(net(images, 1)) for net in self._nets]
        return found[0] if len(found) == 1 else np.mean(found, axis=0)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Class probabilities, float64, (N, K), of logits, (N, K)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native engine ran out of memory")


def _pointers(arrays: Sequence[NDArray[Any]]) -> Any:
    return (c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))
