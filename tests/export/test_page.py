"""The page in Chromium: drawn on, given pictures, looked at, and listened to."""

from __future__ import annotations

import base64
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

import kilonet as kn
from export.browsing import PHONE, answered, draw, give, png, settle, shown, touch, visited
from export.drawings import drawing
from export.strokes import DIGITS
from kilonet.errors import KilonetError
from kilonet.export import html
from kilonet.images import Preparation
from kilonet.pictures import decode
from kilonet.preprocess import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page

    from kilonet.models import Classifier

NOTHING = "Nothing drawn"


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit as a scan: dark on white, off centre."""
    large = 255 - np.asarray(Image.fromarray(image).resize((140, 140), Image.Resampling.BICUBIC))
    return np.pad(large, ((20, 90), (150, 10)), constant_values=255)


def live(tab: Page) -> str:
    tab.wait_for_timeout(1000)
    return tab.locator("#live").inner_text()


@pytest.mark.usefixtures("browser")
def test_it_computes_the_logits_of_the_trained_model(
    page: Path, digit_reader: Classifier, mnist_5k: kn.ImageSet
) -> None:
    images = mnist_5k.images[::7]
    with torch.no_grad():
        wanted = digit_reader(torch.from_numpy(images.copy())).numpy()
    np.testing.assert_allclose(html.logits(page, images), wanted, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("name", ["linear", "tutorial-cnn", "kilo-4k"])
def test_it_computes_nets_of_any_size(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 19, 13)).astype(np.uint8)
    model = kn.build(name, kn.from_arrays(images, np.arange(40) % 20), seed=0).eval()
    (tmp_path / "page.html").write_text(html.page(model), encoding="utf-8")
    with torch.no_grad():
        wanted = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(html.logits(tmp_path / "page.html", images), wanted, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("start();\n", "start(); console.log(1);\n"),  # the policy's hash no longer fits
        ("</body>", '<img src="more.png"></body>'),
        ("</body>", "<p style='color: red'></p></body>"),
        ('"kind":"conv"', '"kind":conv'),
    ],
)
def test_a_page_that_goes_wrong_is_an_error(old: str, new: str, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "broken.html").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(KilonetError, match="went wrong in the browser"):
        html.logits(tmp_path / "broken.html", np.zeros((1, 1, 28, 28), np.uint8))


@pytest.mark.parametrize("digit", DIGITS)
def test_a_digit_drawn_with_the_mouse_is_read(digit: str, tab: Page) -> None:
    draw(tab, digit)
    answered(tab, digit)
    assert float(tab.locator(".best .number").inner_text().split()[0]) > 50
    assert tab.locator(".best .name").inner_text() == digit


def test_every_digit_drawn_with_a_finger_is_read(browser: Browser, page: Path) -> None:
    with visited(browser, page, **PHONE) as tab:
        for digit in DIGITS:
            touch(tab, digit)
            answered(tab, digit)
            tab.locator("#clear").tap()
        assert tab.evaluate("scrollY") == 0


@pytest.mark.parametrize(
    ("size", "x", "y", "thickness"), [(0.45, 0.05, 0.5, "1.2"), (0.6, 0.35, 0.1, "2.2"), (1.0, 0.0, 0.0, "3.5")]
)
def test_digits_are_read_wherever_and_however_they_are_drawn(
    size: float, x: float, y: float, thickness: str, tab: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {k: [[(x + size * u, y + size * v) for u, v in s] for s in strokes] for k, strokes in DIGITS.items()}
    monkeypatch.setattr("export.browsing.DIGITS", moved)
    tab.locator("#thickness").fill(thickness)
    for digit in moved:
        draw(tab, digit)
        answered(tab, digit)
        tab.keyboard.press("Delete")


def test_the_answer_comes_while_drawing(tab: Page) -> None:
    x, y = 300, 300
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y + 150, steps=5)
    answered(tab, "1")
    assert shown(tab, "#seen").any()


def test_undo_and_clear(tab: Page) -> None:
    draw(tab, "1")
    one = shown(tab, "#seen")
    draw(tab, "0")
    assert not np.array_equal(shown(tab, "#seen"), one)
    tab.locator("#undo").click()
    np.testing.assert_array_equal(shown(tab, "#seen"), one)
    tab.locator("#clear").click()
    answered(tab, NOTHING)
    assert not shown(tab, "#seen").any()
    tab.keyboard.press("Control+z")
    np.testing.assert_array_equal(shown(tab, "#seen"), one)
    tab.keyboard.press("Meta+z")
    answered(tab, NOTHING)
    tab.keyboard.press("Control+z")
    tab.keyboard.press("Delete")
    answered(tab, NOTHING)


def test_only_the_first_finger_and_the_main_button_draw(browser: Browser, page: Path) -> None:
    with visited(browser, page, **PHONE) as tab:
        session = tab.context.new_cdp_session(tab)
        second = [{"x": 150, "y": 300, "id": 1}, {"x": 300, "y": 300, "id": 2}]
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": second[:1]})
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": second})
        moved = [{"x": 150, "y": 450, "id": 1}, {"x": 300, "y": 450, "id": 2}]
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": moved})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        answered(tab, "1")
        tab.locator("#clear").tap()
        tab.mouse.move(200, 300)
        tab.mouse.down(button="right")
        tab.mouse.move(200, 400)
        tab.mouse.up(button="right")
        answered(tab, NOTHING)


@pytest.mark.parametrize("how", ["paste", "drop", "choose"])
def test_a_picture_is_read(how: str, tab: Page, mnist_5k: kn.ImageSet) -> None:
    draw(tab, "1")
    content = png(enlarged(mnist_5k.pixels[np.flatnonzero(mnist_5k.labels == 5)[3], 0]))
    if how == "choose":
        tab.locator("#file").set_input_files({"name": "five.png", "mimeType": "image/png", "buffer": content})
    else:
        give(tab, how, content)
    answered(tab, "5")
    tab.keyboard.press("Control+z")
    answered(tab, "1")
    tab.keyboard.press("Control+z")
    answered(tab, NOTHING)


def test_a_stroke_puts_a_picture_away(tab: Page, mnist_5k: kn.ImageSet) -> None:
    give(tab, "drop", png(enlarged(mnist_5k.pixels[np.flatnonzero(mnist_5k.labels == 5)[3], 0])))
    answered(tab, "5")
    draw(tab, "7")
    answered(tab, "7")


@pytest.mark.parametrize(
    "picture",
    [
        np.full((90, 70), 255, np.uint8),
        np.zeros((28, 28), np.uint8),
        np.full((1, 1), 77, np.uint8),
        np.full((300, 200, 4), (0, 0, 0, 0), np.uint8),
    ],
)
def test_a_blank_picture_is_no_digit(picture: NDArray[np.uint8], tab: Page) -> None:
    draw(tab, "1")
    give(tab, "drop", png(picture))
    answered(tab, NOTHING)
    assert set(tab.locator(".number").all_inner_texts()) == {"–"}


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_picture_is_said_and_changes_nothing(content: bytes, tab: Page) -> None:
    draw(tab, "1")
    name = "<img src=x onerror=alert(1)>.png"
    give(tab, "drop", content, name)
    tab.locator("#status", has_text="not a picture").wait_for(timeout=5000)
    assert tab.locator("#status").inner_text() == f"“{name}” is not a picture that this browser can read."
    answered(tab, "1")
    draw(tab, "0")
    settle(tab)
    assert tab.locator("#status").inner_text() == ""


def test_a_paste_without_a_picture_is_said(tab: Page) -> None:
    tab.evaluate("document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: new DataTransfer() }))")
    assert tab.locator("#status").inner_text() == "The clipboard holds no picture."


def test_drawing_by_keyboard(tab: Page) -> None:
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "pad"
    for key in ("ArrowUp", "Shift+ArrowUp", "Shift+ArrowUp", " "):
        tab.keyboard.press(key)
    assert tab.locator("#live").inner_text() == "Pen down"
    for _ in range(4):
        tab.keyboard.press("Shift+ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press(" ")
    assert tab.locator("#live").inner_text() == "Pen up"
    for _ in range(6):
        tab.keyboard.press("ArrowLeft")
    answered(tab, "1")
    assert live(tab).startswith("1, ")
    assert tab.evaluate("scrollY") == 0


CASES: tuple[tuple[int, tuple[int, int, int], Preparation], ...] = (
    (600, (1, 28, 28), "digit"), (100, (1, 20, 45), "digit"),
    (100, (1, 28, 28), "resize"), (100, (3, 32, 20), "resize"), (100, (1, 8, 8), "resize"),
)  # fmt: skip


def test_pictures_are_prepared_as_in_python(browser: Browser, tmp_path: Path) -> None:
    pictures = map(drawing, range(1000))
    blank = 0
    for count, shape, preparation in CASES:
        with visited(browser, bare(tmp_path, shape, preparation)) as tab:
            for batch in batched(islice(pictures, count), 50):
                for picture, found in zip(batch, prepared(tab, batch), strict=True):
                    wanted = prepare(decode(png(picture), "drawing"), shape, preparation)
                    assert (found is None) == (wanted is None)
                    blank += wanted is None
                    if wanted is not None:
                        assert np.abs(np.array(found) - wanted.ravel().astype(int)).max() <= 1
    assert 50 < blank < 200


def batched(pictures: Iterator[NDArray[np.uint8]], n: int) -> Iterator[list[NDArray[np.uint8]]]:
    while batch := list(islice(pictures, n)):
        yield batch


def bare(path: Path, shape: tuple[int, int, int], preparation: Preparation) -> Path:
    """The page of an untrained model."""
    model = kn.build("linear", kn.from_arrays(np.zeros((4, *shape), np.uint8), np.array([0, 1, 0, 1])), seed=0)
    model.preparation = preparation
    (path / "bare.html").write_text(html.page(model), encoding="utf-8")
    return path / "bare.html"


def prepared(tab: Page, pictures: list[NDArray[np.uint8]]) -> list[list[int] | None]:
    """What the page makes of pictures."""
    given = [[base64.b64encode(one.tobytes()).decode(), one.shape[1], one.shape[0]] for one in pictures]
    found: list[list[int] | None] = tab.evaluate(
        """pictures => pictures.map(([text, width, height]) => {
            const found = kilonet.prepare(Uint8Array.from(atob(text), c => c.charCodeAt(0)), width, height);
            return found && [...found];
        })""",
        given,
    )
    return found
