"""This machine: what is installed, where data is kept, and whether a short training works as it should."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from kilonet.doctor.finding import Finding
from kilonet.engines import native
from kilonet.errors import ConfigError, KilonetError

_VERSIONS = (
    "kilonet", "torch", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "matplotlib", "safetensors", "mlxtend",
)  # fmt: skip
_ROOM = 1 << 30


def describe() -> dict[str, Any]:
    """What this machine has, by heading: text, or text by name."""
    cache = _cache()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}},
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores{_threads_setting()}",
        "kernels": _kernels()[0],
        "devices": _devices(),
        "extras": _extras(),
        "cache": f"{cache} ({_size(cache) / 1e6:,.0f} MB)" if cache.is_dir() else f"{cache} (not made yet)",
        "KILONET_DATA": os.environ.get("KILONET_DATA", "not set"),
    }


def smoke() -> dict[str, Any]:
    """Train a small model twice for a moment, and look at what comes out.

    Returns:
        `accuracy` on images that it did not see, `same` (whether the two ended with the same bits) and `seconds`.

    Raises:
        KilonetError: if it does not work at all.
    """
    from kilonet.config import Training
    from kilonet.models import build
    from kilonet.sources import load
    from kilonet.train import fit

    start = time.perf_counter()
    splits = load("digits").split("80/20")
    training = Training(epochs=4, lr=1e-2, threads=torch.get_num_threads())
    ends, accuracy = [], 0.0
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            model = build("linear", splits.train, 0)
            accuracy = fit(model, splits, training).last.val_accuracy or 0.0
            ends.append([value.clone() for value in model.net.state_dict().values()])
    same = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    return {"accuracy": accuracy, "same": same, "seconds": time.perf_counter() - start}


def examine() -> tuple[list[Finding], dict[str, Any]]:
    """What is wrong with this machine, and what `smoke` gave (empty if it failed)."""
    found = [*_kernels()[1], *_threads(), *_places()]
    try:
        tried = smoke()
    except (KilonetError, OSError, RuntimeError) as error:
        why = "nothing can be trained here as it is"
        return [*found, Finding("smoke", f"a short training fails: {error}", why, "install Kilonet anew")], {}
    if tried["accuracy"] < 0.85:
        what = f"a short training ends at {100 * tried['accuracy']:.1f} %: expected about 94 %"
        found.append(Finding("smoke", what, "this build of PyTorch computes wrongly", "install torch anew"))
    if not tried["same"]:
        what = "two trainings from one seed end with different bits"
        found.append(Finding("determinism", what, "runs can't be repeated or resumed exactly", "try --threads 1"))
    return found, tried


def _kernels() -> tuple[str, list[Finding]]:
    """The native engine's kernels, and what is wrong with them."""
    built = [variant for variant in native.VARIANTS if (native.BUILT / f"{variant}.so").is_file()]
    try:
        return f"{native.library().variant} (built: {', '.join(built)})", []
    except ConfigError as error:
        why = "small nets train several times slower on the torch engine; the results are the same"
        advice = error.hint if built else "install a C++ compiler such as g++, then install Kilonet again"
        return "none", [Finding("kernels", error.message, why, advice or "")]


def _threads() -> list[Finding]:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads <= cores:
        return []
    what = f"{threads} threads on {cores} cores{_threads_setting()}"
    return [Finding("threads", what, "threads that wait for each other cost time", f"--threads {cores}")]


def _places() -> list[Finding]:
    """What is wrong with the folders that data comes from and goes to."""
    found = []
    named = os.environ.get("KILONET_DATA")
    if named and not Path(named).is_dir():
        what = f"KILONET_DATA names {named}, which is no folder"
        found.append(
            Finding("data-folder", what, "data that lies elsewhere is not found", "name a folder, or unset it")
        )
    cache = next(place for place in (_cache(), *_cache().parents) if place.is_dir())
    if not os.access(cache, os.W_OK):
        why = "decoded data is made anew each time"
        found.append(Finding("cache", f"can't write into {cache}", why, "set XDG_CACHE_HOME to a folder of yours"))
    for place in {cache, Path.cwd()}:
        if (free := shutil.disk_usage(place).free) < _ROOM:
            why = "runs and decoded data are written there"
            found.append(Finding("room", f"{free / 1e6:,.0f} MB are free in {place}", why, "make room"))
    return found


def _cache() -> Path:
    from kilonet.sources import cache

    return cache.root()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _threads_setting() -> str:
    setting = os.environ.get("OMP_NUM_THREADS")
    return f" (OMP_NUM_THREADS={setting})" if setting else ""


def _devices() -> str:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return ", ".join(found)


def _extras() -> dict[str, str]:
    """Each optional feature, and what of it is missing."""
    metadata = importlib.metadata.metadata("kilonet")
    needed: dict[str, list[str]] = {extra: [] for extra in metadata.get_all("Provides-Extra") or []}
    for line in metadata.get_all("Requires-Dist") or []:
        package, _, condition = line.partition(";")
        for extra in re.findall(r"extra == ['\"]([\w-]+)['\"]", condition):
            needed[extra].append(re.split(r"[^\w.-]", package.strip())[0])
    missing = {extra: [name for name in names if _version(name) == "missing"] for extra, names in needed.items()}
    return {
        extra: f"missing {', '.join(names)}: pip install 'kilonet[{extra}]'" if names else "there"
        for extra, names in missing.items()
    }
