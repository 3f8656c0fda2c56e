"""A page opened in Chromium, alone: no network, no other file, and no complaint of the browser's."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.errors import KilonetError
from kilonet.export.proof import MissingToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Playwright, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


def executable(playwright: Playwright) -> str:
    """The browser to use: the one that `KILONET_BROWSER` names, the first on the PATH, or Playwright's own.

    Raises:
        MissingToolError: if there is none.
    """
    named = os.environ.get("KILONET_BROWSER")
    own = playwright.chromium.executable_path
    candidates = [named] if named else [*NAMES, own]
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None:
        missing = f"no browser {named!r}, as KILONET_BROWSER names it" if named else "no Chromium"
        raise MissingToolError(f"{missing}: install one, with `playwright install chromium` for example")
    return found


def tool() -> str:
    """The browser to use, with its version."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = started(playwright)
        try:
            return f"Chromium {browser.version}"
        finally:
            browser.close()


def started(playwright: Playwright) -> Browser:
    """A browser without a window.

    Raises:
        MissingToolError: if there is none, or it does not start.
    """
    from playwright.sync_api import Error

    path = executable(playwright)
    try:
        return playwright.chromium.launch(
            executable_path=path, args=["--disable-gpu", "--disable-background-networking"]
        )
    except Error as error:
        raise MissingToolError(f"{path} does not start: {error.message.splitlines()[0]}") from None


@contextmanager
def opened(path: Path) -> Iterator[Page]:
    """A page, opened from its file.

    Raises:
        MissingToolError: if Playwright or Chromium is missing.
        KilonetError: if, by the end, the page has reported an error, broken its own policy or asked for anything else.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise MissingToolError("no Playwright: pip install 'kilonet[html]'") from None
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = started(playwright)
        tab = browser.new_context(offline=True).new_page()
        try:
            watch(tab, path.resolve().as_uri(), wrong)
            tab.goto(path.resolve().as_uri())
            yield tab
        except Error as error:
            wrong.append(error.message)
        finally:
            browser.close()
    if wrong:
        raise KilonetError(f"{path} went wrong in the browser: {wrong[0]}")


def watch(tab: Page, address: str, wrong: list[str]) -> None:
    """Note what goes wrong in a tab: errors, complaints on its console, requests for anything but its address."""

    def only_itself(route: Route) -> None:
        if route.request.url == address:
            route.continue_()
        else:
            wrong.append(f"it asked for {route.request.url}")
            route.abort()

    tab.route("**", only_itself)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
