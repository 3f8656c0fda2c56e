"""`ImageSet`, labelled uint8 images, and `split`: which train, which choose, which are measured once."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from kilonet import mapped
from kilonet.errors import ConfigError, DataError, nearest
from kilonet.mapped import Mapped, Pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Preparation = Literal["digit", "resize"]

NAMED = ("standard", "full", "tutorial")
STANDARD_FRACTIONS = (0.70, 0.15, 0.15)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images.

    Attributes:
        images: uint8, (N, C, H, W), C being 1 (grey) or 3 (RGB), 0 to 255; `Mapped` where they lie in a large mapped
            file.
        labels: int64, (N,), each an index into `classes`.
        classes: the name of each class.
        origin: where the images came from, for people.
        test_from: row at which the source's own test part begins, if it has one.
        preparation: how a picture is made into such an image: `digit` by MNIST's recipe, `resize` by scaling.
        rows: int64, (N,), the row of each image in the source it came from.
        notes: what was done to the data on its way here and should be known.

    Raises:
        DataError: if the arrays are not of these types and shapes, or a label is no index into `classes`.
    """

    images: Pixels
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    origin: str = "arrays"
    test_from: int | None = None
    preparation: Preparation = "resize"
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[1:]:
            raise DataError(
                f"images of type {images.dtype} and shape {images.shape}: expected uint8 and (N, 1 or 3, H, W)",
                "kilonet.from_arrays converts other arrays",
            )
        if labels.dtype != np.int64 or labels.shape != (len(images),):
            raise DataError(
                f"labels of type {labels.dtype} and shape {labels.shape}: expected int64 and ({len(images)},)"
            )
        if len(images) == 0:
            raise DataError(f"no images in {self.origin}")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            row = int(np.argmax((labels < 0) | (labels >= len(self.classes))))
            raise DataError(f"label {labels[row]} in row {row} is out of range: there are {len(self.classes)} classes")
        if len(self.rows) != len(images):
            object.__setattr__(self, "rows", np.arange(len(images)))
        if not isinstance(images, Mapped):
            object.__setattr__(self, "images", mapped.lazily(images))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def is_large(self) -> bool:
        """Whether the images stay on the disk, in a mapped file."""
        return isinstance(self.images, Mapped)

    def take(self, rows: slice | NDArray[np.int64]) -> ImageSet:
        """The images at some rows: views for a slice, copies for indices; of mapped ones views for both."""
        images = self.images.take(rows) if isinstance(self.images, Mapped) else self.images[rows]
        return replace(self, images=images, labels=self.labels[rows], rows=self.rows[rows], test_from=None)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The images as a plain array, uint8, (N, C, H, W): a copy of those that stay on the disk."""
        return self.images[:] if isinstance(self.images, Mapped) else self.images

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """All the images in their order, uint8, (n, C, H, W), contiguous, some at a time."""
        return mapped.pieces(self.images)

    def split(self, how: str = "standard", seed: int = 0) -> Splits:
        """Divide the images into parts; see `kilonet.images.split`."""
        return split(self, how, seed)

    def counts(self) -> NDArray[np.int64]:
        """The number of images of each class, int64, (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def extremes(self) -> tuple[int, int]:
        """The least and the greatest value of a pixel."""
        found = [(int(piece.min()), int(piece.max())) for piece in self.pieces()]
        return min(low for low, _ in found), max(high for _, high in found)

    def histograms(self) -> NDArray[np.int64]:
        """How often each value occurs in each channel, int64, (C, 256)."""
        return self._histograms

    @cached_property
    def _histograms(self) -> NDArray[np.int64]:
        counts = np.zeros((self.shape[0], 256), np.int64)
        for piece in self.pieces():
            for channel in range(len(counts)):
                counts[channel] += _histogram(piece[:, channel])
        return counts

    def sha256(self) -> str:
        """A checksum over the pixels and the labels, whatever format they came in, as 64 hex digits."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for piece in self.pieces():
            digest.update(piece.data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def fingerprints(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each image's pixels, uint64, (N,): equal images have equal ones."""
        return self._fingerprints

    @cached_property
    def _fingerprints(self) -> NDArray[np.uint64]:
        digests: list[bytes] = []
        each = math.prod(self.shape)
        for piece in self.pieces():
            content = memoryview(piece.data).cast("B")
            images = (content[start : start + each] for start in range(0, len(content), each))
            digests.append(b"".join([hashlib.blake2b(image, digest_size=8).digest() for image in images]))
        return np.frombuffer(b"".join(digests), "<u8")


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value occurs, int64, (256,): counted in pairs, which takes a third of the time."""
    flat = np.ravel(pixels)
    whole = len(flat) // 2 * 2
    pairs = np.bincount(flat[:whole].view(np.uint16), minlength=2**16).reshape(256, 256)
    return np.asarray(pairs.sum(0) + pairs.sum(1) + np.bincount(flat[whole:], minlength=256))


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of an image set.

    Attributes:
        train: what the weights are fitted to.
        val: what chooses between epochs and settings, or None.
        test: what is measured once, at the end, or None.
        how: the split's name or its fractions.
        notes: what was done that should be known.
    """

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    how: str
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, ImageSet]:
        """The parts that there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def split(data: ImageSet, how: str = "standard", seed: int = 0) -> Splits:
    """Divide an image set.

    Args:
        data: the images, in the order of their source.
        how: one of
            `standard`: the source's own test part, and the last sixth of the rest for validation (MNIST: 50,000 /
            10,000 / 10,000); without a test part a seeded, stratified 70 / 15 / 15;
            `full`: the same test part, all the rest trains, nothing validates;
            `tutorial`: the first five sevenths train, the rest validates, no test part;
            or fractions for training, validation and, if given, test, such as `70/15/15` or `0.8/0.2`: seeded,
            stratified, over all the images.
        seed: seed of whatever is drawn.

    Raises:
        ConfigError: for an unknown split, or fractions that won't do.
        DataError: if a class has too few images for its parts.
    """
    if len(np.unique(data.labels)) < 2:
        raise DataError(f"{data.origin}: one class only: expected at least two")
    if len(data) < len(data.classes):
        raise DataError(f"{data.origin}: {len(data)} images for {len(data.classes)} classes: expected more")
    if how == "tutorial":
        return _tutorial(data, seed)
    if how in NAMED and data.test_from is not None:
        return _with_own_test(data, data.test_from, how, seed)
    if how in NAMED:
        train, val, test = _stratified(data.labels, STANDARD_FRACTIONS, seed, data)
        if how == "full":
            return Splits(data.take(np.sort(np.concatenate([train, val]))), None, data.take(test), how)
        return Splits(data.take(train), data.take(val), data.take(test), how)
    parts = [data.take(rows) for rows in _stratified(data.labels, _fractions(how), seed, data)]
    return Splits(parts[0], parts[1], parts[2] if len(parts) == 3 else None, how)


def _tutorial(data: ImageSet, seed: int) -> Splits:
    cut = len(data) * 5 // 7
    if not in_class_order(data.labels):
        return _checked(Splits(data.take(slice(0, cut)), data.take(slice(cut, None)), None, "tutorial"))
    order = np.random.default_rng(seed).permutation(len(data))
    note = f"the source is in class order: shuffled with seed {seed} before the first five sevenths were taken"
    return _checked(Splits(data.take(order[:cut]), data.take(order[cut:]), None, "tutorial", (note,)))


def _with_own_test(data: ImageSet, test_from: int, how: str, seed: int) -> Splits:
    rest, test = data.take(slice(0, test_from)), data.take(slice(test_from, None))
    if how == "full":
        return _checked(Splits(rest, None, test, how))
    if not in_class_order(rest.labels):
        cut = test_from - test_from // 6
        return _checked(Splits(rest.take(slice(0, cut)), rest.take(slice(cut, None)), test, how))
    train, val = _stratified(rest.labels, (5 / 6, 1 / 6), seed, rest)
    note = f"the source is in class order: the validation sixth was drawn with seed {seed}, stratified"
    return _checked(Splits(rest.take(train), rest.take(val), test, how, (note,)))


def in_class_order(labels: NDArray[np.int64]) -> bool:
    """Whether the classes lie one after the other, so that a cut in sequence would miss some."""
    return int(np.count_nonzero(np.diff(labels))) < 2 * len(np.unique(labels)) - 1 and len(labels) > 2


def _stratified(
    labels: NDArray[np.int64], fractions: tuple[float, ...], seed: int, data: ImageSet
) -> list[NDArray[np.int64]]:
    """Rows of each part, sorted, such that every part has the given fraction of every class, and one at least."""
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(fractions)[:-1]
    parts: list[list[NDArray[np.int64]]] = [[] for _ in fractions]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < len(fractions):
            raise DataError(
                f"{data.origin}: class {data.classes[label]!r} has {len(rows)} images: a split into "
                f"{len(fractions)} parts needs {len(fractions)} at least"
            )
        at = np.rint(cuts * len(rows)).astype(int)
        for part in range(len(cuts)):
            least = (at[part - 1] if part else 0) + 1
            at[part] = min(max(at[part], least), len(rows) - (len(cuts) - part))
        for chosen, rows_of_class in zip(parts, np.split(rows, at), strict=True):
            chosen.append(rows_of_class)
    return [np.sort(np.concatenate(part)) for part in parts]


def _fractions(how: str) -> tuple[float, ...]:
    """Fractions that sum to 1 from a text such as `70/15/15`."""
    try:
        numbers = [float(part) for part in how.split("/")]
    except ValueError:
        raise ConfigError(
            f"unknown split {how!r}", f"{nearest(how, NAMED)} Fractions such as 70/15/15 do, too"
        ) from None
    total = sum(numbers)
    if len(numbers) not in (2, 3) or not all(0 < n < total for n in numbers) or not np.isclose([1, 100], total).any():
        raise ConfigError(f"split {how!r} won't do: expected two or three parts above 0 that sum to 1 or 100")
    return tuple(n / total for n in numbers)


def _checked(splits: Splits) -> Splits:
    for name, part in splits.parts().items():
        if len(np.unique(part.labels)) < 2:
            raise DataError(
                f"{part.origin}: the {name} part of the {splits.how} split holds one class only",
                "fractions such as --split 70/15/15 draw every class into every part",
            )
    return splits
