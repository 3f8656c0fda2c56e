"""The form that image sets are kept in: a folder of `images.npy`, which is mapped, `labels.npy` and `meta.json`."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from errno import ENOSPC
from os import strerror
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from kilonet import files
from kilonet.errors import ConfigError, DataError, KilonetError
from kilonet.files import is_inside, printable
from kilonet.images import ImageSet, Preparation
from kilonet.sources import npyfile

if TYPE_CHECKING:
    from pathlib import Path

    from kilonet.sources.streams import Stream

_FILES = ("images.npy", "labels.npy", "meta.json")
_MARK = "kilonet_images"
_VERSION = 1
_LONGEST = 2**24
"""Bytes that a `meta.json` may have."""


def convert(data: ImageSet, target: Path) -> ImageSet:
    """Write an image set into a new folder, from which it is read as quickly as can be; whole, or not at all.

    Args:
        data: the images; those on the disk are read some at a time.
        target: the folder, which must not be there.

    Returns:
        What was written, read again.

    Raises:
        ConfigError: if the target is there already.
        DataError: if it can't be written, or does not read as it should.
    """
    check_free(target)
    shown = printable(str(target))
    try:
        with files.whole_folder(target, replace=False) as building:
            write(building, data, {_MARK: _VERSION})
            for name in _FILES:
                files.flush(building / name)
            written = _as_from(target, read(building))
            if written.sha256() != data.sha256():
                raise DataError(f"{shown}: what was written does not read as it was", "the disk may be failing")
    except OSError as error:
        size = math.prod(data.images.shape) + data.labels.nbytes
        raise DataError(
            f"can't write {shown}: {error.strerror}", f"{size:,} bytes are needed: give a folder that has room"
        ) from None
    return written


def check_free(target: Path) -> None:
    """Make sure that a folder can be written anew.

    Raises:
        ConfigError: if it is there already.
    """
    if target.exists():
        raise ConfigError(f"{printable(str(target))} exists already", "give the name of a new folder")


def load(folder: Path) -> ImageSet | None:
    """What `convert` wrote into a folder; None for another folder.

    Raises:
        DataError: if it is damaged.
    """
    mark: object = None
    with suppress(OSError, ValueError, TypeError, RecursionError):
        mark = description(folder).get(_MARK)
    if mark is None:
        return None
    if mark != _VERSION:
        raise DataError(f"{printable(str(folder))} was written by another version of Kilonet", "write it anew")
    return _as_from(folder, read(folder))


def _as_from(folder: Path, data: ImageSet) -> ImageSet:
    return replace(data, origin=f"{printable(str(folder))} (from {data.origin})")


def write(folder: Path, data: ImageSet | Stream, more: dict[str, Any]) -> None:
    """Write an image set into a folder that is there, some images at a time.

    Args:
        folder: without any of these files.
        data: the images.
        more: what else `meta.json` shall hold.

    Raises:
        OSError: if there is no room for it, or it can't be written.
        DataError: if a stream does not give what it says.
    """
    shape = data.images.shape if isinstance(data, ImageSet) else data.shape
    needed = math.prod(shape) + data.labels.nbytes
    if shutil.disk_usage(folder).free < needed:
        raise OSError(ENOSPC, strerror(ENOSPC), str(folder))
    written = 0
    with (folder / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in data.pieces():
            file.write(piece.data)
            written += len(piece)
    if written != shape[0]:
        raise DataError(f"{data.origin}: {written} images came, of {shape[0]}")
    np.save(folder / "labels.npy", data.labels)
    meta = {
        **more,
        "classes": data.classes,
        "origin": data.origin,
        "test_from": data.test_from,
        "preparation": data.preparation,
        "notes": data.notes,
    }
    (folder / "meta.json").write_text(json.dumps(meta))


def read(folder: Path) -> ImageSet:
    """The image set in a folder, memory-mapped.

    Raises:
        DataError: if it is damaged.
    """
    shown = printable(str(folder))
    for name in _FILES:
        if not (folder / name).is_file() or not is_inside(folder / name, folder):
            raise DataError(f"{shown} lacks its {name}", "write it anew: kilonet data SOURCE --to FOLDER")
    try:
        meta = description(folder)
        images, labels = npyfile.read(folder / "images.npy"), np.array(npyfile.read(folder / "labels.npy"))
        described = {
            "classes": tuple(meta["classes"]), "origin": meta["origin"], "test_from": meta["test_from"],
            "preparation": meta["preparation"], "notes": tuple(meta["notes"]),
        }  # fmt: skip
        if not images.flags.c_contiguous or not _is_sound(meta):
            raise ValueError("its description is damaged")
        data = ImageSet(images, labels, **described)
        if data.test_from is not None and not 0 < data.test_from <= len(data):
            raise ValueError("its test part lies outside it")
    except KilonetError as error:
        raise DataError(f"{shown} is damaged: {error.message}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{shown} is damaged: {npyfile.first_line(error)}") from None
    return data


def description(folder: Path) -> dict[str, Any]:
    """What `meta.json` holds.

    Raises:
        OSError, ValueError, TypeError, RecursionError: if it is not there or no such thing.
    """
    path = folder / "meta.json"
    if not path.is_file() or not is_inside(path, folder):
        raise FileNotFoundError("meta.json is not there")
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"meta.json is longer than {_LONGEST:,} bytes")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise TypeError("meta.json describes nothing")
    return found


def _is_sound(meta: dict[str, Any]) -> bool:
    """Whether what describes the images is of the types that it was written in."""
    classes, notes, test_from = meta["classes"], meta["notes"], meta["test_from"]
    known = meta["preparation"] in get_args(Preparation) and (test_from is None or type(test_from) is int)
    lists = isinstance(classes, list) and isinstance(notes, list)
    words = (meta["origin"], *classes, *notes)
    texts = all(isinstance(text, str) and text.isprintable() and text for text in words)
    return known and lists and texts and len(set(classes)) == len(classes)
