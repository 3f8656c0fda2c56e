"""The OpenAPI document tells the truth: schemathesis makes requests from it and holds the answers against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from serve.conftest import Served


@pytest.fixture
def document(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = served.client.get("/openapi.json").json()
    return found


def test_it_describes_all_there_is(document: dict[str, Any]) -> None:
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/": ["get"], "/v1/model": ["get"], "/healthz": ["get"], "/metrics": ["get"], "/v1/predict": ["post"],
    }  # fmt: skip
    assert set(document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data", "image/png", "image/jpeg", "image/gif", "image/webp", "application/json",
        "application/octet-stream",
    }  # fmt: skip
