"""What holds a run's files to what was written: the seal of its config, and the checksums of a finished run."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kilonet import checkpoint, files
from kilonet.config import FORMAT, Config, read_table, read_toml, to_toml
from kilonet.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pathlib import Path

_SEAL = "# kilonet resume goes by this file as it was written: sha256 "
PRODUCTS = (
    "results.csv", "metrics.json", "predictions.npz", "state/split.npz",
    "weights/best.safetensors", "weights/last.safetensors",
)  # fmt: skip
"""The files of a finished run whose checksums are kept."""
OF_A_COMMITTEE = ("weights/committee.safetensors", "summary.json")
"""Those that a committee has besides."""


def config_text(config: Config, parts: dict[str, Any]) -> str:
    """The text of a run's `config.toml`: the config, what its parts hold, what wrote it, and a checksum of it all."""
    used = {"python": platform.python_version(), **{name: version(name) for name in ("kilonet", "torch", "numpy")}}
    text = to_toml(config, format=FORMAT, parts=parts, versions=used)
    return f"{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def read_config(path: Path) -> Config:
    """The config in a run's `config.toml`.

    Raises:
        RunError: if the file is gone or damaged, or the run is of another format version.
        ConfigError: if it was edited, and won't do.
    """
    return _read(path)[0]


def read_sealed(path: Path) -> tuple[Config, dict[str, Any]]:
    """The config, held against its checksum, and the number and checksum of the images of each part.

    Raises:
        RunError: if the file has been edited or damaged since it was written.
    """
    config, whole = _read(path)
    if not whole:
        raise _broken(path)
    return config, read_table(path).get("parts", {})


def _read(path: Path) -> tuple[Config, bool]:
    """A run's config, and whether it is as it was written."""
    if not path.exists():
        raise RunError(f"{path} is gone", "put it back: a run can't be told without it; its weight files can be used")
    first, _, rest = path.read_bytes().partition(b"\n") if path.is_file() else (b"", b"", b"")
    sealed = first.startswith(_SEAL.encode())
    whole = first == f"{_SEAL}{hashlib.sha256(rest).hexdigest()}".encode()
    try:
        table = read_table(path)
        _check_format(path, table, believed=whole or not sealed)
        return read_toml(path), whole
    except ConfigError:
        if sealed and not whole:
            raise _broken(path) from None
        raise


def _check_format(path: Path, table: dict[str, Any], believed: bool) -> None:
    """Make sure that a config is of this version's format; another one that it names may be damage.

    Raises:
        RunError: if it is not.
    """
    versions = table.get("versions")
    found = table.get("format", None if versions is None else 1)
    if found == FORMAT:
        return
    if found is None or not believed:
        raise _broken(path)
    by = versions.get("kilonet") if isinstance(versions, dict) else None
    raise RunError(f"{path} {checkpoint.other_format(found, by)}")


def _broken(path: Path) -> RunError:
    return RunError(
        f"{path} has been edited or damaged since the run began",
        f"put it back, or train anew: kilonet train --config {path}",
    )


def identity(config: Config, parts: dict[str, Any]) -> str:
    """What tells a run's training from any other, as 64 hex digits: its data, and its settings.

    Settings that resume may change without changing what was trained so far are left out, and `least_images`, which
    says no more than the number of epochs that it led to. So are settings younger than some runs, at their defaults.
    """
    settings = asdict(config)
    del settings["save_every"], settings["training"]["least_images"]
    if config.committee == 1:
        del settings["committee"]
    if config.training.elastic == 0:
        del settings["training"]["elastic"]
    if config.training.schedule == "constant":
        del settings["training"]["epochs"]
    data = {name: part for name, part in parts.items() if name != "notes"}
    return hashlib.sha256(json.dumps([settings, data], sort_keys=True).encode()).hexdigest()


def seal(folder: Path) -> None:
    """Mark a run as finished, with a checksum of each of its files of figures and weights."""
    sums = {name: sha256_of(folder / name) for name in (*PRODUCTS, *OF_A_COMMITTEE) if (folder / name).exists()}
    sealed = {"files": sums, "sha256": seal_of(sums)}
    files.write(folder / "state" / "finished.json", json.dumps(sealed, indent=2) + "\n")


def sums_of(folder: Path) -> dict[str, str]:
    """The checksums of a finished run's files; where these are damaged themselves, that file alone, with none."""
    try:
        found = json.loads((folder / "state" / "finished.json").read_text())
        sums: dict[str, str] = found["files"]
        known = isinstance(sums, dict) and set(sums) <= {*PRODUCTS, *OF_A_COMMITTEE}
        whole = known and found["sha256"] == seal_of(sums)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    return sums if whole else {"state/finished.json": ""}


def seal_of(sums: dict[str, str]) -> str:
    """The checksum of the checksums."""
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The checksum of a file; empty if it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
