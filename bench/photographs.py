"""Synthetic photographs of MNIST's digits, and how well models read them beside the clean images.

A photograph is a digit enlarged 3 to 20 times, its strokes as they are, thicker or thinner, somewhere on a sheet up to
twice its size, dark on bright or bright on dark, on unevenly lit paper, with noise, as a JPEG file of quality 40.

    python bench/photographs.py WEIGHTS... [--data mnist] [--part test] [--n 10000] [--seed 0] [--show FILE.png]
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

import kilonet as kn
from kilonet import shelf
from kilonet.metrics import wilson
from kilonet.pictures import decode
from kilonet.preprocess import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

STROKES = ("as written", "thick", "thin")


@dataclass(frozen=True)
class Scene:
    """How a digit is photographed: drawn from a seeded generator.

    Attributes:
        scale: times that it is enlarged.
        strokes: one of `STROKES`.
        change: by how much of an MNIST pixel a stroke's edge is moved.
        bright: whether the ink is bright and the paper dark.
        noise: standard deviation of the noise, of 255 levels.
    """

    scale: float
    strokes: str
    change: float
    bright: bool
    noise: float


def photograph(digit: NDArray[np.uint8], rng: np.random.Generator) -> tuple[bytes, Scene]:
    """A digit, uint8 (28, 28), bright on 0, as a JPEG file, and the scene that was drawn for it."""
    scene = Scene(
        scale=float(np.exp(rng.uniform(np.log(3), np.log(20)))),
        strokes=str(rng.choice(STROKES)),
        change=float(rng.uniform(0.2, 0.6)),
        bright=bool(rng.random() < 0.5),
        noise=float(rng.uniform(2, 12)),
    )
    ink = _placed(_stroked(_enlarged(digit, scene.scale), scene), rng)
    level = _paper(ink.shape, rng)
    contrast = rng.uniform(0.55, 0.95)
    seen = level * (1 - contrast * ink)
    grey = (255 - seen if scene.bright else seen) + rng.normal(0, scene.noise, ink.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=40)
    return file.getvalue(), scene


def _enlarged(digit: NDArray[np.uint8], scale: float) -> NDArray[np.float64]:
    side = round(28 * scale)
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255


def _stroked(ink: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    """Strokes with their edges moved out or in, and a soft edge as a pen leaves."""
    if scene.strokes == "as written":
        return ink
    inside = ink > 0.5
    away = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    moved = scene.change * scene.scale * (1 if scene.strokes == "thick" else -1)
    return np.asarray(np.clip(0.5 + moved - away, 0, 1))


def _placed(ink: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The ink somewhere on a sheet of one to two times its size."""
    side = len(ink)
    height, width = (int(side * rng.uniform(1, 2)) for _ in range(2))
    sheet = np.zeros((height, width))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    sheet[top : top + side, left : left + side] = ink
    return sheet


def _paper(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Paper of one brightness, lit from one side and darker towards the corners."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    angle, slope, vignette = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25), rng.uniform(0, 0.12)
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) - vignette * (x * x + y * y)
    return np.asarray(np.clip(rng.uniform(160, 235) * light, 30, 255))


def read(
    predictor: kn.Predictor, data: kn.ImageSet, seed: int
) -> tuple[dict[str, list[bool]], list[NDArray[np.uint8]], list[int]]:
    """Whether each photograph is read right, by kind; what the model saw; and the rows that it misread."""
    right: dict[str, list[bool]] = defaultdict(list)
    blank = np.zeros(data.shape, np.uint8)
    scenes, seen = [], []
    for image, row in zip(data.images, data.rows, strict=True):
        content, scene = photograph(image[0], np.random.default_rng((seed, int(row))))
        found = prepare(decode(content, "photograph"), data.shape, "digit")
        scenes.append(scene)
        seen.append(blank if found is None else found)
    answers = predictor.probabilities(np.stack(seen)).argmax(axis=1)
    misread = []
    for i, (scene, answer) in enumerate(zip(scenes, answers, strict=True)):
        good = bool(answer == data.labels[i]) and seen[i] is not blank
        misread += [] if good else [i]
        for kind in ("all", scene.strokes, "bright ink" if scene.bright else "dark ink", _size(scene)):
            right[kind].append(good)
        right["nothing drawn"].append(seen[i] is blank)
    return right, seen, misread


def _size(scene: Scene) -> str:
    return next(f"enlarged {a} to {b} times" for a, b in ((3, 6), (6, 12), (12, 20)) if scene.scale <= b)


def show(data: kn.ImageSet, seen: list[NDArray[np.uint8]], rows: list[int], seed: int, path: Path) -> None:
    """Draw photographs beside what the model saw."""
    tiles = []
    for i in rows[:60]:
        content, _ = photograph(data.images[i][0], np.random.default_rng((seed, int(data.rows[i]))))
        pair = [Image.fromarray(decode(content, "")), Image.fromarray(seen[i][0]), Image.fromarray(data.images[i][0])]
        tiles.append(np.concatenate([np.array(one.resize((112, 112), Image.Resampling.BOX)) for one in pair], axis=1))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
    lines = [np.concatenate(tiles[i : i + 4], axis=1) for i in range(0, len(tiles), 4)]
    Image.fromarray(np.concatenate(lines)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--part", default="test", choices=("val", "test"))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path)
    given = parser.parse_args()
    part = kn.load(given.data).split().parts()[given.part]
    data = part.take(np.arange(min(given.n, len(part))))
    for name in given.weights:
        model = shelf.find(name, Path("runs")).model()
        clean = float((kn.Predictor(model).probabilities(data.images).argmax(axis=1) == data.labels).mean())
        right, seen, misread = read(kn.Predictor(model), data, given.seed)
        print(f"{name}: {model.name}, {len(data):,} images of {given.data}, {given.part}, seed {given.seed}")
        print(f"  {'clean':24} {100 * clean:6.2f} %")
        for kind, good in right.items():
            low, high = wilson(sum(good), len(good))
            print(f"  {kind:24} {100 * np.mean(good):6.2f} %  ({100 * low:.2f} to {100 * high:.2f}, n = {len(good):,})")
        if given.show:
            show(data, seen, misread, given.seed, given.show)


if __name__ == "__main__":
    main()
