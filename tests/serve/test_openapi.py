"""The OpenAPI document tells the truth: schemathesis makes requests from it and holds the answers against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kilonet as kn
from serve.conftest import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve.conftest import Served

UNSAYABLE = "positive_data_acceptance"
"""That every body within the schema is taken: no schema can say that bytes are a picture."""


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    """Images of 8 x 8, which schemathesis makes quickly."""
    with serving(kn.build("kilo-4k", kn.load("digits"), seed=0).eval()) as found:
        yield found


def test_it_describes_all_there_is(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/": ["get"], "/v1/model": ["get"], "/healthz": ["get"], "/metrics": ["get"], "/v1/predict": ["post"],
    }  # fmt: skip
    assert set(document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data", "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff",
        "image/x-portable-anymap", "application/json", "application/octet-stream",
    }  # fmt: skip
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"400", "408", "429", "431"} <= set(operation["responses"])


def test_many_raw_images_are_within_the_schema(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    schema = content["application/octet-stream"]["schema"]
    assert schema["minLength"] == 784
    assert "maxLength" not in schema


def schemathesis(served: Served, folder: Path, *flags: str) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{served.port}/openapi.json",
        "--exclude-checks", UNSAYABLE, "--continue-on-failure", "--seed", "1", *flags,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=1200)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "Tested: 5" in done.stdout
    assert served.process.poll() is None
    assert served.memory() < 300


def test_edges_of_the_schema(small: Served, tmp_path: Path) -> None:
    schemathesis(small, tmp_path, "--phases", "coverage")


@pytest.mark.full
def test_a_thousand_examples(served: Served, small: Served, tmp_path: Path) -> None:
    schemathesis(small, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "1000")
    schemathesis(served, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "100")
