"""`Predictor`: files, arrays or rows of a source to classes and probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        label: the class of greatest probability.
        probability: its probability, 0 to 1.
        probabilities: of every class, by name.
        image: uint8, (C, H, W): what the model saw.
        truth: the true class, where it is known.
    """

    source: str
    label: str
    probability: float
    probabilities: dict[str, float]
    image: NDArray[np.uint8]
    truth: str | None = None


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

    def files(self, paths: Sequence[Path]) -> list[Prediction]:
        """Predictions for picture files of any format, and for `.npy` files of one image or many.

        Raises:
            DataError: for a file that is no picture.
        """
        sources: list[str] = []
        images: list[NDArray[np.uint8]] = []
        for path in paths:
            if path.suffix == ".npy":
                array = self._array(path)
                sources += [f"{path}[{i}]" for i in range(len(array))]
                images += list(array)
            else:
                sources.append(str(path))
                images.append(prepare(read_picture(path), self.model.shape, self.model.preparation))
        return self._predict([printable(source) for source in sources], np.stack(images), None)

    def rows(self, data: ImageSet, name: str) -> list[Prediction]:
        """Predictions for images of a source, with the truth beside them."""
        sources = [f"{name}[{row}]" for row in data.rows]
        return self._predict(sources, data.images, [data.classes[label] for label in data.labels])

    def _predict(self, sources: list[str], images: NDArray[np.uint8], truths: list[str] | None) -> list[Prediction]:
        found = []
        for i, row in enumerate(self.probabilities(images)):
            best = int(row.argmax())
            by_class = {name: float(p) for name, p in zip(self.model.classes, row, strict=True)}
            truth = truths[i] if truths is not None else None
            label = self.model.classes[best]
            found.append(Prediction(sources[i], label, float(row[best]), by_class, np.asarray(images[i]), truth))
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
        images = from_arrays(array, np.zeros(len(array), np.int64), origin=str(path)).images
        if images.shape[1:] != self.model.shape:
            shape = size_text(images.shape[1:])
            raise DataError(f"{path} holds {shape} images: the model takes {size_text(self.model.shape)}")
        return images
