"""A net as plain layers computes what the trained one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kilonet as kn
from kilonet.export import forward
from kilonet.export.layers import Net, plain_net
from kilonet.models import Classifier
from kilonet.zoo import ZOO


def logits(net: Net, images: Tensor) -> Tensor:
    """What the layers give, in float64."""
    return torch.from_numpy(forward.logits(net, images.numpy()))


def lived_in(model: Classifier) -> Classifier:
    """The model in float64, its norms with statistics as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.1)
            module.weight.data.copy_(torch.randn(module.num_features, generator=generator))
            module.bias.data.copy_(torch.randn(module.num_features, generator=generator))
    return model.double().eval()


def pixels(shape: tuple[int, int, int], n: int = 7) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def data(shape: tuple[int, int, int]) -> kn.ImageSet:
    return kn.from_arrays(pixels(shape, 20).numpy(), np.arange(20) % 10)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 13, 17)])
def test_the_zoo_gives_its_logits(name: str, shape: tuple[int, int, int]) -> None:
    model = lived_in(kn.build(name, data(shape)))
    images = pixels(shape)
    with torch.no_grad():
        torch.testing.assert_close(logits(plain_net(model, "c"), images), model(images), rtol=1e-9, atol=1e-9)


def test_norms_and_relus_in_unusual_places(mnist_5k: kn.ImageSet) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(6), nn.AvgPool2d(2),
        nn.ReLU(), nn.Conv2d(6, 4, (1, 3), groups=2, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 10),
    )  # fmt: skip
    model = lived_in(Classifier(net, name="odd", shape=(1, 28, 28), classes=mnist_5k.classes, std=[99.0]))
    images = pixels((1, 28, 28))
    with torch.no_grad():
        torch.testing.assert_close(logits(plain_net(model, "c"), images), model(images), rtol=1e-9, atol=1e-9)


def test_what_has_no_plain_layers_is_named(mnist_5k: kn.ImageSet) -> None:
    committee = kn.Committee.of([kn.build("linear", mnist_5k, seed) for seed in (0, 1)])
    with pytest.raises(kn.ModelError, match="linear can't be written as html: layer Committee"):
        plain_net(committee, "html")
