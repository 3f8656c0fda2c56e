"""Every reader of files from outside: what it is fed with, how it reads, and what a right answer is.

An input is a folder, given as the contents of its files by their names; the names are never damaged where the
reader is told them. What may come back besides a right answer is a `KilonetError`, and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

import kilonet as kn
from fuzz import formats, seeds
from fuzz.edits import NASTY_WORDS, Draw, mutated, mutated_json, mutated_text, number, pick
from kilonet.checkpoint import load_model
from kilonet.config import Config, read_toml
from kilonet.history import Epoch, History
from kilonet.models import Classifier
from kilonet.pictures import read_picture
from kilonet.predict import Prediction, Predictor
from kilonet.progress import Progress
from kilonet.rundir import Run
from kilonet.seals import PRODUCTS
from kilonet.sources import cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Link:
    """A symbolic link in an input."""

    to: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe in an input, to which nobody writes."""


Files = dict[str, bytes | Link | Pipe]


@dataclass(frozen=True)
class Reader:
    """A way in.

    Attributes:
        inputs: damaged inputs.
        valid: inputs without damage, each of which has to be read.
        read: reads what lies in a folder.
        check: whether an answer is of the right kind, and holds together.
        share: its share of a series.
    """

    inputs: st.SearchStrategy[Files]
    valid: Callable[[], list[Files]]
    read: Callable[[Path], object]
    check: Callable[[Any], bool]
    share: float = 1.0


def place(files: Files, folder: Path) -> None:
    """Lay an input into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.to)
        elif isinstance(content, Pipe):
            os.mkfifo(path)
        else:
            path.write_bytes(content)


def _is_image_set(answer: Any) -> bool:
    """Labelled images whose parts fit each other, all of whose pixels can be looked at."""
    if not isinstance(answer, kn.ImageSet):
        return False
    names = answer.classes
    sound = all(
        isinstance(name, str) and name and name.isprintable() for name in (*names, *answer.notes, answer.origin)
    )
    part = answer.test_from is None or (type(answer.test_from) is int and 0 < answer.test_from <= len(answer))
    sums = int(answer.pixels.astype(np.int64).sum()) >= 0 and int(answer.counts().sum()) == len(answer)
    return sound and part and sums and len(set(names)) == len(names) and answer.preparation in ("digit", "resize")


def _one_damaged(
    valid: Callable[[], list[Files]], damage: Callable[[str, bytes], st.SearchStrategy[bytes]]
) -> st.SearchStrategy[Files]:
    """Valid inputs in which one file is damaged, and now and then a second one."""

    @st.composite
    def damaged(draw: Draw) -> Files:
        files = dict(pick(draw, valid()))
        some = 2 if len(files) > 1 and number(draw, 0, 4) == 0 else 1
        for name in draw(st.permutations(sorted(files)))[:some]:
            content = files[name]
            files[name] = draw(damage(name, content)) if isinstance(content, bytes) else content
        return files

    return damaged()


IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@functools.cache
def _idx_valid() -> list[Files]:
    """Pairs as they are; those that are gzipped are packed after the damage."""
    images, labels = seeds.idx(seeds.PIXELS), seeds.idx(seeds.LABELS)
    return [{IMAGES: images, TRAIN_LABELS: labels}, {IMAGES: seeds.idx(seeds.PIXELS[:, None]), TRAIN_LABELS: labels}]


def _damaged_idx(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    whole = [seeds.idx(seeds.PIXELS), seeds.idx(seeds.LABELS)]
    plain = st.one_of(formats.mutated_idx(content), formats.mutated_idx(content), formats.spliced(whole))
    return st.one_of(plain, formats.mutated_gzip(st.one_of(st.just(content), plain)))


@functools.cache
def _npy_valid() -> list[Files]:
    labels = seeds.npy(seeds.LABELS)
    some = [
        seeds.PIXELS,
        seeds.PIXELS.reshape(seeds.N, -1),
        seeds.PIXELS / 255.0,
        seeds.PIXELS.astype(">i4"),
        seeds.PIXELS > 127,
    ]
    return [{"images.npy": seeds.npy(array), "labels.npy": labels} for array in some]


def _damaged_npy(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(
        *[formats.mutated_npy(content)] * 4, formats.spliced([content, seeds.npy(seeds.LABELS.astype(float))])
    )


@functools.cache
def _npz_valid() -> list[Files]:
    x, y = seeds.PIXELS, seeds.LABELS
    parts = {"x_train": x[:6], "y_train": y[:6], "x_test": x[6:], "y_test": y[6:]}
    named = {"images": x, "labels": y, "classes": np.array(["cat", "dog", "eel"])}
    return [{"some.npz": seeds.npz(**arrays)} for arrays in ({"images": x, "labels": y}, parts, named)]


@functools.cache
def _csv_valid() -> list[Files]:
    return [{"some.csv": table} for table in seeds.csv_tables()]


@st.composite
def _damaged_csv(draw: Draw) -> Files:
    table = mutated_text(pick(draw, seeds.csv_tables()), [*NASTY_WORDS, b"label", b"0.5", b",", b'"a\nb"'])
    if number(draw, 0, 2):
        return {"some.csv": draw(table)}
    return {"some.csv.gz": draw(formats.mutated_gzip(table))}


@functools.cache
def _folder_valid() -> list[Files]:
    made = seeds.pictures()
    flat: Files = {
        f"{name}/{i}.png": made[f"{kind}.png"] for name in ("2", "10") for i, kind in enumerate(("grey", "colour"))
    }
    return [flat, {f"{part}/{name}": content for part in ("train", "test") for name, content in flat.items()}]


_STRANGE: tuple[bytes | Link | Pipe, ...] = (
    b"", b"no picture", Link("/etc/passwd"), Link("/etc"), Link(".."), Link("."), Link("../.."), Link("0.png"), Link("loop"), Link("nowhere"),
    Link("/dev/zero"), Link("/proc/self/mem"), Pipe(),
)  # fmt: skip
_STRANGE_NAMES = (
    "a",
    "loop",
    "a\x1b[31m",
    "\u202eb",
    "a\nb",
    "é",
    "-rf",
    "$(id)",
    "9" * 200,
    "9" * 5 + "a",
    ".hidden",
    "train",
    "test",
    "MNIST/raw",
)


@st.composite
def _damaged_folder(draw: Draw) -> Files:
    files = dict(pick(draw, _folder_valid()))
    for _ in range(number(draw, 1, 3)):
        name = pick(draw, sorted(files))
        change = pick(draw, ["damage", "format", "drop", "strange", "strange", "class", "deep", "beside"])
        strange = pick(draw, _STRANGE) if change in ("strange", "class") else b""
        somewhere = pick(draw, _STRANGE_NAMES)
        content = files[name]
        if change == "damage" and isinstance(content, bytes):
            files[name] = draw(_damaged_picture(name, content))
        elif change == "format":
            files[name] = pick(draw, list(seeds.pictures().values()))
        elif change == "drop" and len(files) > 1:
            del files[name]
        elif change == "strange":
            files[name] = strange
        elif change == "class":
            files = {**files, f"{somewhere}/x": strange} if draw(st.booleans()) else {**files, somewhere: strange}
        elif change == "deep":
            files["/".join([somewhere] * 10 + ["1.png"])] = seeds.pictures()["grey.png"]
        else:
            files[f"{pick(draw, ['images.npy', IMAGES, 'labels.npy', TRAIN_LABELS])}"] = draw(st.sampled_from(_STRANGE))
    return _possible(files)


def _possible(files: Files) -> Files:
    """The files without those that would lie below another file."""
    names = set(files)
    return {
        name: content for name, content in files.items() if not names & {str(parent) for parent in Path(name).parents}
    }


@functools.cache
def _pictures_valid() -> list[Files]:
    return [{name: content} for name, content in seeds.pictures().items() if not name.startswith("no.")]


@st.composite
def _damaged_pictures(draw: Draw) -> Files:
    name, content = pick(draw, sorted(seeds.pictures().items()))
    return {name: draw(_damaged_picture(name, content))}


def _damaged_picture(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    some = [content, *list(seeds.pictures().values())[:3]]
    kinds = [mutated(content), mutated(content), mutated(content, most=12), formats.spliced(some)]
    return st.one_of(formats.mutated_png(content), *kinds) if content.startswith(b"\x89PNG") else st.one_of(*kinds)


def _read_the_picture(folder: Path) -> object:
    return read_picture(next(folder.iterdir()))


def _is_picture(answer: Any) -> bool:
    shaped = answer.ndim == 2 or (answer.ndim == 3 and answer.shape[2] == 3)
    return isinstance(answer, np.ndarray) and answer.dtype == np.uint8 and shaped and answer.size > 0


@functools.cache
def _to_predict_valid() -> list[Files]:
    return [*_pictures_valid(), {"some.npy": seeds.npy(seeds.DIGITS)}, {"some.npy": seeds.npy(seeds.DIGITS[0])}]


@st.composite
def _damaged_to_predict(draw: Draw) -> Files:
    if draw(st.booleans()):
        return dict(draw(_damaged_pictures()))
    return {
        "some.npy": draw(
            formats.mutated_npy(seeds.npy(pick(draw, [seeds.DIGITS, seeds.DIGITS[0], seeds.DIGITS / 255])))
        )
    }


@functools.cache
def _predictor() -> Predictor:
    return Predictor(kn.build("linear", kn.from_arrays(seeds.DIGITS, seeds.LABELS, preparation="digit")))


def _predict(folder: Path) -> object:
    return _predictor().files(sorted(folder.iterdir()))


def _are_predictions(answer: Any) -> bool:
    rows = answer if isinstance(answer, list) and answer else [None]
    return all(isinstance(row, Prediction) and _is_prediction(row) for row in rows)


def _is_prediction(row: Prediction) -> bool:
    """Probabilities of the classes, or nothing drawn."""
    if row.probabilities is None:
        return row.label is None and not row.image.any()
    return abs(sum(row.probabilities.values()) - 1) < 1e-9


@functools.cache
def _weights_valid() -> list[Files]:
    return [{"some.safetensors": content} for content in seeds.weights().values()]


def _is_model(answer: Any) -> bool:
    """A classifier that takes what it says it takes."""
    import torch

    if not isinstance(answer, Classifier) or not all(name.isprintable() for name in answer.classes):
        return False
    with torch.no_grad():
        logits = answer(torch.zeros((1, *answer.shape), dtype=torch.uint8))
    return tuple(logits.shape) == (1, len(answer.classes))


@functools.cache
def _checkpoint_valid() -> list[Files]:
    return [{"state/checkpoint.safetensors": seeds.halfway()}]


def _restore(folder: Path) -> object:
    (folder / "weights").mkdir()
    state = seeds.beginning()
    return Progress(folder, 60).restore(state), state


def _is_restored(answer: Any) -> bool:
    """A training that can go on, or that has to begin again, and what is said about it."""
    notes, state = answer
    rows = len(state.rows) in (0, seeds.N) and state.epoch >= 0
    return rows and all(isinstance(note, str) and note.isprintable() and len(note) < 1000 for note in notes)


@functools.cache
def _toml_valid() -> list[Files]:
    own: Files = {"config.toml": seeds.run()["config.toml"]}
    dotted = b'model = "kilo-4k"\nsplit = "70/15/15"\ntraining.lr = 1e-2\ntraining.epochs = 0x10\n[versions]\nwhen = 1979-05-27T07:32:00Z\n'
    return [own, {"config.toml": dotted}]


_TOML_WORDS = (
    *NASTY_WORDS, b"[training]", b"[[training]]", b"training", b"a.b.c", b'"""', b"'''", b"1979-05-27T07:32:00Z", b"9999-99-99", b"=", b"{x=1}",
    b"0b1", b"+inf", b"1_0", b"x=" + b"[" * 5000, b"x=" + b"{a=" * 3000, b"a." * 2000 + b"b=1\n", b"[" + b"a." * 2000 + b"b]\n",
    b"\\U0010ffff", b"\\ud800", b"seed", b"lr",
)  # fmt: skip


def _run_reader(
    names: Sequence[str],
    damage: Callable[[bytes], st.SearchStrategy[bytes]],
    read: Callable[[Run], object],
    check: Callable[[Any], bool],
) -> Reader:
    """A reader of files of a run directory, without the checksums that would keep damage from them."""

    def valid() -> list[Files]:
        return [
            {name: content for name, content in seeds.run().items() if name != "state/finished.json" or name in names}
        ]

    @st.composite
    def damaged(draw: Draw) -> Files:
        files, name = valid()[0], pick(draw, names)
        return {**files, name: draw(damage(seeds.run()[name]))}

    return Reader(damaged(), valid, lambda folder: read(_at_home(folder)), check)


def _at_home(folder: Path) -> Run:
    """The run, whose config names its data by a path that leads from the working directory."""
    os.chdir(folder)
    return Run(folder)


def _is_history(answer: Any) -> bool:
    numbers = [(row.train_loss, row.val_loss, row.val_accuracy, row.lr, row.seconds) for row in answer.epochs]
    whole = all(type(row) is Epoch and type(row.epoch) is int for row in answer.epochs)
    return isinstance(answer, History) and whole and all(type(n) in (float, type(None)) for row in numbers for n in row)


def _read_marks(run: Run) -> object:
    return run.failure(), run.damaged(), run.summary()


def _are_marks(answer: Any) -> bool:
    failure, damaged, summary = answer
    named = set(damaged) <= {*PRODUCTS, "state/finished.json"}
    return named and isinstance(summary, dict) and (failure is None or isinstance(failure["epoch"], int))


def _read_split(run: Run) -> object:
    return [run.part("train"), run.part("val"), run.seen(kn.from_arrays(seeds.DIGITS, seeds.LABELS))]


def _is_split(answer: Any) -> bool:
    *parts, seen = answer
    return all(part is None or _is_image_set(part) for part in parts) and all(type(n) is int for n in seen.values())


@st.composite
def _damaged_answers(draw: Draw) -> Files:
    """OpenML's answers, one of them damaged; the checksum of the table is made right, mostly."""
    files = seeds.openml()
    name = pick(draw, [*sorted(files), "data.arff", "description.json"])
    words = (
        *NASTY_WORDS,
        b"@ATTRIBUTE",
        b"@DATA",
        b"{1,2}",
        b"REAL",
        b"STRING",
        b"?",
        b"%",
        b"{0 1, 3 5}",
        b"'a b'",
        b"DATE",
    )
    files = {
        **files,
        name: draw(mutated_text(files[name], words) if name.endswith(".arff") else mutated_json(files[name])),
    }
    if name == "data.arff" and number(draw, 0, 9):
        described = json.loads(files["description.json"])
        described["data_set_description"]["md5_checksum"] = hashlib.md5(files[name]).hexdigest()
        files["description.json"] = json.dumps(described).encode()
    return dict(files)


def _read_openml(folder: Path) -> object:
    from fuzz.openml import serve

    serve(folder)
    return kn.load("openml:small")


_STAMPS = b'"stamps go here"'


@functools.cache
def _entry() -> Files:
    """A cache entry, with a place for the stamps of the file that it comes from."""
    meta = {"version": cache._VERSION, "stamps": "stamps go here", "classes": ["a", "b", "c"], "origin": "some.npz"}
    meta |= {"test_from": 6, "preparation": "resize", "notes": ["a note"]}
    images, labels = seeds.npy(seeds.PIXELS[:, None]), seeds.npy(seeds.LABELS.astype(np.int64))
    return {"entry/images.npy": images, "entry/labels.npy": labels, "entry/meta.json": json.dumps(meta).encode()}


@functools.cache
def _cache_valid() -> list[Files]:
    return [{"some.npz": seeds.npz(images=seeds.PIXELS, labels=seeds.LABELS), **_entry()}]


@st.composite
def _damaged_entry(draw: Draw) -> Files:
    files = dict(_cache_valid()[0])
    name = pick(draw, sorted(_entry()))
    content = _entry()[name]
    assert isinstance(content, bytes)
    damage = mutated_json(content) if name.endswith(".json") else formats.mutated_npy(content)
    files[name] = draw(
        st.one_of(damage, damage, damage, st.sampled_from([Link("/dev/zero"), Link("loop"), Link(".."), Pipe()]))
    )
    return files


@functools.cache
def _written_valid() -> list[Files]:
    """A folder as `kilonet data --to` writes it."""
    meta = {"kilonet_images": 1, "classes": ["a", "b", "c"], "origin": "some.npz"}
    meta |= {"test_from": 6, "preparation": "resize", "notes": ["a note"]}
    whole = {name.removeprefix("entry/"): content for name, content in _entry().items()}
    return [{**whole, "meta.json": json.dumps(meta).encode()}]


@st.composite
def _damaged_written(draw: Draw) -> Files:
    files = dict(_written_valid()[0])
    name = pick(draw, sorted(files))
    content = files[name]
    assert isinstance(content, bytes)
    damage = mutated_json(content) if name.endswith(".json") else formats.mutated_npy(content)
    strange = st.sampled_from([Link("/dev/zero"), Link("loop"), Link(".."), Link("labels.npy"), Pipe()])
    return {**files, name: draw(st.one_of(damage, damage, damage, strange))}


def _read_cached(folder: Path) -> object:
    """Lay a damaged entry where the cache will look for it, and load what it stands for."""
    source = (folder / "some.npz").resolve()
    stamps = cache.stamps([source])
    key = hashlib.sha256(json.dumps(["npz", stamps.key]).encode()).hexdigest()[:16]
    entry = cache.root() / f"npz-{key}"
    entry.parent.mkdir(parents=True)
    (folder / "entry").rename(entry)
    meta = entry / "meta.json"
    if meta.is_file():
        meta.write_bytes(meta.read_bytes().replace(_STAMPS, json.dumps(stamps.state).encode()))
    return kn.load(source)


def _is_the_cached(answer: Any) -> bool:
    return _is_image_set(answer) and len(answer) == seeds.N


READERS: dict[str, Reader] = {
    "idx": Reader(_one_damaged(_idx_valid, _damaged_idx), _idx_valid, lambda folder: kn.load(folder / IMAGES), _is_image_set, 1.5),
    "idx-folder": Reader(_one_damaged(_idx_valid, _damaged_idx), _idx_valid, kn.load, _is_image_set, 0.5),
    "npy": Reader(_one_damaged(_npy_valid, _damaged_npy), _npy_valid, lambda folder: kn.load(folder / "images.npy"), _is_image_set, 1.5),
    "npz": Reader(
        _one_damaged(_npz_valid, lambda _, content: formats.mutated_zip(content)), _npz_valid,
        lambda folder: kn.load(folder / "some.npz"), _is_image_set, 1.5,
    ),
    "csv": Reader(_damaged_csv(), _csv_valid, lambda folder: kn.load(next(folder.iterdir())), _is_image_set, 1.0),
    "folder": Reader(_damaged_folder(), _folder_valid, kn.load, _is_image_set, 1.0),
    "picture": Reader(_damaged_pictures(), _pictures_valid, _read_the_picture, _is_picture, 2.0),
    "predict": Reader(_damaged_to_predict(), _to_predict_valid, _predict, _are_predictions, 1.0),
    "weights": Reader(
        _one_damaged(_weights_valid, lambda _, content: formats.mutated_safetensors(content)), _weights_valid,
        lambda folder: load_model(folder / "some.safetensors"), _is_model, 1.0,
    ),
    "checkpoint": Reader(
        _one_damaged(_checkpoint_valid, lambda _, content: formats.mutated_safetensors(content)), _checkpoint_valid,
        _restore, _is_restored, 1.0,
    ),
    "config": Reader(
        _one_damaged(_toml_valid, lambda _, content: mutated_text(content, _TOML_WORDS)), _toml_valid,
        lambda folder: read_toml(folder / "config.toml"), lambda answer: isinstance(answer, Config), 1.0,
    ),
    "results": _run_reader(["results.csv"], mutated_text, Run.history, _is_history),
    "metrics": _run_reader(["metrics.json"], mutated_json, Run.metrics, lambda answer: isinstance(answer, dict)),
    "marks": _run_reader(["state/finished.json", "state/failed.json", "summary.json"], formats.mutated_marks, _read_marks, _are_marks),
    "split": _run_reader(["state/split.npz"], formats.mutated_zip, _read_split, _is_split),
    "cache": Reader(_damaged_entry(), _cache_valid, _read_cached, _is_the_cached, 0.7),
    "written": Reader(_damaged_written(), _written_valid, kn.load, _is_image_set, 0.7),
    "openml": Reader(_damaged_answers(), lambda: [dict(seeds.openml())], _read_openml, _is_image_set, 0.4),
}  # fmt: skip
"""By name; every one of them is part of every series."""
