"""The tutorial as one script: raw files in, a trained CNN out; what bench/seeds.py runs as a process of its own.

    python bench/tutorial_script.py FOLDER [SEED]

Reads MNIST's four gzipped IDX files, takes the first 50,000 images for training and the other 20,000 for validation,
divides pixels by 256, trains for 15 epochs with a DataLoader and prints validation loss and accuracy after each. The
tutorial has the images from OpenML and draws besides, which takes it longer.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import torch

from kilonet.plain import Cnn, plain_loop


def read(path: Path, header: int) -> np.ndarray:
    """What follows the header of a gzipped IDX file."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.manual_seed(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    images = np.concatenate([read(folder / f"{part}-images-idx3-ubyte.gz", 16) for part in ("train", "t10k")])
    labels = np.concatenate([read(folder / f"{part}-labels-idx1-ubyte.gz", 8) for part in ("train", "t10k")])
    x = torch.from_numpy(images.reshape(-1, 784).astype(np.float32) / 256)
    y = torch.from_numpy(labels.astype(np.int64))
    epochs = plain_loop(Cnn(), (x[:50_000], y[:50_000]), (x[50_000:], y[50_000:]), 15)
    for epoch in epochs:
        print(f"{epoch.val_loss:.4f} {epoch.val_accuracy:.4f}")


if __name__ == "__main__":
    main()
