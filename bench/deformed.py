"""MNIST's training digits deformed into as many as are asked for, as infinite-MNIST does (Loosli et al. 2007).

    python bench/deformed.py --images 6000000 --to FOLDER [--seed 0]

The folder gets a raw IDX pair, `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`. The first 60,000 images are the
originals; each further 60,000 are all of them again, in the same order, moved, turned, enlarged, slanted and bent anew
by `kilonet.augment`. Which deformation an image gets depends on the seed and its place alone, so a shorter set is the
beginning of a longer one. Memory does not grow with the number of images.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import kilonet as kn
from kilonet import files
from kilonet.augment import warp, warps
from kilonet.config import Training
from kilonet.sources import idx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DEFORMED = {"shift": 2.0, "rotate": 10.0, "zoom": 0.12, "shear": 8.0, "elastic": 2.0}
"""Bounds of the deformations, as in `kilonet.config.Training`."""
PIECE = 5_000
"""Images that are warped at once."""


def passes(digits: kn.ImageSet, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The digits, uint8, (N, H, W), as they are, then deformed anew again and again."""
    pixels = torch.from_numpy(np.array(digits.images[:]))
    yield pixels[:, 0].numpy()
    training = Training(seed=seed, **DEFORMED)  # type: ignore[arg-type]  # all of them floats
    for number in count(1):
        by = warps(training, len(pixels), min(digits.shape[1:]), number)
        assert by is not None
        pairs = zip(torch.split(pixels, PIECE), torch.split(by, PIECE), strict=True)
        warped = [warp(some, their).round().clamp(0, 255).to(torch.uint8)[:, 0] for some, their in pairs]
        yield torch.cat(warped).numpy()


def write(folder: Path, digits: kn.ImageSet, n: int, seed: int) -> None:
    """Write n images and their labels into a new folder, whole or not at all."""
    height, width = digits.shape[1:]
    began, done = time.perf_counter(), 0
    with (
        files.whole_folder(folder, replace=False) as building,
        (building / "train-images-idx3-ubyte").open("wb") as images,
        (building / "train-labels-idx1-ubyte").open("wb") as labels,
    ):
        images.write(idx.header((n, height, width)))
        labels.write(idx.header((n,)))
        for some in passes(digits, seed):
            few = min(len(some), n - done)
            images.write(some[:few].data)
            labels.write(digits.labels[:few].astype(np.uint8).data)
            done += few
            sys.stderr.write(f"\r{done:,} of {n:,} images, {time.perf_counter() - began:.0f} s ")
            if done == n:
                break
    sys.stderr.write("\n")


def main() -> None:
    """Deform what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6_000_000)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if not 0 < asked.images < 2**32:
        parser.error("--images: IDX holds from 1 to 4,294,967,295")
    if asked.to.exists():
        parser.error(f"--to: {asked.to} exists already; name a new folder")
    try:
        mnist = kn.load("mnist")
        write(asked.to, mnist.take(slice(0, mnist.test_from)), asked.images, asked.seed)
    except kn.KilonetError as error:
        raise SystemExit(error.message) from None
    except OSError as error:
        raise SystemExit(f"can't write {asked.to}: {error.strerror}") from None


if __name__ == "__main__":
    main()
