"""Without a compiler the package installs all the same, says what is missing, and trains on the torch engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["/nowhere/c++", "/bin/false"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An installation for which the compiler was missing, or failed: the environment in which it is used."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("built", "__pycache__"))
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
        "--target", str(site), str(source),
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "CXX": request.param}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(site), "COMPILER": request.param}


def kilonet(installed: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kilonet", *words]
    return subprocess.run(command, env=installed, cwd=folder, capture_output=True, text=True, check=False)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_doctor_says_what_is_missing_and_why(installed: dict[str, str], tmp_path: Path) -> None:
    found = document(kilonet(installed, tmp_path, "doctor", "--json"))
    assert found["kernels"] == "none"
    finding = next(one for one in found["findings"] if one["name"] == "kernels")
    assert installed["COMPILER"] in finding["what"]
    assert "install" in finding["advice"]


def test_training_goes_on_with_torch(installed: dict[str, str], tmp_path: Path) -> None:
    done = kilonet(installed, tmp_path, "train", "digits", "--model", "linear", "--epochs", "1", "--json")
    assert document(done)["engine"] == "torch"
    assert f"note: engine torch, since there are no native kernels: {installed['COMPILER']}" in done.stderr or (
        "no C++ compiler was found" in done.stderr
    )
    refused = kilonet(installed, tmp_path, "train", "digits", "--engine", "native")
    assert refused.returncode == 1
    assert "error: there are no native kernels" in refused.stderr
