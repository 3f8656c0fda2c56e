"""Decoded data kept as `.npy`, which can be memory-mapped, keyed by the files that it came from."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock

from kilonet import files
from kilonet.errors import DataError, KilonetError
from kilonet.files import is_inside
from kilonet.images import ImageSet
from kilonet.sources import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kilonet.sources.streams import Stream

_VERSION = 1


def root() -> Path:
    """The folder of the user's cache."""
    return platformdirs.user_cache_path("kilonet", appauthor=False) / "data"


def stamps(paths: Sequence[Path]) -> list[list[Any]]:
    """What tells whether files have changed: path, size in bytes and time of change in ns of each."""
    return [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


def get(name: str, origin: list[list[Any]], decode: Callable[[], ImageSet | Stream]) -> ImageSet:
    """An image set from the cache, or decoded and put there.

    The entry is written beside its place, renamed into it and guarded by a lock, so that two processes may
    ask at once. Where the cache can't be written, the decoded data is returned all the same, but for a stream.

    Args:
        name: a word for the entry's folder; what is cached under it is told apart by the paths in `origin`.
        origin: the files it comes from, as `stamps` gives them; the entry is made anew when they change.
        decode: makes the image set, or a stream of a large one, if it is not in the cache.

    Raises:
        DataError: if there is no room for a stream.
    """
    key = hashlib.sha256(json.dumps([name, [stamp[0] for stamp in origin]]).encode()).hexdigest()[:16]
    entry = root() / f"{name}-{key}"
    if (data := _read(entry, origin)) is not None:
        return data
    with _locked(entry) as writable:
        if not writable:
            return _whole(decode())
        if (data := _read(entry, origin)) is not None:
            return data
        decoded = decode()
        try:
            _write(entry, origin, decoded)
        except OSError as error:
            if isinstance(decoded, ImageSet):
                return decoded
            raise DataError(
                f"{decoded.origin} unpacks to {math.prod(decoded.shape):,} bytes, for which there is no room in "
                f"{root()}: {error.strerror}",
                "make room there, or set XDG_CACHE_HOME to a folder that has some",
            ) from None
    return _read(entry, origin) or _whole(decoded)


def _whole(decoded: ImageSet | Stream) -> ImageSet:
    return decoded if isinstance(decoded, ImageSet) else decoded.whole()


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


def _write(entry: Path, origin: list[list[Any]], data: ImageSet | Stream) -> None:
    with files.whole_folder(entry) as building:
        store.write(building, data, {"version": _VERSION, "stamps": origin})


def _read(entry: Path, origin: list[list[Any]]) -> ImageSet | None:
    """What the entry holds, or None if there is none, or a damaged one, or one of other files or another version."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, KilonetError):
        if is_inside(entry, root()):
            meta = store.description(entry)
            if meta["version"] == _VERSION and meta["stamps"] == origin:
                return store.read(entry)
    return None
