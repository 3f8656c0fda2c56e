"""The well-known data sets: where they are looked for, and the checksums they are held against."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonet.errors import DataError, FetchError
from kilonet.images import ImageSet
from kilonet.sources import cache, idx, openml, pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.images import Preparation

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Named:
    """A well-known data set.

    Attributes:
        about: a line for people.
        openml_id: its number at OpenML.
        test_from: where its test part begins when all its images lie in one file.
        classes: names of its classes.
        torchvision: the folder that torchvision gives it.
        preparation: see `ImageSet`.
        prefix: how its IDX files begin.
        transposed: whether its files hold columns where rows should be, as EMNIST's do.
        content: SHA-256 of the uncompressed IDX: training images, training labels, test images, test labels.
        packed: the same of the gzipped files as published, where only these are known.
    """

    about: str
    openml_id: int
    test_from: int
    classes: tuple[str, ...]
    torchvision: str
    preparation: Preparation = "resize"
    prefix: str = ""
    transposed: bool = False
    content: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()


SOURCES = {
    "mnist": Named(
        "70,000 handwritten digits, 28x28, 60,000 of them for training",
        openml_id=554,
        test_from=60_000,
        classes=_DIGITS,
        torchvision="MNIST",
        preparation="digit",
        content=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": Named(
        "70,000 pictures of clothes in 10 classes, 28x28, 60,000 for training (Xiao, Rasul and Vollgraf 2017)",
        openml_id=40996,
        test_from=60_000,
        classes=(
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        torchvision="FashionMNIST",
        content=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "kmnist": Named(
        "70,000 old Japanese letters in 10 classes, 28x28, 60,000 for training (Clanuwat et al. 2018)",
        openml_id=41982,
        test_from=60_000,
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        torchvision="KMNIST",
        packed=(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
    "emnist-balanced": Named(
        "131,600 handwritten digits and letters in 47 classes, 28x28, 112,800 for training (Cohen et al. 2017)",
        openml_id=41039,
        test_from=112_800,
        classes=tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
        torchvision="EMNIST",
        preparation="digit",
        prefix="emnist-balanced-",
        transposed=True,
        packed=(
            "74295e75e4e9fa2c102147460ee7eb763653d5132d883a84fb88932bfb8d2db4",
            "b46d41e5156a0a8aaaa4d18979fdd1588850fa8571018acffd5d93b325a7d6ed",
            "117fc12b015e37ea98bfb2cbba3f77c3782c056cdbd219b87abfc8661d7135db",
            "a67cac948379b67270b9a4d0a01c8ec661598accf2f2b1964340b7c83cb175cd",
        ),
    ),
}


def load(name: str) -> ImageSet:
    """A well-known data set, from the nearest place that has it.

    Looked for in `$KILONET_DATA/NAME`, `/usr/share/datasets/NAME` and `data/` under the working directory and the
    home directory (torchvision's layout), then in the cache of what was fetched; else fetched from OpenML, or
    from scikit-learn's cache of it.

    Raises:
        DataError: if what was found is not the known data.
        FetchError: if it was found nowhere and could not be fetched.
    """
    known = SOURCES[name]
    for folder in _places(name, known):
        if folder.is_dir() and (found := idx.find(folder, known.prefix, follow=True)) is not None:
            return _from_files(name, known, found)
    try:
        return cache.get(name, cache.Origin(f"openml:{known.openml_id}"), lambda: _from_openml(name, known))
    except FetchError as error:
        raise FetchError(error.message, f"{ways(name)}; mnist-5k and digits are always here") from None


def ways(name: str) -> str:
    """The ways to get a well-known data set by hand."""
    places = f"put its IDX files into a folder {name} and set KILONET_DATA to the folder around it"
    return f"{places}, or apt-get install dataset-fashion-mnist" if name == "fashion-mnist" else places


def _places(name: str, known: Named) -> list[Path]:
    """The folders to look into, in their order."""
    own = [Path(root) / name] if (root := os.environ.get("KILONET_DATA")) else []
    torchvision = [place / "data" / known.torchvision for place in (Path(), Path.home())]
    return [*own, Path("/usr/share/datasets") / name, *torchvision]


def _from_files(name: str, known: Named, found: tuple[pairs.Pair, pairs.Pair | None]) -> ImageSet:
    train, test = found
    if test is None:
        raise DataError(f"{train.images.parent} holds no test images of {name}", "all four of its IDX files are needed")
    paths = [path.resolve() for pair in (train, test) for path in (pair.images, pair.labels)]

    def decode() -> ImageSet:
        _check_packed(name, known, paths)
        data = idx.decode([train, test], f"{name} ({train.images.parent.resolve()})", known.classes)
        return _finish(name, known, data if isinstance(data, ImageSet) else data.whole())

    return cache.get(name, cache.stamps(paths), decode)


def _from_openml(name: str, known: Named) -> ImageSet:
    data = openml.fetch(data_id=known.openml_id)
    if len(data) <= known.test_from:
        raise DataError(f"{name} from OpenML has {len(data)} images: expected more than {known.test_from}")
    return _finish(name, known, replace(data, origin=f"{name} (OpenML {known.openml_id})"))


def _finish(name: str, known: Named, data: ImageSet) -> ImageSet:
    """Checked, upright, and with the classes' names."""
    note = _check_content(name, known, data)
    images = np.ascontiguousarray(data.pixels.transpose(0, 1, 3, 2)) if known.transposed else data.images
    return replace(
        data,
        images=images,
        classes=known.classes,
        preparation=known.preparation,
        test_from=known.test_from if data.test_from is None else data.test_from,
        notes=(*data.notes, *note),
    )


def _check_content(name: str, known: Named, data: ImageSet) -> tuple[str, ...]:
    """Hold the pixels and labels, as uncompressed IDX, against the known checksums."""
    if not known.content:
        return () if len(data) == known.test_from * 7 // 6 else (f"{len(data)} images: not the published number",)
    cut = known.test_from
    arrays: list[NDArray[Any]] = [data.pixels[:cut, 0], data.labels[:cut], data.pixels[cut:, 0], data.labels[cut:]]
    for what, array, expected in zip(_FILES, arrays, known.content, strict=True):
        found = hashlib.sha256(idx.encode(array.astype(np.uint8, copy=False))).hexdigest()
        _compare(f"{name}: the {what} ({data.origin})", found, expected)
    return ()


def _check_packed(name: str, known: Named, paths: list[Path]) -> None:
    """Hold gzipped files against the checksums they were published with."""
    for what, path, expected in zip(_FILES, paths, known.packed, strict=False):
        if path.suffix == ".gz":
            _compare(f"{name}: the {what} ({path})", hashlib.sha256(path.read_bytes()).hexdigest(), expected)


_FILES = ("training images", "training labels", "test images", "test labels")


def _compare(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{what} are not the known data: SHA-256 {found[:16]}..., expected {expected[:16]}...",
            "delete the damaged file and get it again; data of your own is loaded by its path",
        )
