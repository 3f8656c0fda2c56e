"""Decoded data kept as `.npy`, which can be memory-mapped, keyed by the files that it came from."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import platformdirs
from filelock import FileLock

from kilonet import files
from kilonet.errors import KilonetError
from kilonet.files import is_inside
from kilonet.images import ImageSet, Preparation
from kilonet.sources import npyfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_VERSION = 1
_FILES = ("images.npy", "labels.npy", "meta.json")


def root() -> Path:
    """The folder of the user's cache."""
    return platformdirs.user_cache_path("kilonet", appauthor=False) / "data"


def stamps(paths: Sequence[Path]) -> list[list[Any]]:
    """What tells whether files have changed: path, size in bytes and time of change in ns of each."""
    return [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


def get(name: str, origin: list[list[Any]], decode: Callable[[], ImageSet]) -> ImageSet:
    """An image set from the cache, or decoded and put there.

    The entry is written beside its place, renamed into it and guarded by a lock, so that two processes may
    ask at once. Where the cache can't be written, the decoded data is returned all the same.

    Args:
        name: a word for the entry's folder; what is cached under it is told apart by the paths in `origin`.
        origin: the files it comes from, as `stamps` gives them; the entry is made anew when they change.
        decode: makes the image set if it is not in the cache.
    """
    key = hashlib.sha256(json.dumps([name, [stamp[0] for stamp in origin]]).encode()).hexdigest()[:16]
    entry = root() / f"{name}-{key}"
    if (data := _read(entry, origin)) is not None:
        return data
    with _locked(entry) as writable:
        if not writable:
            return decode()
        if (data := _read(entry, origin)) is not None:
            return data
        data = decode()
        try:
            _write(entry, origin, data)
        except OSError:
            return data
    return _read(entry, origin) or data


@contextmanager
def _locked(entry: Path) -> Iterator[bool]:
    """Hold the entry's lock; false where there can be none, as in a folder that can't be written."""
    lock = FileLock(entry.with_name(f"{entry.name}.lock"))
    with suppress(OSError, NotImplementedError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _write(entry: Path, origin: list[list[Any]], data: ImageSet) -> None:
    meta = {
        "version": _VERSION,
        "stamps": origin,
        "classes": data.classes,
        "origin": data.origin,
        "test_from": data.test_from,
        "preparation": data.preparation,
        "notes": data.notes,
    }
    with files.whole_folder(entry) as building:
        np.save(building / "images.npy", data.images)
        np.save(building / "labels.npy", data.labels)
        (building / "meta.json").write_text(json.dumps(meta))


def _read(entry: Path, origin: list[list[Any]]) -> ImageSet | None:
    """What the entry holds, or None if there is none, or a damaged one, or one of other files or another version."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, KilonetError):
        if not all((entry / name).is_file() and is_inside(entry / name, root()) for name in _FILES):
            return None
        meta = json.loads((entry / "meta.json").read_text())
        if meta.pop("version") == _VERSION and meta.pop("stamps") == origin and _is_sound(meta):
            images, labels = npyfile.read(entry / "images.npy"), np.array(npyfile.read(entry / "labels.npy"))
            meta |= {"classes": tuple(meta["classes"]), "notes": tuple(meta["notes"])}
            data = ImageSet(images, labels, **meta)
            return data if data.test_from is None or 0 < data.test_from <= len(data) else None
    return None


def _is_sound(meta: dict[str, Any]) -> bool:
    """Whether what describes the images is of the types that it was written in."""
    classes, notes, test_from = meta["classes"], meta["notes"], meta["test_from"]
    known = meta["preparation"] in get_args(Preparation) and (test_from is None or type(test_from) is int)
    lists = isinstance(classes, list) and isinstance(notes, list)
    words = (meta["origin"], *classes, *notes)
    texts = all(isinstance(text, str) and text.isprintable() and text for text in words)
    return known and lists and texts and len(set(classes)) == len(classes)
