"""Models: `Classifier` (raw pixels in, logits out), from the zoo or from a user's own file."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kilonet.errors import ModelError, nearest
from kilonet.files import printable
from kilonet.zoo import ZOO, Shape, zoo_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.images import ImageSet, Preparation


class Classifier(nn.Module):
    """A net with what it needs to read raw pixels: uint8 (N, C, H, W) in, float logits (N, K) out.

    Attributes:
        net: the net proper: normalised float32 (N, C, H, W) in, logits out.
        name: the name of the zoo, or the class's own.
        shape: channels, height and width of an image.
        classes: the name of each class.
        preparation: how a picture is made into such an image.
        mean, std: float32, (C, 1, 1): the net is given (pixel - mean) / std, pixels being 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        shape: Shape,
        classes: tuple[str, ...],
        preparation: Preparation = "resize",
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.name, self.shape, self.classes, self.preparation = (
            net,
            name,
            shape,
            classes,
            preparation,
        )
        for key, values in (("mean", mean or [0.0]), ("std", std or [255.0])):
            self.register_buffer(key, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self._centred = bool(self.mean.any())

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of raw images, uint8, (N, C, H, W)."""
        logits: Tensor = self.net(((images - self.mean) if self._centred else images) / self.std)
        return logits

    def parameter_count(self) -> int:
        """The number of trained values."""
        return sum(p.numel() for p in self.net.parameters())


class RawClassifier(Classifier):
    """A classifier around a net that takes raw uint8 pixels itself."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, K), of raw images, uint8, (N, C, H, W)."""
        logits: Tensor = self.net(images)
        return logits


def build(name: str, data: ImageSet, seed: int = 0) -> Classifier:
    """A fresh model for some data.

    Seeds PyTorch's global generator, draws the initial weights from it and leaves it there, as a plain script
    does after `torch.manual_seed(seed)`. The zoo's own models normalise with the mean and standard deviation of
    the given images; the tutorial's divide by 256, as the tutorial does; a model from a file gets pixels from 0
    to 1.

    Args:
        name: a name of the zoo, or `path/to/file.py:ClassName`, whose class takes no arguments.
        data: the training images; their size, classes and, for the normalisation, their pixels are looked at.
        seed: seed of the initial weights.

    Raises:
        ModelError: if the model is unknown, does not import, or does not fit the data.
    """
    if is_file(name):
        make = load_class(name)
        torch.manual_seed(seed)
        return adopt(make_instance(make, name), data)
    entry = zoo_entry(name)
    normalisation = ([0.0], [256.0]) if entry.by_256 else _statistics(data)
    torch.manual_seed(seed)
    return assemble(name, data.shape, data.classes, data.preparation, *normalisation)


def assemble(
    name: str,
    shape: Shape,
    classes: tuple[str, ...],
    preparation: Preparation,
    mean: list[float],
    std: list[float],
) -> Classifier:
    """A model of the zoo from its description, with fresh weights from PyTorch's global generator.

    Raises:
        ModelError: if the model is unknown.
    """
    net = zoo_entry(name).build(shape, len(classes))
    return Classifier(net, name=name, shape=shape, classes=classes, preparation=preparation, mean=mean, std=std)


def adopt(model: nn.Module, data: ImageSet) -> Classifier:
    """Any module as a classifier for some data; a `Classifier` is returned as it is.

    A module that takes raw uint8 pixels gets these; one that does not gets float32 from 0 to 1.

    Raises:
        ModelError: if the module fails on an image of the data, or does not give one logit a class.
    """
    classes = data.classes
    if isinstance(model, Classifier):
        if model.shape != data.shape or len(model.classes) != len(classes):
            raise ModelError(
                f"{model.name} takes {size_text(model.shape)} images of {len(model.classes)} classes: "
                f"the data has {size_text(data.shape)} and {len(classes)}"
            )
        return model
    name = type(model).__name__
    described: dict[str, Any] = {
        "name": name,
        "shape": data.shape,
        "classes": classes,
        "preparation": data.preparation,
    }
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    example = torch.from_numpy(data.images[:2].copy()).to(device)
    training = model.training
    model.eval()
    failure: BaseException | None = None
    try:
        for wrapped in (RawClassifier(model, **described), Classifier(model, **described).to(device)):
            try:
                with torch.no_grad():
                    logits = wrapped(example)
            except (Exception, SystemExit) as error:
                failure = error
                continue
            check_logits(logits, len(example), len(classes), name)
            return wrapped
    finally:
        model.train(training)
    raise ModelError(f"{name} fails on {size_text(data.shape)} images: {_told(failure)}") from failure


def check_logits(logits: object, n: int, classes: int, name: str) -> None:
    """Make sure that a model gave what a classifier gives.

    Raises:
        ModelError: if it is no tensor of floats, (n, classes).
    """
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (n, classes):
        raise ModelError(f"{name} gives {found} for {n} images: expected {(n, classes)}, a logit a class")
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise ModelError(f"{name} gives whole numbers: expected logits, floats")


def rehearse(model: Classifier, data: ImageSet) -> None:
    """Take a step forward and back with a copy of a user's own model, before anything is written.

    Raises:
        ModelError: if it fails, or has nothing to train.
    """
    copy = deepcopy(model).train()
    rows = torch.from_numpy(data.images[:8].copy()), torch.from_numpy(data.labels[:8].copy())
    try:
        with torch.random.fork_rng(devices=[]):
            F.cross_entropy(copy(rows[0]), rows[1]).backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:
        raise ModelError(f"{model.name} fails in its first training step: {_told(error)}") from error
    if not any(p.grad is not None for p in copy.parameters()):
        raise ModelError(f"{model.name} has no parameters to train")


def _told(error: BaseException | None) -> str:
    """An error of a user's own code in one line."""
    return printable(f"{type(error).__name__}: {error}".replace("\n", " "))[:200]


def is_file(name: str) -> bool:
    """Whether a model's name means a class in a user's own file."""
    return ".py" in name and name not in ZOO


def load_class(name: str) -> Callable[[], Any]:
    """The class in `path/to/file.py:ClassName`; runs the file.

    Raises:
        ModelError: if the file is not there or does not import, or has no such class.
    """
    path_text, _, class_name = name.rpartition(":")
    if not path_text or not class_name:
        raise ModelError(f"{printable(name)!r} names no class", "expected path/to/file.py:ClassName")
    path = Path(path_text).expanduser()
    if not path.is_file():
        raise ModelError(f"no model file {printable(path_text)}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{printable(path_text)} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ModelError(f"{printable(path_text)} does not import: {_told(error)}") from error
    if not callable(getattr(module, class_name, None)):
        here = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
        raise ModelError(
            f"{printable(path_text)} has no class {printable(class_name)!r}",
            nearest(class_name, here) if here else None,
        )
    found: Callable[[], Any] = getattr(module, class_name)
    return found


def file_checksum(name: str) -> str:
    """The SHA-256 of the file in `path/to/file.py:ClassName`, as 64 hex digits.

    Raises:
        ModelError: if it can't be read.
    """
    path = Path(name.rpartition(":")[0] or name).expanduser()
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"can't read the model's file {printable(str(path))}: {error.strerror}") from None


def make_instance(make: Callable[[], Any], name: str) -> nn.Module:
    """A module from a class that takes no arguments.

    Raises:
        ModelError: if making it fails, or it is no module.
    """
    try:
        model = make()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{name} can't be made without arguments: {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} gives a {type(model).__name__}: expected an nn.Module")
    return model


def _statistics(data: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's pixels; a constant channel gets 1."""
    means, stds = [], []
    values = torch.arange(256, dtype=torch.float64)
    for of_channel in torch.from_numpy(data.histograms()).double():
        mean = (of_channel * values).sum() / of_channel.sum()
        variance = (of_channel * (values - mean) ** 2).sum() / of_channel.sum()
        means.append(float(mean.float()))
        stds.append(float(variance.sqrt().float()) or 1.0)
    return means, stds


def size_text(shape: Shape) -> str:
    """`HxWxC`."""
    channels, height, width = shape
    return f"{height}x{width}x{channels}"
