"""Where image sets come from: one file a format, and `load`, which finds the right one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.errors import DataError, nearest
from kilonet.files import printable
from kilonet.sources import bundled, cache, csv, folder, idx, named, npy, openml, store

if TYPE_CHECKING:
    from kilonet.images import ImageSet


def load(source: str | Path) -> ImageSet:
    """An image set by name or from a path.

    Args:
        source: a name (`mnist-5k`, `digits`, `mnist`, `fashion-mnist`, `kmnist`, `emnist-balanced`),
            `openml:NAME_OR_ID`, or a path: IDX (a file of a pair, or a folder of them), `.npy` pairs, `.npz`,
            `.csv`, or a folder of class folders.

    Returns:
        The images in the order of their source; memory-mapped where they are large and on disk.

    Raises:
        DataError: for an unknown name, a path that is not there, or data that is not what it should be.
        FetchError: for data that could not be had from the network.
    """
    name = str(source)
    if not name:
        raise DataError("unknown source ''", nearest(name, known()))
    if isinstance(source, str) and name in bundled.SOURCES:
        return bundled.load(name)
    if isinstance(source, str) and name in named.SOURCES:
        return named.load(name)
    if isinstance(source, str) and name.startswith("openml:"):
        return openml.load(name.removeprefix("openml:"))
    return _from_path(Path(source))


def known() -> dict[str, str]:
    """What each known name stands for."""
    return {**bundled.SOURCES, **{name: source.about for name, source in named.SOURCES.items()}}


def convert(source: str | Path, target: Path) -> ImageSet:
    """Write a source, whatever its format, into a new folder, from which it is mapped; as `load` and `store.convert`.

    Returns:
        What was written.
    """
    store.check_free(target)
    return store.convert(load(source), target)


def _from_path(path: Path) -> ImageSet:
    path = path.expanduser()
    if not path.exists():
        shown = printable(str(path))
        if path.suffix or len(path.parts) > 1:
            raise DataError(f"no such file or folder: {shown}")
        raise DataError(f"unknown source {shown!r}", f"{nearest(str(path), known())} Paths and openml:NAME do, too")
    path = path.resolve()
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise DataError(f"{printable(str(path))} is a pipe or a device: expected a file or a folder")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".npz"]:
        return npy.load_npz(path)
    if suffixes[-1:] == [".npy"]:
        return npy.load_pair(path)
    if ".csv" in suffixes[-2:]:
        return csv.load(path)
    if idx.is_idx(path):
        return idx.load_pair(path)
    raise DataError(
        f"{path} is no image data that can be read",
        "expected IDX, .npy, .npz, .csv, or a folder of class folders",
    )


def _from_folder(path: Path) -> ImageSet:
    """A folder by what lies in it: what `kilonet data --to` wrote, IDX files, `.npy` files, class folders."""
    if (data := store.load(path)) is not None:
        return data
    if (found := idx.find(path)) is not None:
        return idx.load_folder(path, found)
    if (pairs := npy.find(path)) is not None:
        return npy.load_folder(path, pairs)
    return folder.load(path)


__all__ = ["cache", "convert", "known", "load"]
