"""The browser is found, or what is missing is said."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from kilonet.export import html
from kilonet.export.browser import executable
from kilonet.export.proof import MissingToolError

if TYPE_CHECKING:
    from playwright.sync_api import Playwright


def playwright(own: Path) -> Playwright:
    """Playwright as far as it is asked for its own browser."""
    return cast("Playwright", SimpleNamespace(chromium=SimpleNamespace(executable_path=str(own))))


def program(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KILONET_BROWSER", raising=False)


def test_a_named_browser_comes_first_then_the_path_then_playwrights_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, named = program(tmp_path / "own"), program(tmp_path / "named")
    assert executable(playwright(own)) == str(own)
    edge = program(tmp_path / "bin" / "msedge")
    assert executable(playwright(own)) == str(edge)
    chromium = program(tmp_path / "bin" / "chromium")
    assert executable(playwright(own)) == str(chromium)
    monkeypatch.setenv("KILONET_BROWSER", str(named))
    assert executable(playwright(own)) == str(named)


def test_a_missing_browser_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingToolError, match=r"^no Chromium: install one"):
        executable(playwright(tmp_path / "none"))
    program(tmp_path / "bin" / "chromium")
    monkeypatch.setenv("KILONET_BROWSER", "/nowhere/chromium")
    with pytest.raises(MissingToolError, match=r"^no browser '/nowhere/chromium', as KILONET_BROWSER names it"):
        executable(playwright(tmp_path / "none"))


def test_a_browser_that_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    monkeypatch.setenv("KILONET_BROWSER", str(program(tmp_path / "broken")))
    with pytest.raises(MissingToolError, match="broken does not start: "):
        html.logits(tmp_path / "page.html", np.zeros((1, 1, 28, 28), np.uint8))


def test_a_missing_playwright_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(MissingToolError, match=r"^no Playwright: pip install 'kilonet\[html\]'$"):
        html.logits(tmp_path / "page.html", np.zeros((1, 1, 28, 28), np.uint8))
