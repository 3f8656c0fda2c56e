"""Files that are whole or not there, and names that stay where they belong."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNFINISHED = ".part"


def write(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Write a whole file or none: beside the target, flushed to the disk, then renamed onto it.

    Args:
        path: the target.
        content: what it shall hold.
        keep: where the target that there was is kept, instead of being replaced.

    Raises:
        OSError: with the target as its file name, if it can't be written; the target is as it was then.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        if keep is not None:
            with suppress(FileNotFoundError):
                path.replace(keep)
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def discard_unfinished(folder: Path) -> None:
    """Remove what `write` and `whole_folder` left in a folder when killed; nobody else may be writing there."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


@contextmanager
def whole_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """A new folder to fill, which takes the target's place once it is full; on an error it vanishes.

    Raises:
        FileExistsError: if the target is there and not to be replaced; of several that ask at once, one gets it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_UNFINISHED))
    try:
        yield building
        building.chmod(0o777 & ~_umask())
        if replace and target.exists():
            shutil.rmtree(target)
        _rename_new(building, target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _rename_new(folder: Path, target: Path) -> None:
    """Rename a folder that is not empty to a name that must be free."""
    if target.exists():
        raise FileExistsError(errno.EEXIST, "exists already", str(target))
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "exists already", str(target)) from None
        raise
    _flush_folder(target.parent)


def flush(path: Path) -> None:
    """Have a file's content on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Have a folder's entries on the disk, too, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder once every link on its way is followed."""
    return path.resolve().is_relative_to(folder.resolve())


def printable(text: str) -> str:
    """Text from outside with its control characters spelled out, safe to show on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
