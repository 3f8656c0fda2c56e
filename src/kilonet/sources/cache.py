"""Decoded data kept as `.npy`, which can be memory-mapped, keyed by the files that it came from."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

_VERSION = 2


def root() -> Path:
    """The folder of the user's cache."""
    return platformdirs.user_cache_path("kilonet", appauthor=False) / "data"


@dataclass(frozen=True)
class Origin:
    """Where data comes from.

    Attributes:
        key: tells it from other origins.
        state: is another one once what lies there has changed.
    """

    key: str
    state: str = ""


def stamps(paths: Sequence[Path]) -> Origin:
    """Files: their paths tell them apart, their sizes and times of change whether they have changed; as checksums."""
    of_paths, of_states = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        stat = path.stat()
        of_paths.update(json.dumps(str(path)).encode())
        of_states.update(json.dumps([str(path), stat.st_size, stat.st_mtime_ns]).encode())
    return Origin(of_paths.hexdigest(), of_states.hexdigest())


def get(name: str, origin: Origin, decode: Callable[[], ImageSet | Stream]) -> ImageSet:
    """An image set from the cache, or decoded and put there.

    The entry is written beside its place, renamed into it and guarded by a lock, so that two processes may
    ask at once. Where the cache can't be written, decoded data is returned all the same; a stream is refused.

    Args:
        name: a word for the entry's folder; what is cached under it is told apart by `origin`.
        origin: where it comes from, files as `stamps` gives them; the entry is made anew when they change.
        decode: makes the image set, or a stream of a large one, if it is not in the cache.

    Raises:
        DataError: if a stream can't be kept there.
    """
    key = hashlib.sha256(json.dumps([name, origin.key]).encode()).hexdigest()[:16]
    entry = root() / f"{name}-{key}"
    if (data := _read(entry, origin)) is not None:
        return data
    with _locked(entry) as writable:
        if not writable:
            return _in_memory(decode(), "it can't be written")
        if (data := _read(entry, origin)) is not None:
            return data
        decoded = decode()
        try:
            _write(entry, origin, decoded)
        except OSError as error:
            return _in_memory(decoded, str(error.strerror))
    return _read(entry, origin) or _in_memory(decoded, "what was written there does not read as it should")


def _in_memory(decoded: ImageSet | Stream, why: str) -> ImageSet:
    """What was decoded, where it can't be kept; a stream is too large for memory."""
    if isinstance(decoded, ImageSet):
        return decoded
    raise DataError(
        f"{decoded.origin} unpacks to {math.prod(decoded.shape):,} bytes, which can't be kept in {root()}: {why}",
        "make room there, or set XDG_CACHE_HOME to a folder that has some",
    ) from None


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


def _write(entry: Path, origin: Origin, data: ImageSet | Stream) -> None:
    with files.whole_folder(entry) as building:
        store.write(building, data, {"version": _VERSION, "stamps": origin.state})


def _read(entry: Path, origin: Origin) -> ImageSet | None:
    """What the entry holds, or None if there is none, or a damaged one, or one of other files or another version."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, KilonetError):
        if is_inside(entry, root()):
            meta = store.description(entry)
            if meta["version"] == _VERSION and meta["stamps"] == origin.state:
                return store.read(entry)
    return None
