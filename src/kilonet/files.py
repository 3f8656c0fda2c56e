"""Files that are whole or not there, and names that stay where they belong."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def write(path: Path, content: bytes | str) -> None:
    """Write a whole file or none: beside the target, flushed to the disk, then renamed onto it."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the target's place once it is full; on an error it vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield building
        if target.exists():
            shutil.rmtree(target)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def check_name(name: str, what: str) -> str:
    """A name that is one plain component of a path.

    Raises:
        ConfigError: if the name is empty, hidden, unprintable or would leave its folder.
    """
    unfit = not name or len(name) > 100 or name.startswith((".", "-")) or not name.isprintable()
    if unfit or set(name) & set('/\\:*?"<>|'):
        raise ConfigError(
            f"{what} {printable(name)!r} would not stay in its folder or can't name one",
            "use up to 100 letters, digits, '-', '_' and '.'",
        )
    return name


def check_picture_target(path: Path) -> Path:
    """A path that a picture can be written to.

    Raises:
        ConfigError: if its folder does not exist, or its ending is no picture format that can be drawn.
    """
    if path.suffix.lower() not in {".png", ".pdf", ".svg"} or "\0" in str(path):
        raise ConfigError(f"can't draw to {printable(str(path))}: expected a name ending in .png, .pdf or .svg")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"can't write {path}", f"{path.parent} has to be a folder that you may write to")
    return path


def printable(text: str) -> str:
    """Text from outside with its control characters spelled out, safe to show on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
