"""What others would take for the tutorial's trainings: JAX, and `torch.compile`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from kilonet.plain import MODELS, tensors
from kilonet.races import Race, against, validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kilonet.images import Splits
    from kilonet.races import Work

BATCH, VAL_BATCH, LR = 64, 500, 1e-3


def missing() -> dict[str, str]:
    """The peers that can't run here, and what they take."""
    found = {}
    if shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is None:
        found["torch.compile"] = "a C++ compiler, g++ or the one that CXX names"
    if importlib.util.find_spec("jax") is None:
        found["JAX"] = "pip install jax"
    return found


def races() -> list[Callable[[Splits, int], Race]]:
    """The tutorial's trainings against those peers that are here.

    A scan is JAX's faster way for the linear model, and its slower one, by far, for the CNN.
    """
    found: list[Callable[[Splits, int], Race]] = []
    left_out = missing()
    if "torch.compile" not in left_out:
        found += [partial(_race, preset, "torch.compile", _compiled) for preset in MODELS]
    if "JAX" not in left_out:
        importlib.import_module("jax")
        found += [partial(_race, preset, "JAX, jitted steps", _jax) for preset in MODELS]
        found.append(partial(_race, "tutorial-linear", "JAX, a jitted scan", partial(_jax, scanned=True)))
    return found


def _race(preset: str, name: str, way: Callable[[str, Splits, int], Work], splits: Splits, count: int) -> Race:
    return replace(against(preset, splits, count, name, partial(way, preset, splits, count)), compiles=True)


def _compiled(preset: str, splits: Splits, count: int) -> Work:
    """Forward pass and loss compiled, batches indexed from one tensor."""
    (images, labels), val = tensors(splits.train), tensors(validation(splits))
    model = MODELS[preset]()

    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(lambda x, y: F.cross_entropy(model(x), y))
    forward: Callable[[Tensor], Tensor] = torch.compile(model)

    def train() -> tuple[float, float]:
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        for _ in range(count):
            for rows in torch.split(torch.randperm(len(labels)), BATCH):
                optimizer.zero_grad()
                compiled(images[rows], labels[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                found = torch.cat([forward(x) for x in torch.split(val[0], VAL_BATCH)])
                loss = F.cross_entropy(found, val[1]).item()
                right = int((found.argmax(1) == val[1]).sum())
        return loss, right / len(val[1])

    return train


def _jax(preset: str, splits: Splits, count: int, scanned: bool = False) -> Work:
    """Jitted steps, or all whole batches of an epoch in one jitted scan; all validation images at once."""
    jnp: Any = importlib.import_module("jax.numpy")
    (images, labels), val = (
        tuple(jnp.asarray(t.numpy()) for t in tensors(p)) for p in (splits.train, validation(splits))
    )
    step, scan, measured = _jitted(preset)

    def train() -> tuple[float, float]:
        parameters = [jnp.asarray(p.detach().numpy()) for p in MODELS[preset]().parameters()]
        zeros = [jnp.zeros_like(p) for p in parameters]
        state = (parameters, zeros, zeros, jnp.float32(0))
        for _ in range(count):
            order = torch.randperm(len(labels)).numpy()
            done = len(order) // BATCH * BATCH if scanned else 0
            if done:
                state = scan(state, images, labels, order[:done].reshape(-1, BATCH))
            for start in range(done, len(order), BATCH):
                state = step(state, images, labels, order[start : start + BATCH])
            found, right = measured(state[0], *val)
            measured_last = float(found), int(right) / len(val[1])
        return measured_last

    return train


def _jitted(preset: str) -> tuple[Any, Any, Any]:
    """A step, a scan of steps over batches of rows, (B, 64), and a measurement; Adam as PyTorch has it."""
    jax: Any = importlib.import_module("jax")
    jnp: Any = importlib.import_module("jax.numpy")

    def linear(parameters: list[Any], x: Any) -> Any:
        weight, bias = parameters
        return x @ weight.T + bias

    def cnn(parameters: list[Any], x: Any) -> Any:
        x = x.reshape(-1, 1, 28, 28)
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            x = jax.lax.conv_general_dilated(
                x, weight, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW")
            )
            x = jax.nn.relu(x + bias[:, None, None])
        return x.mean((2, 3))

    logits = {"tutorial-linear": linear, "tutorial-cnn": cnn}[preset]

    def loss(parameters: list[Any], x: Any, y: Any) -> Any:
        told = jax.nn.log_softmax(logits(parameters, x))
        return -jnp.take_along_axis(told, y[:, None], 1).mean()

    def step(state: Any, images: Any, labels: Any, rows: Any) -> Any:
        parameters, means, squares, t = state
        gradients = jax.grad(loss)(parameters, images[rows], labels[rows])
        t = t + 1
        means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
        squares = [0.999 * s + 0.001 * g * g for s, g in zip(squares, gradients, strict=True)]
        parameters = [
            p - LR / (1 - 0.9**t) * m / (jnp.sqrt(s / (1 - 0.999**t)) + 1e-8)
            for p, m, s in zip(parameters, means, squares, strict=True)
        ]
        return parameters, means, squares, t

    def measured(parameters: list[Any], x: Any, y: Any) -> Any:
        return loss(parameters, x, y), (logits(parameters, x).argmax(1) == y).sum()

    def scan(state: Any, images: Any, labels: Any, batches: Any) -> Any:
        return jax.lax.scan(lambda state, rows: (step(state, images, labels, rows), None), state, batches)[0]

    return jax.jit(step), jax.jit(scan), jax.jit(measured)
