"""The native engine: kernels made for kilobyte nets, for models whose layers they know, on the CPU.

The kernels (`kernels/`, C++) are called through a plain C interface and work on the memory of the model's own
parameters, its running statistics and the optimizer's moments. While they run, the interpreter is free.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kilonet import world
from kilonet.augment import CONTROL
from kilonet.engines.layers import Layer, Plan, UnsupportedError
from kilonet.errors import ConfigError
from kilonet.optimizers import Adam, Sgd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kilonet.batches import Resident
    from kilonet.config import Training
    from kilonet.models import Classifier
    from kilonet.optimizers import Optimizer

VARIANTS = ("avx512", "avx2", "portable")
"""Sets of instructions that the kernels are built for, the fastest first."""
BUILT = Path(__file__).with_name("kernels") / "built"
SECONDS_A_CALL = 0.1
"""Of training that one call of the kernels shall take; with 0, each call is a step."""
SHORT_STEP = 1e-4
"""Seconds: of a step so short it is tried whether one thread does it sooner, as it does where cores share no cache."""


class _Update(Structure):
    _fields_ = (
        ("rule", c_int32),
        *((name, c_double) for name in ("momentum", "weight_decay", "beta1", "beta2", "eps")),
        ("steps", c_int64),
        ("first", POINTER(c_void_p)),
        ("second", POINTER(c_void_p)),
    )


class _Images(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("pixels", "labels", "rows", "warps")),
        ("n", c_int64),
        ("bends", c_int32),
    )


@dataclass(frozen=True)
class Library:
    """The kernels for this processor.

    Attributes:
        variant: one of `VARIANTS`.
        calls: the functions.
    """

    variant: str
    calls: ctypes.CDLL


@functools.cache
def library() -> Library:
    """The fastest kernels that were built and that this processor can run, or those that KILONET_KERNELS names.

    Raises:
        ConfigError: if there are none, with the reason.
    """
    asked = os.environ.get("KILONET_KERNELS")
    if asked is not None and asked not in VARIANTS:
        raise ConfigError(f"KILONET_KERNELS={asked!r} won't do: expected {', '.join(VARIANTS)}")
    for variant in (asked,) if asked else VARIANTS:
        path = BUILT / f"{variant}.so"
        if path.is_file() and (calls := _loaded(path, variant)) is not None:
            return Library(variant, calls)
    if asked and (BUILT / f"{asked}.so").is_file():
        raise ConfigError(f"KILONET_KERNELS={asked}: this processor can't run these", "unset it")
    raise ConfigError(f"there are no native kernels: {why_not_built()}", "--engine torch works without them")


def why_not_built() -> str:
    """Why the kernels are not there, as the installation noted it."""
    try:
        return (BUILT / "failure.txt").read_text().strip()
    except OSError:
        return "they were not built when Kilonet was installed"


def threads() -> int:
    """How many to use: PyTorch's number, but no more than there are cores. Results don't depend on it."""
    return min(torch.get_num_threads(), world.cores())


def _loaded(path: Path, variant: str) -> ctypes.CDLL | None:
    """The functions of a library that this processor can run."""
    try:
        portable = ctypes.CDLL(str(path.with_name("portable.so")))
        return ctypes.CDLL(str(path)) if portable.kn_supports(variant.encode()) else None
    except OSError:
        return None


class Net:
    """A model as the kernels see it.

    Args:
        model: stays the owner of all memory; must live, and keep its parameters' memory, as long as this does.

    Raises:
        UnsupportedError: if the kernels don't know its layers.
        ConfigError: if there are no kernels.
    """

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.parameters = list(model.parameters())
        layers, self.norms = Plan(model).layers()
        self.precise = self.parameters[0].dtype == torch.float64
        self._calls = library().calls
        self._handle = c_void_p()
        running = [value for norm in self.norms for value in (norm.running_mean, norm.running_var) if value is not None]
        mean, std = (value.expand(model.shape[0], 1, 1).flatten().double() for value in (model.mean, model.std))
        failed = self._calls.kn_create(
            byref(self._handle),
            c_int(self.precise),
            (Layer * len(layers))(*layers),
            c_int(len(layers)),
            _pointers(self.parameters),
            (c_int64 * len(self.parameters))(*(p.numel() for p in self.parameters)),
            c_int(len(self.parameters)),
            _pointers(running),
            c_int(len(self.norms)),
            *((c_double * len(values))(*values.tolist()) for values in (mean, std)),
            *map(c_int, model.shape),
        )
        _check(failed)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._calls.kn_free(self._handle)

    def train(
        self, optimizer: Optimizer, data: Resident, rows: Tensor, batch_size: int, rates: Sequence[float],
        smoothing: float = 0.0, warps: Tensor | None = None, workers: int | None = None,
    ) -> list[float]:  # fmt: skip
        """Train on some rows, int64, (M,), once; the mean loss of each step, in nats, up to one that is not finite."""
        losses, done = (c_double * len(rates))(), c_int64()
        images = _images(data, rows, warps)
        update = _update(optimizer)
        failed = self._calls.kn_train(
            self._handle, byref(images), c_int64(batch_size), (c_double * len(rates))(*rates), byref(update),
            c_double(smoothing), losses, byref(done), c_int(workers or threads()),
        )  # fmt: skip
        _check(failed)
        if isinstance(optimizer, Adam):
            optimizer.steps += done.value
        self._count(done.value)
        return list(losses[: done.value])

    def gradients(
        self, data: Resident, rows: Tensor, smoothing: float = 0.0, warps: Tensor | None = None
    ) -> tuple[float, list[Tensor]]:
        """The mean loss over some rows and its gradient by each parameter; running statistics move as in a step."""
        found, loss = [torch.empty_like(p) for p in self.parameters], c_double()
        images = _images(data, rows, warps)
        failed = self._calls.kn_gradients(
            self._handle, byref(images), c_double(smoothing), _pointers(found), byref(loss),
            c_int(threads()),
        )  # fmt: skip
        _check(failed)
        self._count(1)
        return loss.value, found

    def measure(self, data: Resident) -> tuple[float, float]:
        """Mean cross-entropy over the images, in nats, and the share classified rightly, by running statistics."""
        loss, right = c_double(), c_int64()
        asked = _Images(data.images.data_ptr(), data.labels.data_ptr(), None, None, len(data), 0)
        _check(self._calls.kn_measure(self._handle, byref(asked), byref(loss), byref(right), c_int(threads())))
        return loss.value, right.value / len(data)

    def logits(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of raw images, uint8, (N, C, H, W), by running statistics."""
        found = torch.empty(len(images), len(self.model.classes), dtype=self.parameters[0].dtype)
        images = images.contiguous()
        asked = _Images(images.data_ptr(), None, None, None, len(images), 0)
        _check(self._calls.kn_logits(self._handle, byref(asked), c_void_p(found.data_ptr()), c_int(threads())))
        return found

    def _count(self, steps: int) -> None:
        for norm in self.norms:
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += steps


def steps(
    model: Classifier, optimizer: Optimizer, data: Resident, rows: Tensor, training: Training,
    rates: Sequence[float], warps: Tensor | None = None,
) -> Iterator[list[float]]:  # fmt: skip
    """Train on some rows as `kilonet.engines.torch.steps` does, many steps a call."""
    net, batch, most = Net(model), training.batch_size, threads()
    at, some, workers, pace = 0, 1, most, dict[int, float]()
    while at < len(rates):
        start = time.perf_counter()
        part = slice(at * batch, (at + some) * batch)
        losses = net.train(
            optimizer, data, rows[part], batch, rates[at : at + some], training.label_smoothing,
            None if warps is None else warps[part], workers,
        )  # fmt: skip
        pace[workers] = (time.perf_counter() - start) / len(losses)
        yield losses
        at += len(losses)
        untried = len(losses) >= 16 and pace[workers] < SHORT_STEP and 1 not in pace
        workers = 1 if untried else min(pace, key=lambda count: pace[count])
        some = max(1, min(int(some * SECONDS_A_CALL / (time.perf_counter() - start)), 4 * some))


def measure(model: Classifier, data: Resident, batch_size: int) -> tuple[float, float]:
    """As `kilonet.engines.torch.measure`. The batch size makes no difference."""
    return Net(model).measure(data)


def logits(model: Classifier, data: Resident, batch_size: int) -> Tensor:
    """Logits of all the images, in their order, (N, K); each counted once. The batch size makes no difference."""
    return Net(model).logits(data.images)


def peak(threads: int, seconds: float = 0.5) -> float:
    """What the processor's multiply-add units do in a bare loop: float32 operations a second, all threads together."""
    call = library().calls.kn_peak
    call.restype = c_double
    return float(call(c_int(threads), c_double(seconds)))


def why_not(model: Classifier) -> str | None:
    """Why a model can't be trained here, or None if it can."""
    try:
        library()
        Plan(model).layers()
    except ConfigError as error:
        return error.message
    except UnsupportedError as error:
        return f"the native engine has no {error}"
    return None


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native engine ran out of memory")


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (c_void_p * max(1, len(tensors)))(*(t.data_ptr() for t in tensors))


def _images(data: Resident, rows: Tensor, warps: Tensor | None) -> _Images:
    """Rows and warps of a call; they are slices of contiguous tensors, which the caller keeps."""
    if rows.dtype != torch.int64 or not rows.is_contiguous():
        raise ValueError("rows should be int64, (M,)")
    pixels, labels, asked = data.images.data_ptr(), data.labels.data_ptr(), rows.data_ptr()
    if warps is None:
        return _Images(pixels, labels, asked, None, len(rows), 0)
    fits = warps.shape in ((len(rows), 2, 3), (len(rows), 2, 3 + CONTROL**2))
    if warps.dtype != torch.float32 or not warps.is_contiguous() or not fits:
        raise ValueError("warps should be float32, as kilonet.augment.warps gives them for these rows")
    return _Images(pixels, labels, asked, warps.data_ptr(), len(rows), warps.shape[2] > 3)


def _update(optimizer: Optimizer) -> _Update:
    if isinstance(optimizer, Adam):
        rule, (beta1, beta2) = 2 if optimizer.decoupled else 1, optimizer.betas
        first, second = _pointers(optimizer.means), _pointers(optimizer.squares)
        return _Update(rule, 0.0, optimizer.weight_decay, beta1, beta2, optimizer.eps, optimizer.steps, first, second)
    if not isinstance(optimizer, Sgd):
        raise TypeError(f"no {type(optimizer).__name__}")
    velocities = None
    if optimizer.momentum:
        pairs = zip(optimizer.parameters, optimizer.velocities, strict=True)
        optimizer.velocities = [torch.zeros_like(p) if v is None else v for p, v in pairs]
        velocities = _pointers([v for v in optimizer.velocities if v is not None])
    return _Update(0, optimizer.momentum, optimizer.weight_decay, 0.0, 0.0, 0.0, 0, velocities, None)
