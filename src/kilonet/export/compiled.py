"""C compiled and run over images."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kilonet.errors import ModelError
from kilonet.export.c_text import part
from kilonet.export.proof import MissingToolError
from kilonet.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
FAILURES = {11: "its self-test gives another class", 12: "its self-test gives other logits",
            20: "classify and logits disagree"}  # fmt: skip


def compiler() -> list[str]:
    """The C compiler as a command: `$CC`, or the first there is of cc, gcc and clang.

    Raises:
        MissingToolError: if there is none.
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise MissingToolError(f"no C compiler: looked for {named[0] if named else 'cc, gcc and clang'}", "install gcc")


def version(command: Sequence[str]) -> str:
    """A compiler's name and version, as it tells them."""
    told = _output([*command, "--version"], b"").decode(errors="replace")
    return printable((told.splitlines() or list(command))[0])


def on_cortex_m4(path: Path) -> int | None:
    """Bytes of flash that a written `.c` takes on a Cortex-M4, code and constants, at `-Os`; None without its compiler.

    What the compiler adds for floats where there is no floating-point unit is not among them.
    """
    if not all(map(shutil.which, ("arm-none-eabi-gcc", "arm-none-eabi-size"))):
        return None
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.o"
        flags = ("-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99", "-c")
        _output(["arm-none-eabi-gcc", *flags, str(path), "-o", str(net)], b"")
        text, data = _output(["arm-none-eabi-size", str(net)], b"").splitlines()[1].split()[:2]
    return int(text) + int(data)


def run(
    path: Path, images: NDArray[np.uint8], command: Sequence[str], emulator: Sequence[str] = ()
) -> NDArray[np.float64]:
    """The logits, float64, (N, K), that a written `.c` gives for images, uint8, (N, C, H, W).

    Args:
        path: of the `.c`, its header beside it.
        images: in the order of the model.
        command: the compiler, with any flags.
        emulator: what the program is run by, if it is for another machine.

    Raises:
        ModelError: if the C doesn't compile without a warning, or the program fails.
    """
    prefix, classes = _declared(path.with_suffix(".h"))
    with tempfile.TemporaryDirectory() as folder:
        program = _compiled(path, prefix, Path(folder), command)
        parts = np.array_split(images.transpose(0, 2, 3, 1), os.cpu_count() or 1)
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda some: _output([*emulator, str(program)], some.tobytes()), parts))
    return np.frombuffer(b"".join(found), "<f4").astype(np.float64).reshape(len(images), classes)


def _compiled(path: Path, prefix: str, folder: Path, command: Sequence[str]) -> Path:
    driver, program = folder / "driver.c", folder / "driver"
    driver.write_text(part("driver.c", prefix, header=path.with_suffix(".h").name))
    done = subprocess.run(  # noqa: S603
        [*command, *STRICT, "-O2", f"-I{path.parent}", str(path), str(driver), "-o", str(program)],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "no reason given")
        raise ModelError(f"{path.name} doesn't compile: {reason}", "if $CC and its flags are right, please report it")
    return program


def _declared(header: Path) -> tuple[str, int]:
    """What all names in a written header begin with, and how many classes there are."""
    found = re.search(r"^#define (\w+)_CLASS_COUNT (\d+)$", header.read_text(), re.MULTILINE)
    if found is None:
        raise ModelError(f"{header.name} is no header that Kilonet wrote")
    return found[1].lower(), int(found[2])


def _output(command: Sequence[str], given: bytes) -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ModelError(
            f"the compiled C fails: {FAILURES.get(done.returncode, f'exit status {done.returncode}')}",
            "if $CC and its flags are right, please report it",
        )
    return done.stdout
