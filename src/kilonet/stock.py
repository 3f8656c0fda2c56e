"""A source loaded and split, for one training or for many: what a run keeps of it is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet import sources
from kilonet.images import split
from kilonet.records import npz

if TYPE_CHECKING:
    from kilonet.images import ImageSet, Splits


@dataclass(frozen=True, eq=False)
class Stock:
    """What trainings are made from.

    Attributes:
        data: what the source gives.
        splits: its parts.
    """

    data: ImageSet
    splits: Splits

    @cached_property
    def parts(self) -> dict[str, Any]:
        """What tells whether the data is the same: the number of images of each part, and their checksum."""
        return {name: {"n": len(part), "sha256": part.sha256()} for name, part in self.splits.parts().items()}

    @cached_property
    def split_npz(self) -> bytes:
        """The rows of each part, a hash of each of their images, and the checksum that the config has of them."""
        kept: dict[str, Any] = {}
        for name, part in self.splits.parts().items():
            kept |= {f"{name}_rows": part.rows, f"{name}_prints": part.fingerprints()}
            kept[f"{name}_sha256"] = np.frombuffer(bytes.fromhex(self.parts[name]["sha256"]), np.uint8)
        return npz(kept)


def load(source: str, how: str, seed: int) -> Stock:
    """Load a source and split it.

    Args:
        source: a known name, or a path.
        how: the split, as `kilonet.images.split` takes it.
        seed: of the split.

    Raises:
        KilonetError: as `kilonet.sources.load` and `kilonet.images.split` do.
    """
    data = sources.load(source)
    return Stock(data, split(data, how, seed))
