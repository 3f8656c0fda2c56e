"""`Predictor`: files, arrays or rows of a source to classes and probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kilonet.arrays import from_arrays
from kilonet.batches import Resident
from kilonet.errors import DataError
from kilonet.evaluation import finite_logits
from kilonet.files import printable
from kilonet.metrics import log_softmax
from kilonet.models import size_text
from kilonet.pictures import read_picture
from kilonet.preprocess import prepare
from kilonet.sources import npyfile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kilonet.images import ImageSet
    from kilonet.models import Classifier


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one picture.

    Attributes:
        source: where the picture came from: a file, or a source and a row.
        label: the class of greatest probability, or None where nothing is drawn on the picture.
        probability: its probability, 0 to 1.
        probabilities: of every class, by name.
        image: uint8, (C, H, W): what the model saw; blank where nothing is drawn.
        original: uint8, (H, W) or (H, W, 3): the picture, small, where it was prepared and is asked for.
        truth: the true class, where it is known.
    """

    source: str
    label: str | None
    probability: float | None
    probabilities: dict[str, float] | None
    image: NDArray[np.uint8]
    original: NDArray[np.uint8] | None = None
    truth: str | None = None

    def document(self) -> dict[str, Any]:
        """The prediction as JSON has it: null where nothing is drawn."""
        told = {"source": self.source, "class": self.label, "probability": self.probability}
        known = {} if self.truth is None else {"true": self.truth}
        return {**told, "probabilities": self.probabilities, **known}


class Predictor:
    """A trained model, ready for pictures."""

    def __init__(self, model: Classifier) -> None:
        self.model = model

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class probabilities, float64, (N, K), of images as the model takes them, uint8, (N, C, H, W).

        Raises:
            DataError: if the images have another shape or type.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.model.shape:
            raise DataError(
                f"images of type {images.dtype} and shape {images.shape}: the model takes uint8 and "
                f"(N, {', '.join(map(str, self.model.shape))})"
            )
        resident = Resident(torch.from_numpy(np.array(images)), torch.zeros(len(images)))
        return np.exp(log_softmax(finite_logits(self.model, resident, 500)))

    def files(self, paths: Sequence[Path], *, originals: bool = False) -> list[Prediction]:
        """Predictions for picture files, and for `.npy` files of one image or many.

        Args:
            paths: of the files.
            originals: whether predictions hold the pictures, too, as thumbnails.

        Raises:
            DataError: for a file that is no picture.
        """
        sources: list[str] = []
        images: list[NDArray[np.uint8] | None] = []
        thumbnails: list[NDArray[np.uint8] | None] = []
        for path in paths:
            if path.suffix == ".npy":
                array = self._array(path)
                sources += [f"{path}[{i}]" for i in range(len(array))]
                images += list(array)
                thumbnails += [None] * len(array)
            else:
                picture = read_picture(path)
                sources.append(str(path))
                images.append(prepare(picture, self.model.shape, self.model.preparation))
                thumbnails.append(_thumbnail(picture) if originals else None)
        found = self._predict([printable(source) for source in sources], images)
        return [replace(one, original=picture) for one, picture in zip(found, thumbnails, strict=True)]

    def rows(self, data: ImageSet, name: str) -> list[Prediction]:
        """Predictions for images of a source, with the truth beside them."""
        found = self._predict([f"{name}[{row}]" for row in data.rows], list(data.images))
        return [replace(one, truth=data.classes[label]) for one, label in zip(found, data.labels, strict=True)]

    def _predict(self, sources: list[str], images: Sequence[NDArray[np.uint8] | None]) -> list[Prediction]:
        """A prediction an image, uint8, (C, H, W); None for an image is one on which nothing is drawn."""
        blank = np.zeros(self.model.shape, np.uint8)
        seen = [blank if image is None else np.asarray(image) for image in images]
        found = []
        for i, row in enumerate(self.probabilities(np.stack(seen))):
            if images[i] is None:
                found.append(Prediction(sources[i], None, None, None, blank))
                continue
            by_class = {name: float(p) for name, p in zip(self.model.classes, row, strict=True)}
            best = int(row.argmax())
            found.append(Prediction(sources[i], self.model.classes[best], float(row[best]), by_class, seen[i]))
        return found

    def _array(self, path: Path) -> NDArray[np.uint8]:
        """The images in a `.npy` file, which has to hold what the model takes."""
        if not path.is_file():
            raise DataError(f"no such file: {printable(str(path))}")
        array = npyfile.read(path)
        if array.ndim == 2 and array.shape == self.model.shape[1:]:
            array = array[None]
        if array.size == 0:
            raise DataError(f"{printable(str(path))} holds no images")
        found = from_arrays(array, np.zeros(len(array), np.int64), origin=str(path))
        if found.shape != self.model.shape:
            shape = size_text(found.shape)
            raise DataError(f"{path} holds {shape} images: the model takes {size_text(self.model.shape)}")
        return found.pixels


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of every so many pixels, at most 600 a side."""
    step = -(-max(picture.shape[:2]) // 600)
    return picture[::step, ::step].copy()
