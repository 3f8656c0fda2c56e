"""Files that come in pairs, images and their labels, told apart by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilonet.errors import DataError
from kilonet.files import is_inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WORDS = [("images", "labels"), ("x", "y"), ("data", "labels"), ("data", "target")]


@dataclass(frozen=True)
class Pair:
    """A file of images and the file of their labels."""

    images: Path
    labels: Path


def partner(path: Path, known: Iterable[Path] | None = None) -> Pair | None:
    """The pair that a file is part of, or None if its other half is not there.

    Args:
        path: the file.
        known: the files to choose from; those beside it if None, but for links that lead elsewhere.
    """
    siblings = {p.name.lower(): p for p in (known if known is not None else path.parent.iterdir())}
    for image_word, label_word in _WORDS:
        for here, there, is_images in ((image_word, label_word, True), (label_word, image_word, False)):
            name = _swap(path.name.lower(), here, there, is_images)
            for candidate in (name, f"{name}.gz", name.removesuffix(".gz")):
                if name != path.name.lower() and candidate in siblings:
                    other = siblings[candidate]
                    if known is None and not (other.is_file() and is_inside(other, path.parent)):
                        return None
                    return Pair(path, other) if is_images else Pair(other, path)
    return None


def _swap(name: str, here: str, there: str, is_images: bool) -> str:
    name = re.sub(rf"(?<![a-z]){here}(?![a-z])", there, name)
    return name.replace("idx3", "idx1") if is_images else name.replace("idx1", "idx3")


def parts(path: Path, candidates: list[Path], prefix: str = "") -> tuple[Pair, Pair | None] | None:
    """The pair that trains and the pair that tests, if there is one, among the files of a folder.

    Args:
        path: the folder, for error messages.
        candidates: the files to choose from.
        prefix: only files whose names begin so.

    Raises:
        DataError: if several pairs could be meant.
    """
    wanted = [file for file in candidates if file.name.startswith(prefix)]
    found = {pair.images: pair for file in wanted if (pair := partner(file, wanted)) is not None}
    by_stem: dict[str, Pair] = {}
    for pair in sorted(found.values(), key=lambda p: p.images.suffix != ".gz", reverse=False):
        by_stem[pair.images.name.lower().removesuffix(".gz")] = pair
    test = [pair for stem, pair in by_stem.items() if re.search(r"t10k|test", stem)]
    train = [pair for pair in by_stem.values() if pair not in test]
    if len(train) > 1 or len(test) > 1:
        several = ", ".join(sorted(pair.images.name for pair in (*train, *test)))
        raise DataError(f"{path} holds several data sets: {several}", "give the path of the images file you mean")
    if not train:
        return (test[0], None) if test else None
    return train[0], test[0] if test else None
