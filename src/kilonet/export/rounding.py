"""Weights rounded such that what a layer gives stays what it was, rather than each weight by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.export.layers import Layer

EXAMPLES = 20_000
LEAST_IMAGES = 16
MOST_INPUTS = 2048
DAMPING = 0.01


def rounded(
    layer: Layer,
    weight: NDArray[np.float64],
    given: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whole weights, and the biases that go with them, that give about what is wanted.

    First the weights are fitted to it by least squares, held near where they were; then they are rounded one after the
    other, and those not yet rounded make up for it, as in Frantar et al. (2022), GPTQ: Accurate Post-Training
    Quantization for Generative Pre-trained Transformers. A layer of more than 2,048 inputs is rounded plainly.

    Args:
        layer: a convolution.
        weight: (out channels, in channels / groups, kernel height, kernel width), in units of which whole ones are
            wanted, from -127 to 127.
        given: (N, C, H, W): examples of its input.
        wanted: (N, out channels, ...): its outputs for them, in the units of the weights, before any ReLU.

    Returns:
        Weights of that shape, and biases, (out channels,), these not rounded.
    """
    rows = weight.reshape(layer.groups, layer.out[0] // layer.groups, -1)
    inputs, outputs = _by_group(layer, given, wanted)
    found = [_fitted(*group) for group in zip(rows, inputs, outputs, strict=True)]
    whole, bias = (np.concatenate(part) for part in zip(*found, strict=True))
    return whole.reshape(weight.shape), bias


def examples(layer: Layer, images: int) -> NDArray[np.int64]:
    """Which of some images to take, so that a layer's outputs for them make examples enough."""
    most = max(LEAST_IMAGES, EXAMPLES // (layer.out[1] * layer.out[2]))
    return np.linspace(0, images - 1, min(images, most)).astype(np.int64)


def _by_group(
    layer: Layer, given: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs, (groups, examples, inputs), and outputs, (groups, examples, out channels / groups)."""
    patches = F.unfold(torch.from_numpy(given), layer.kernel, padding=layer.padding, stride=layer.stride).numpy()
    both = (part.reshape(len(given), layer.groups, -1, patches.shape[2]) for part in (patches, wanted))
    inputs, outputs = (np.moveaxis(part, (1, 2), (0, 3)).reshape(layer.groups, -1, part.shape[2]) for part in both)
    return inputs, outputs


def _fitted(
    weight: NDArray[np.float64], inputs: NDArray[np.float64], outputs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whole weights, (O, I), and biases, (O,), by inputs, (examples, I), and outputs, (examples, O)."""
    middle, level = inputs.mean(axis=0), outputs.mean(axis=0)
    whole = np.clip(np.rint(weight), -127, 127)
    if weight.shape[1] <= MOST_INPUTS:
        around = inputs - middle
        moments = around.T @ around / len(around)
        moments += (DAMPING * np.trace(moments) / len(moments) + 1e-9) * np.eye(len(moments))
        off = outputs - level - around @ weight.T
        better = weight + np.linalg.solve(moments, around.T @ off / len(around)).T
        whole = _one_by_one(better, np.linalg.cholesky(np.linalg.inv(moments)).T)
    return whole, level - whole @ middle


def _one_by_one(weight: NDArray[np.float64], inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights, (O, I), rounded column by column, by the upper factor of the inverse of the inputs' moments, (I, I)."""
    left, whole = weight.copy(), np.empty_like(weight)
    for at in range(weight.shape[1]):
        whole[:, at] = np.clip(np.rint(left[:, at]), -127, 127)
        missed = (left[:, at] - whole[:, at]) / inverse[at, at]
        left[:, at + 1 :] -= missed[:, None] * inverse[at, at + 1 :]
    return whole
