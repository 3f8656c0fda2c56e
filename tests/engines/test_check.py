"""The kernels without PyTorch: `check.cpp`, for each set of instructions here, and for 64-bit Arm in an emulator."""

from __future__ import annotations

import platform
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "src" / "kilonet" / "engines" / "kernels"
BUILD = runpy.run_path(str(ROOT / "hatch_build.py"))
VARIANTS: dict[str, tuple[str, ...]] = BUILD["VARIANTS"]
ARM_COMPILER = "aarch64-linux-gnu-g++"


def checker(compiler: str, folder: Path, *flags: str) -> str:
    """The check, built with the flags that the kernels are built with."""
    program = str(folder / "check")
    common = [flag for flag in BUILD["FLAGS"] if flag != "-shared"]
    sources = [str(Path(__file__).with_name("check.cpp")), str(KERNELS / "kernels.cpp")]
    command = [compiler, *common, *flags, f"-I{KERNELS}", *sources, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def losses(*command: str) -> dict[str, float]:
    """The loss of each net, if all that is checked holds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = [line.split(": ") for line in done.stdout.splitlines()]
    return {name: float(loss) for name, loss in lines}


@pytest.fixture(scope="module")
def compiler() -> str:
    found: str | None = BUILD["compiler_at_hand"]()
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


@pytest.fixture(scope="module")
def portable(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return checker(compiler, tmp_path_factory.mktemp("portable"))


def test_the_portable_kernels(portable: str) -> None:
    assert list(losses(portable)) == ["average", "norms", "linear", "many", "grouped"]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "portable"])
def test_the_kernels_for_this_processor(compiler: str, portable: str, variant: str, tmp_path: Path) -> None:
    if subprocess.run([portable, variant], check=False).returncode:
        pytest.skip(f"this processor ({platform.machine()}) has no {variant}")
    found = losses(checker(compiler, tmp_path, *VARIANTS[variant]))
    assert found == pytest.approx(losses(portable), rel=1e-9)


@pytest.mark.full
def test_the_kernels_on_64_bit_arm(portable: str, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if shutil.which(ARM_COMPILER) is None or emulator is None:
        pytest.skip(f"needs {ARM_COMPILER} and qemu-aarch64: apt-get install g++-aarch64-linux-gnu qemu-user")
    found = losses(emulator, checker(ARM_COMPILER, tmp_path, "-static"))
    assert found == pytest.approx(losses(portable), rel=1e-9)
