"""Which planted faults the data doctor finds, and what it says of clean sets: a row a fault, a column a source.

A cell is `hits/planted` for faults of single images, `yes` or `NO` for faults of a whole part, and then, behind `+`,
findings of names that were not expected. Usage: python bench/doctor_data.py [SOURCE...]
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kilonet as kn
from kilonet.doctor import orientation
from kilonet.doctor.data import examine, examine_briefly
from kilonet.doctor.finding import Finding
from kilonet.doctor.part import Part
from kilonet.doctor.symmetry import SYMMETRIES
from kilonet.images import ImageSet

Images = NDArray[np.uint8]
SOURCES = ("mnist", "fashion-mnist", "mnist-5k", "digits")
ALSO = {
    "constant": set(),
    "conflicting-labels": {"duplicates", "shared"},
    "missing-classes": {"imbalance"},
}
"""Findings that rightly come with another."""


@dataclass(frozen=True)
class Case:
    """A fault: the finding it should give, and what makes it: of pixels, at some rows or in a whole part."""

    name: str
    finding: str
    change: Callable[[Images], Images]
    at: str = "rows"


def noise(images: Images) -> Images:
    return np.random.default_rng(1).integers(0, 6, images.shape).astype(np.uint8)


def dot(images: Images) -> Images:
    made = np.zeros_like(images)
    height, width = images.shape[2:]
    made[..., height // 8 : height // 8 + 2, width // 8 : width // 8 + 2] = 255
    return made


def turn(k: int) -> Callable[[Images], Images]:
    return lambda images: np.rot90(images, k, (-2, -1)).copy()


CASES = [
    Case("constant 0", "constant", np.zeros_like),
    Case("constant 255", "constant", lambda x: np.full_like(x, 255)),
    Case("blank, noise 0-5", "blank", noise),
    Case("blank, bright noise", "blank", lambda x: (250 + noise(x)).astype(np.uint8)),
    Case("blank, dot of 2x2", "blank", dot),
    Case("inverted", "mixed-polarity", lambda x: 255 - x),
    Case("0 to 1", "mixed-scale", lambda x: (x > 127).astype(np.uint8)),
    Case("0 to 16", "mixed-scale", lambda x: (x // 16).astype(np.uint8)),
    Case("transposed", "mixed-orientation", lambda x: x.swapaxes(-1, -2)),
    Case("upside down", "mixed-orientation", lambda x: x[..., ::-1, :]),
    Case("turned by 90", "mixed-orientation", turn(1)),
    Case("all inverted", "inverted", lambda x: 255 - x, "all"),
    Case("all transposed", "orientation", lambda x: x.swapaxes(-1, -2), "all"),
    Case("all mirrored", "orientation", lambda x: x[..., ::-1], "all"),
    Case("all upside down", "orientation", lambda x: x[..., ::-1, :], "all"),
    Case("all turned by 180", "orientation", turn(2), "all"),
    Case("all turned by 90", "orientation", turn(1), "all"),
    Case("all 0 to 1", "scale", lambda x: (x > 127).astype(np.uint8), "all"),
    Case("all 0 to 16", "scale", lambda x: (x // 16).astype(np.uint8), "all"),
    Case("all 0 to 127", "scale", lambda x: x // 2, "all"),
    Case("all 128 to 255", "scale", lambda x: 128 + x // 2, "all"),
    Case("test inverted", "polarity-differs", lambda x: 255 - x, "test"),
    Case("test transposed", "orientation-differs", lambda x: x.swapaxes(-1, -2), "test"),
    Case("test upside down", "orientation-differs", lambda x: x[..., ::-1, :], "test"),
    Case("test 0 to 1", "scales-differ", lambda x: (x > 127).astype(np.uint8), "test"),
    Case("test halved", "scales-differ", lambda x: x // 2, "test"),
]
COUNTS: tuple[float, ...] = (1, 3, 20, 0.01, 0.1, 0.3)


def with_test(data: ImageSet) -> ImageSet:
    """The same images with a test part: shuffled, the last sixth, where they have none."""
    if data.test_from is not None:
        return data
    order = np.random.default_rng(7).permutation(len(data))
    return replace(data.take(order), rows=np.arange(len(data)), test_from=len(data) * 5 // 6)


def coloured(data: ImageSet) -> ImageSet:
    """Each image in a colour of its own on black."""
    tint = np.random.default_rng(3).uniform(0.3, 1, (len(data), 3, 1, 1)).astype(np.float32)
    return replace(data, images=(data.images * tint).astype(np.uint8))


def planted(data: ImageSet, case: Case, count: float, rng: np.random.Generator) -> tuple[ImageSet, NDArray[np.int64]]:
    cut = data.test_from or len(data)
    n = round(count * cut) if count < 1 else int(count)
    rows = {"rows": np.sort(rng.choice(cut, n, replace=False)), "all": np.arange(len(data)),
            "test": np.arange(cut, len(data))}[case.at]  # fmt: skip
    images = np.array(data.images)
    images[rows] = case.change(images[rows])
    return replace(data, images=images), rows


def told(found: list[Finding], wanted: str, rows: NDArray[np.int64] | None) -> str:
    hits = [one for one in found if one.name == wanted]
    extra = sorted({one.name for one in found} - {wanted} - ALSO.get(wanted, set()))
    if rows is None:
        said = "yes" if hits else "NO"
    else:
        named = {row for one in hits for row in one.rows}
        wrong = len(named - set(rows.tolist()))
        said = f"{len(named & set(rows.tolist()))}/{len(rows)}" + (f" ({wrong} wrong)" if wrong else "")
    return said + (f" +{','.join(extra)}" if extra else "")


def structural(data: ImageSet, rng: np.random.Generator) -> dict[str, tuple[ImageSet, str]]:
    """Faults of copies and classes."""
    cut = data.test_from or len(data)
    images, labels = np.array(data.images), data.labels.copy()

    def copies(n: int, source: range, target: range, *, same: bool) -> ImageSet:
        some, other = rng.choice(source, n, replace=False), rng.choice(target, n, replace=False)
        pixels, names = images.copy(), labels.copy()
        pixels[other] = pixels[some]
        names[other] = names[some] if same else (names[some] + 1) % len(data.classes)
        return replace(data, images=pixels, labels=names)

    front, half, test = range(cut // 2), range(cut // 2, cut), range(cut, len(data))
    made: dict[str, tuple[ImageSet, str]] = {}
    for n in (1, 20, cut // 20):
        made[f"{n} duplicates"] = copies(n, front, half, same=True), "duplicates"
        made[f"{n} conflicting"] = copies(n, front, half, same=False), "conflicting-labels"
    for n in (1, 20, len(test) // 2):
        made[f"{n} shared"] = copies(n, front, test, same=True), "shared"
        made[f"{n} shared, other label"] = copies(n, front, test, same=False), "conflicting-labels"
    order = np.argsort(labels, kind="stable")
    ordered = replace(data.take(order), rows=np.arange(len(data)), test_from=cut)
    made["sorted, cut"] = ordered, "missing-classes"
    kept = np.flatnonzero((labels != 4) | (np.arange(len(data)) < cut))
    made["4 not in test"] = replace(data.take(kept), rows=np.arange(len(kept)), test_from=cut), "missing-classes"
    for share in (0.02, 0.2, 0.5):
        rare = np.flatnonzero((labels != 3) | (rng.random(len(data)) < share) | (np.arange(len(data)) >= cut))
        now = int((rare < cut).sum())
        made[f"3 at {share:.0%}"] = replace(data.take(rare), rows=np.arange(len(rare)), test_from=now), "imbalance"
    return made


def clean(data: ImageSet) -> dict[str, ImageSet]:
    """Sets without these faults."""
    rng = np.random.default_rng(5)
    few = [np.flatnonzero(data.labels == k)[:10] for k in range(len(data.classes))]
    noisy = np.clip(data.images + rng.normal(0, 30, data.images.shape).astype(np.float32), 0, 255)
    return {
        "as it is": data,
        "ten a class": replace(data.take(rng.permutation(np.concatenate(few))), rows=np.empty(0, np.int64)),
        "200 at random": replace(data.take(rng.permutation(len(data))[:200]), rows=np.empty(0, np.int64)),
        "black or white": replace(data, images=np.where(data.pixels > 127, 255, 0).astype(np.uint8)),
        "noisy": replace(data, images=noisy.astype(np.uint8)),
        "coloured": coloured(data),
    }


def shuffled(data: ImageSet, seed: int, wrong: float = 0) -> list[str]:
    """What is said of another permutation, its last fifth the test part, with such a share of random labels."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    labels = data.labels[order]
    rows = rng.choice(len(data), round(len(data) * wrong), replace=False)
    labels[rows] = rng.integers(0, len(data.classes), len(rows))
    made = ImageSet(data.images[order], labels, data.classes, test_from=len(data) * 4 // 5)
    return [one.name for one in examine(made)]


def pairs(data: ImageSet) -> dict[str, Counter[str]]:
    """What is said of the orientation of any two digits, as they are and turned."""
    said: dict[str, Counter[str]] = {name: Counter() for name in list(SYMMETRIES)[:5]}
    for two in combinations(range(10), 2):
        rows = np.flatnonzero(np.isin(data.labels, two))[:1000]
        for name, counter in said.items():
            turned = np.ascontiguousarray(SYMMETRIES[name](data.images[rows]))
            found = orientation.against_known(Part("", kn.from_arrays(turned[:, 0], data.labels[rows])))
            told = found[0].evidence["symmetry"] if found else "nothing"
            counter["right" if told == name else told] += 1
    return said


def main(sources: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in sources or SOURCES:
        data = with_test(kn.load(name))
        for colours, variant in ((False, data), (True, coloured(data.take(np.arange(0, len(data), 10))))):
            if colours:
                variant = replace(variant, rows=np.empty(0, np.int64), test_from=len(variant) * 5 // 6)
            title = f"{name}{', coloured, every tenth image' if colours else ''}"
            print(f"\n{title}: {len(variant):,} images")
            for case in CASES:
                counts = COUNTS if case.at == "rows" else (1,)
                cells = []
                for count in counts:
                    bad, rows = planted(variant, case, count, rng)
                    found = examine(bad)
                    cells.append(told(found, case.finding, rows if case.at == "rows" else None))
                print(f"  {case.name:20} {'   '.join(cells)}", flush=True)
            for what, (bad, wanted) in structural(variant, rng).items():
                print(f"  {what:20} {told(examine(bad), wanted, None)}", flush=True)
        divided = Counter(name for seed in range(100, 160) for name in shuffled(data, seed))
        print(f"  60 clean divisions: {dict(divided)}", flush=True)
        mislabelled = Counter(name for seed in range(12) for name in shuffled(data, seed, (0.03, 0.05, 0.1)[seed % 3]))
        print(f"  12 sets with 3, 5 or 10 % of the labels random: {dict(mislabelled)}", flush=True)
        if len(data.classes) == 10:
            print(f"  two digits: { {name: dict(said) for name, said in pairs(data).items()} }", flush=True)
        for what, good in clean(data).items():
            start = time.perf_counter()
            found = [*examine(good, good.split()), *examine_briefly(good.split())]
            seconds = time.perf_counter() - start
            said: Any = [f"{one.name}: {one.what}" for one in found] or "nothing"
            print(f"  clean, {what:14} {said} ({seconds:.2f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
