"""The valid files that the damage begins with, each small and each made once."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import kilonet as kn
from kilonet import checkpoint, records, seals, state
from kilonet.checkpoint import save_model
from kilonet.config import Config, Training
from kilonet.history import Epoch
from openml_server import Table

N = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 4), np.uint8)
LABELS = (np.arange(N) % 3).astype(np.uint8)
DIGITS = np.random.default_rng(1).integers(0, 256, (N, 8, 8), np.uint8)


def idx(array: Any) -> bytes:
    """An array of bytes as IDX, written without the code under test."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array.tobytes())


def npy(array: Any) -> bytes:
    """An array as an `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    """Arrays as a compressed `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def csv_tables() -> list[bytes]:
    """Tables with the label first, last, named, in words, and with fractions."""
    rows = [[str(pixel) for pixel in image.ravel()] for image in PIXELS[:6]]
    names = ",".join(["label", *(f"p{i}" for i in range(16))])
    first = [",".join([f"{i % 3}", *row]) for i, row in enumerate(rows)]
    last = [",".join([*row, "cat" if i % 2 else '"a, dog"']) for i, row in enumerate(rows)]
    fractions = [",".join([f"{i % 3}", *(f"{int(pixel) / 255:.3f}" for pixel in row)]) for i, row in enumerate(rows)]
    return ["\n".join([*lines, ""]).encode() for lines in (first, [names, *first], last, [names, *fractions])]


@functools.cache
def pictures() -> dict[str, bytes]:
    """A picture in every format that is read, and in some that are not, by file name."""
    grey = Image.fromarray(np.tile(PIXELS[0], (3, 3)))
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    clear = colour.copy()
    clear.putalpha(grey)
    wide = Image.fromarray(np.tile(PIXELS[0], (3, 3)).astype(np.uint16) * 257)
    real = Image.fromarray(np.tile(PIXELS[0], (3, 3)).astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("grey.png", grey, {}), ("colour.png", colour, {"exif": exif}), ("clear.png", clear, {}), ("wide.png", wide, {}),
        ("bits.png", grey.convert("1"), {}), ("palette.png", colour.quantize(16), {"transparency": 3}),
        ("frames.png", colour, frames), ("profile.png", grey, {"icc_profile": b"\0" * 200, "pnginfo": _texts()}),
        ("grey.jpg", grey, {}), ("colour.jpg", colour, {"exif": exif, "progressive": True}), ("ink.jpg", colour.convert("CMYK"), {}),
        ("one.gif", colour.quantize(16), {}), ("frames.gif", colour, frames), ("grey.bmp", grey, {}), ("colour.bmp", colour, {}),
        ("raw.tiff", colour, {"exif": exif}), ("lzw.tiff", grey, {"compression": "tiff_lzw"}), ("jpeg.tiff", colour, {"compression": "jpeg"}),
        ("zip.tiff", clear, {"compression": "tiff_adobe_deflate"}), ("fax.tiff", grey.convert("1"), {"compression": "group4"}),
        ("wide.tiff", wide, {}), ("real.tiff", real, {}), ("frames.tiff", colour, frames), ("lossy.webp", colour, {}),
        ("whole.webp", clear, {"lossless": True}), ("frames.webp", colour, frames), ("grey.pgm", grey, {}), ("colour.ppm", colour, {}),
        ("bits.pbm", grey.convert("1"), {}), ("no.ico", colour, {}), ("no.tga", colour, {}), ("no.pdf", colour, {}), ("no.eps", colour, {}),
        ("no.jp2", colour, {}), ("no.pcx", colour, {}), ("no.im", grey, {}),
    ]  # fmt: skip
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, image, options in made:
            image.save(Path(folder, name), **options)
            found[name] = Path(folder, name).read_bytes()
    return found


def _texts() -> Any:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Title", "a" * 50, zip=True)
    texts.add_itxt("Comment", "b" * 50, zip=True)
    return texts


@functools.cache
def weights() -> dict[str, bytes]:
    """The weight file of every model of the zoo that takes 8 x 8 images, by model, and of a committee."""
    data = kn.from_arrays(DIGITS, LABELS)
    models = {name: kn.build(name, data) for name in ("linear", "linear-from-scratch", "tutorial-cnn", "kilo-4k")}
    models["committee"] = kn.Committee.of([kn.build("linear", data, seed) for seed in range(3)])
    found = {}
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            save_model(model, Path(folder, "some.safetensors"))
            found[name] = Path(folder, "some.safetensors").read_bytes()
    return found


def beginning() -> state.State:
    """A training before its first step."""
    return state.begin(kn.build("linear", kn.from_arrays(DIGITS, LABELS)), N, Training())


@functools.cache
def halfway() -> bytes:
    """The checkpoint of a training within its second epoch."""
    found = beginning()
    found.begin_epoch()
    found.end_epoch(Epoch(1, 2.3, 2.2, 0.1, 1e-3, 0.5))
    found.begin_epoch()
    found.count(2.0, 4)
    return checkpoint.sealed(found.tensors(), {**found.figures(), "spent": 1.5})


@functools.cache
def run() -> dict[str, bytes]:
    """A run directory, as training leaves it, and the data that it names."""
    data = kn.from_arrays(DIGITS, LABELS)
    parts = {"train": data.take(slice(0, 8)), "val": data.take(slice(8, None))}
    split: dict[str, Any] = {f"{name}_rows": part.rows for name, part in parts.items()}
    split |= {f"{name}_prints": part.fingerprints() for name, part in parts.items()}
    epochs = [Epoch(i, 2.3 / i, 2.2 / i, 0.1 * i, 1e-3, 0.5) for i in (1, 2, 3)]
    measured = {"loss": 0.1, "accuracy": 0.9, "correct": 90, "n": 100, "interval": [0.82, 0.94]}
    metrics = {"parameters": 195, "epochs": 3, "seconds": 1.5, "weights": "best", "val": measured, "test": measured}
    found = {
        "config.toml": seals.config_text(Config(source="data.npz", model="linear"), {}).encode(),
        "results.csv": records.results_csv(epochs).encode(),
        "metrics.json": json.dumps(metrics).encode(),
        "state/split.npz": records.npz(split),
        "weights/best.safetensors": weights()["linear"],
        "data.npz": npz(images=DIGITS, labels=LABELS),
        "state/failed.json": json.dumps({"epoch": 2, "step": 7, "loss": "nan"}).encode(),
        "summary.json": json.dumps({"runs": ["seed-0", "seed-1"], "test": measured}).encode(),
    }
    sums = {name: hashlib.sha256(found[name]).hexdigest() for name in seals.PRODUCTS if name in found}
    return {**found, "state/finished.json": json.dumps({"files": sums, "sha256": seals.seal_of(sums)}).encode()}


@functools.cache
def openml() -> dict[str, bytes]:
    """The answers of OpenML about a small table."""
    table = Table(554, "small", PIXELS.reshape(N, -1), [f"{label}" for label in LABELS])
    answers = {"list": {"data": {"dataset": [table.entry()]}}, "description": table.description()}
    answers |= {"features": table.features(), "qualities": table.qualities()}
    return {
        **{f"{name}.json": json.dumps(answer).encode() for name, answer in answers.items()},
        "data.arff": table.arff,
    }
