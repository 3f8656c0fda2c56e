"""Whether an export answers as the trained model does, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.images import ImageSet

TOLERANCE = 1e-4
"""By how much a logit of a float export may differ from the trained model's."""
MOST_LOST = 0.001
"""Of the validation images, the share that an int8 export may get wrong beyond what the trained model does."""


class MissingToolError(KilonetError):
    """What a proof needs and this machine lacks."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """The answers of a trained model and of its export to the same images.

    Attributes:
        what: the images, for people.
        n: their number.
        sha256: their checksum.
        same_class: how many get the same class from both.
        greatest_difference: between two logits of one image and class.
        differing: int64, rows in their source of the images that get another class or logits beyond the tolerance.
        lost_rows: int64, rows of those that the model gets right and the export does not.
        model, export: how many each gets right.
    """

    what: str
    n: int
    sha256: str
    same_class: int
    greatest_difference: float
    differing: NDArray[np.int64]
    lost_rows: NDArray[np.int64]
    model: int
    export: int

    @property
    def exact(self) -> bool:
        """Whether every class is the same and every logit within the tolerance."""
        return self.same_class == self.n and self.greatest_difference <= TOLERANCE

    @property
    def lost(self) -> float:
        """The share of the images that the export gets wrong beyond the model's own; negative where it is better."""
        return (self.model - self.export) / self.n

    def document(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        return {
            "images": self.what,
            "images_sha256": self.sha256,
            "n": self.n,
            "same_class": self.same_class,
            "greatest_logit_difference": self.greatest_difference if np.isfinite(self.greatest_difference) else None,
            "lost_rows": self.lost_rows[:100].tolist(),
            "correct": {"model": self.model, "export": self.export},
            "accuracy": {"model": self.model / self.n, "export": self.export / self.n},
        }


def compared(trained: NDArray[np.float64], exported: NDArray[np.float64], data: ImageSet, what: str) -> Agreement:
    """Hold an export's logits, (N, K), against the trained model's.

    Args:
        trained: the model's.
        exported: the export's; what is no number counts as infinitely far, and as another class.
        data: the images.
        what: they are, for people.
    """
    if exported.shape != trained.shape:
        exported = np.full_like(trained, np.nan)
    apart = np.nan_to_num(np.abs(trained - exported), nan=np.inf)
    right, said = trained.argmax(axis=1), exported.argmax(axis=1)
    said = np.where(np.isfinite(exported).all(axis=1), said, -1)
    return Agreement(
        what,
        len(data),
        data.sha256(),
        int((right == said).sum()),
        float(apart.max()),
        data.rows[(right != said) | (apart.max(axis=1) > TOLERANCE)],
        data.rows[(right == data.labels) & (said != data.labels)],
        int((right == data.labels).sum()),
        int((said == data.labels).sum()),
    )
