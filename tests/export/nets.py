"""Nets of many shapes, and images for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from kilonet.models import Classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_model(seed: int) -> Classifier:
    """A net of random layers, sizes, strides, paddings and groups, its norms with statistics of their own."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = (int(rng.choice([1, 3])), int(rng.integers(3, 20)), int(rng.integers(3, 20)))
    layers: list[nn.Module] = []
    channels, height, width = shape
    for _ in range(rng.integers(0, 5)):
        layer = _random_layer(rng, channels, height, width)
        layers.append(layer)
        channels, height, width = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1:]
    classes = int(rng.integers(2, 12))
    layers += _random_end(rng, channels, height, width, classes)
    each = shape[0] if rng.random() < 0.5 else 1
    mean, std = rng.uniform(0, 200, each).tolist(), rng.uniform(30, 256, each).tolist()
    names = tuple(f"class {i}" for i in range(classes))
    model = Classifier(nn.Sequential(*layers), name=f"net {seed}", shape=shape, classes=names, mean=mean, std=std)
    return _lived_in(model)


def _random_layer(rng: np.random.Generator, channels: int, height: int, width: int) -> nn.Module:
    kernel = int(rng.integers(1, min(height, 5) + 1)), int(rng.integers(1, min(width, 5) + 1))
    stride = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    what = rng.integers(0, 8)
    if what == 0:
        return nn.ReLU()
    if what == 1 and height * width > 1:
        return nn.BatchNorm2d(channels)
    if what == 2:
        return nn.MaxPool2d(kernel, stride)
    if what == 3:
        return nn.AvgPool2d(kernel, stride)
    groups = int(rng.choice([g for g in (1, 2, 3, channels) if channels % g == 0]))
    out = groups * int(rng.integers(1, 5))
    padding = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    return nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=bool(rng.integers(2)))


def _random_end(rng: np.random.Generator, channels: int, height: int, width: int, classes: int) -> list[nn.Module]:
    what = rng.integers(0, 5)
    if what == 0:
        return [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    if what == 1:
        return [nn.Flatten(), nn.Linear(channels * height * width, 7), nn.ReLU(), nn.Linear(7, classes)]
    if what == 2:
        return [nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if what == 3:
        return [nn.Conv2d(channels, classes, (height, width)), nn.ReLU(), nn.Flatten()]
    return [nn.Conv2d(channels, classes, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()]


def _lived_in(model: Classifier) -> Classifier:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(torch.randn(module.num_features))
            module.running_var.copy_(torch.rand(module.num_features) + 0.1)
    return model.eval()


def images_for(model: Classifier, n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of noise, of a grey and of flat parts."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, (n, *model.shape), np.uint8)
    found[::3] = np.where(rng.random(found[::3].shape) < 0.7, 0, found[::3])
    found[0], found[1] = 0, 255
    return found


def logits_of(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the model itself gives."""
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(images.copy())).numpy())
