"""Builds the native engine's kernels, once for each set of instructions; Kilonet installs without them, too.

`python hatch_build.py [FLAG...]` builds them in place, with further flags for the compiler. What went wrong is written
into `built/failure.txt`, where `kilonet doctor` finds it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    BuildHookInterface = object  # type: ignore[assignment,misc]

KERNELS = Path(__file__).parent / "src" / "kilonet" / "engines" / "kernels"
BUILT = KERNELS / "built"
FLAGS = (
    "-std=c++20", "-O3", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
VARIANTS = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for a wheel and for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and add what came out to the wheel."""
        build_data["artifacts"].append("src/kilonet/engines/kernels/built/*")
        if build():
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(*flags: str) -> bool:
    """Build all variants for this machine's architecture; whether the portable one, at least, is there."""
    shutil.rmtree(BUILT, ignore_errors=True)
    BUILT.mkdir()
    wide = platform.machine().lower() in ("x86_64", "amd64")
    names = [name for name in VARIANTS if wide or name == "portable"]
    compiler = compiler_at_hand()
    if compiler is None:
        named = os.environ.get("CXX", "c++, g++ or clang++")
        failures = [f"no C++ compiler was found ({named}) when Kilonet was installed"]
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            failures = [found for found in pool.map(lambda name: compiled(compiler, name, flags), names) if found]
    if failures:
        (BUILT / "failure.txt").write_text(failures[0] + "\n")
    return (BUILT / "portable.so").exists()


def compiler_at_hand() -> str | None:
    """The one that CXX names, or the first of the usual ones that is there."""
    return next(filter(shutil.which, [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"]), None)


def compiled(compiler: str, name: str, flags: tuple[str, ...]) -> str:
    """Build one variant; what went wrong, in a line, or nothing."""
    command = [compiler, *FLAGS, *VARIANTS[name], *flags, str(KERNELS / "kernels.cpp"), "-o", str(BUILT / f"{name}.so")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{compiler} could not build the {name} kernels: {error}"
    if done.returncode == 0:
        return ""
    said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no message")
    return f"{compiler} could not build the {name} kernels: {said[:300]}"


if __name__ == "__main__":
    built = build(*sys.argv[1:])
    sys.stdout.write(f"{', '.join(sorted(p.name for p in BUILT.iterdir()))}\n")
    sys.exit(not built)
