"""A page in a real browser, watched: whoever uses it learns of every error, complaint and request at the end."""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from export.strokes import DIGITS, Stroke
from kilonet.export.browser import started, watch
from kilonet.export.proof import MissingToolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page


PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True,
}  # fmt: skip


def launched() -> Iterator[Browser]:
    """Chromium, or the test is skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = started(playwright)
        except MissingToolError as error:
            pytest.skip(str(error))
        yield browser
        browser.close()


@contextmanager
def visited(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """A tab with the page, offline; nothing may have gone wrong in the end."""
    wrong: list[str] = []
    context = browser.new_context(offline=True, **{"viewport": {"width": 1000, "height": 900}, **options})
    tab = context.new_page()
    watch(tab, path.as_uri(), wrong)
    tab.goto(path.as_uri())
    settle(tab)  # what is done to a page before it is painted is lost
    yield tab
    context.close()
    assert wrong == []


def settle(tab: Page) -> None:
    """Wait until what was done is painted."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answered(tab: Page, wanted: str) -> None:
    """Wait for an answer; any other fails."""
    from playwright.sync_api import expect

    settle(tab)
    expect(tab.locator("#verdict")).to_have_text(wanted)


def on_pad(tab: Page, stroke: Stroke) -> list[tuple[float, float]]:
    """A stroke's points in the window."""
    box = tab.locator("#pad").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def draw(tab: Page, digit: str) -> None:
    """Draw with the mouse."""
    for stroke in DIGITS[digit]:
        first, *rest = on_pad(tab, stroke)
        tab.mouse.move(*first)
        tab.mouse.down()
        for point in rest:
            tab.mouse.move(*point)
        tab.mouse.up()


def touch(tab: Page, digit: str) -> None:
    """Draw with a finger."""
    session = tab.context.new_cdp_session(tab)

    def send(kind: str, *points: tuple[float, float]) -> None:
        session.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 1} for x, y in points]}
        )

    for stroke in DIGITS[digit]:
        first, *rest = on_pad(tab, stroke)
        send("touchStart", first)
        for point in rest:
            send("touchMove", point)
        send("touchEnd")


def png(pixels: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def give(tab: Page, how: str, content: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    """Paste or drop a file."""
    tab.evaluate(
        """([how, text, name, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, { type }));
            const more = { bubbles: true, cancelable: true };
            const event = how === "paste" ? new ClipboardEvent("paste", { clipboardData: data, ...more })
                : new DragEvent("drop", { dataTransfer: data, ...more });
            document.getElementById("pad").dispatchEvent(event);
        }""",
        [how, base64.b64encode(content).decode(), name, kind],
    )


def shown(tab: Page, selector: str) -> NDArray[np.uint8]:
    """A canvas as an image, (H, W, 3)."""
    settle(tab)
    return decoded(tab.evaluate("name => document.querySelector(name).toDataURL()", selector))


def all_shown(tab: Page, selector: str) -> list[NDArray[np.uint8]]:
    """Several canvases, each as an image, (H, W, 3)."""
    found = tab.evaluate("name => [...document.querySelectorAll(name)].map(canvas => canvas.toDataURL())", selector)
    return [decoded(one) for one in found]


def decoded(address: str) -> NDArray[np.uint8]:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
