"""How the page looks and sounds: themes, sizes, keys, names, contrast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kilonet as kn
from export.browsing import PHONE, all_shown, answered, draw, settle, shown, visited
from kilonet.export import html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

THEMES = ("light", "dark")


@pytest.mark.parametrize("options", [{"viewport": {"width": 1000, "height": 900}}, PHONE], ids=["desktop", "phone"])
def test_resizing_keeps_the_drawing(options: dict[str, Any], browser: Browser, page: Path) -> None:
    with visited(browser, page, **options) as tab:
        draw(tab, "4")
        before, width = shown(tab, "#seen"), tab.evaluate("document.getElementById('pad').width")
        tab.set_viewport_size({"width": 320, "height": 568})
        settle(tab)
        answered(tab, "4")
        np.testing.assert_array_equal(shown(tab, "#seen"), before)
        sizes = tab.evaluate(
            "(({ width, height, clientWidth, clientHeight }) => [width, height, clientWidth, clientHeight])"
            "(document.getElementById('pad'))"
        )
        ratio = options.get("device_scale_factor", 1)
        assert sizes[:2] == [round(ratio * sizes[2]), round(ratio * sizes[3])]
        assert sizes[0] < width
        ink = shown(tab, "#pad")[..., 0] < 100
        rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
        expected = np.array([0.16, 0.87, 0.27, 0.74])
        found = [rows[0] / sizes[1], rows[-1] / sizes[1], columns[0] / sizes[0], columns[-1] / sizes[0]]
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_what_the_model_sees_is_the_same_in_both_themes(browser: Browser, page: Path) -> None:
    found, pads = [], []
    for theme in ("light", "dark"):
        with visited(browser, page, color_scheme=theme) as tab:
            draw(tab, "2")
            found.append(shown(tab, "#seen"))
            pads.append(int(shown(tab, "#pad")[5, 5, 0]))
            tab.emulate_media(color_scheme="dark" if theme == "light" else "light")
            np.testing.assert_array_equal(shown(tab, "#seen"), found[-1])
            pads.append(int(shown(tab, "#pad")[5, 5, 0]))
    np.testing.assert_array_equal(found[0], found[1])
    assert pads == [255, pads[1], pads[1], 255]
    assert pads[1] < 60


def test_the_layers_are_drawn(tab: Page) -> None:
    assert "12,802 parameters, 10 classes" in tab.locator("footer").inner_text()
    titles = tab.locator("#layers h3").all_inner_texts()
    assert titles[:3] == [
        "1. Convolution, 3 × 3, then ReLU",
        "2. Convolution, 3 × 3, step 2, then ReLU",
        "3. Convolution of each channel, 3 × 3",
    ]
    assert tab.locator("#layers p").all_inner_texts()[0] == "16 maps of 26 × 26"
    tab.wait_for_timeout(400)
    assert not any(layer.any() for layer in all_shown(tab, "#layers canvas"))
    draw(tab, "3")
    tab.wait_for_timeout(400)
    assert min(layer.max() for layer in all_shown(tab, "#layers canvas")) > 200


def wordy(path: Path, shape: tuple[int, int, int]) -> Path:
    """A page with 62 classes, some of long names that can't be broken."""
    images = np.zeros((124, *shape), np.uint8)
    model = kn.build("kilo-4k", kn.from_arrays(images, np.arange(124) % 62), seed=0).eval()
    model.classes = tuple("W" * n for n in range(1, 63))
    (path / "wordy.html").write_text(html.page(model), encoding="utf-8")
    return path / "wordy.html"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 90), (1, 90, 20)])
def test_nothing_is_wider_than_the_window(shape: tuple[int, int, int], browser: Browser, tmp_path: Path) -> None:
    with visited(browser, wordy(tmp_path, shape), color_scheme="dark") as tab:
        for width, height in ((320, 568), (390, 844), (568, 320), (768, 1024), (1280, 800), (2560, 1440)):
            tab.set_viewport_size({"width": width, "height": height})
            top = tab.locator("#pad").bounding_box()
            tab.mouse.click(*middle(tab))
            settle(tab)
            assert tab.locator("#pad").bounding_box() == top, "the pad moves under the pen"
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            pad = tab.evaluate("(pad => pad.clientWidth / pad.clientHeight)(document.getElementById('pad'))")
            assert pad == pytest.approx(shape[2] / shape[1], rel=0.02)
            tab.keyboard.press("Delete")


def test_large_letters_fit(browser: Browser, page: Path) -> None:
    with visited(browser, page, viewport={"width": 640, "height": 800}) as tab:
        tab.evaluate("document.documentElement.style.fontSize = '200%'")
        settle(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 640


def test_on_a_small_phone_the_answer_is_in_sight_while_drawing(browser: Browser, page: Path) -> None:
    with visited(browser, page, **{**PHONE, "viewport": {"width": 320, "height": 568}}) as tab:
        for name in ("#verdict", "#seen", "#pad", "#undo", "#clear"):
            box = tab.locator(name).bounding_box()
            assert box is not None
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 568
        before = tab.locator("#pad").bounding_box()
        draw(tab, "0")
        answered(tab, "0")
        assert tab.locator("#pad").bounding_box() == before, "the pad moves under the pen"


def middle(tab: Page) -> tuple[float, float]:
    box = tab.locator("#pad").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_everything_is_reached_by_keyboard_and_shows_its_focus(tab: Page) -> None:
    found = []
    for _ in range(5):
        tab.keyboard.press("Tab")
        found.append(tab.evaluate("document.activeElement.id"))
        assert tab.evaluate("getComputedStyle(document.activeElement).outline").endswith(" solid 3px")
    assert found == ["pad", "undo", "clear", "choose", "thickness"]
    assert tab.evaluate("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0


def test_buttons_are_large_enough_for_fingers(browser: Browser, page: Path) -> None:
    with visited(browser, page, **PHONE) as tab:
        for name in ("#undo", "#clear", "#choose", "#thickness"):
            box = tab.locator(name).bounding_box()
            assert box is not None
            assert min(box["height"], box["width"]) >= 44


def test_a_reader_of_screens_gets_names_and_an_outline(tab: Page) -> None:
    draw(tab, "3")
    settle(tab)
    tree = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [node for node in tree if not node["ignored"]]
    names: dict[str, list[str]] = {}
    for node in nodes:
        names.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert names["button"] == ["Undo", "Clear", "Picture…"]
    assert names["slider"] == ["Thickness of the pen"]
    assert names["application"] == ["Drawing pad"]
    assert all(names["image"])
    assert names["main"] is not None
    described = next(node for node in nodes if node["role"]["value"] == "application")
    assert "arrows move the pen" in described["description"]["value"].lower()
    levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    assert tab.evaluate("document.documentElement.lang") == "en"


def test_the_answer_is_said_once_it_stands_still(tab: Page) -> None:
    tab.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('live').textContent))"
        ".observe(document.getElementById('live'), { childList: true, characterData: true, subtree: true })"
    )
    assert tab.locator("#live").get_attribute("aria-live") == "polite"
    tab.mouse.move(*middle(tab))
    tab.mouse.down()
    for i in range(40):
        tab.mouse.move(300 + 3 * i, 300 + 50 * (i % 2))
    tab.mouse.up()
    tab.keyboard.press("Delete")
    draw(tab, "1")
    tab.wait_for_timeout(1000)
    said = tab.evaluate("said")
    assert len(said) == 1
    assert said[0].startswith("1, ")
    assert said[0].endswith(" %")


@pytest.mark.parametrize("theme", THEMES)
def test_contrast_is_enough(theme: str, browser: Browser, page: Path) -> None:
    with visited(browser, page, color_scheme=theme) as tab:
        names = ("text", "soft", "accent", "edge", "ground", "paper", "ink", "track")
        style = "getComputedStyle(document.documentElement)"
        colours = dict(
            zip(names, tab.evaluate(f"names => names.map(n => {style}.getPropertyValue('--' + n))", names), strict=True)
        )
    for front, back, least in (
        ("text", "ground", 7), ("soft", "ground", 4.5), ("accent", "ground", 4.5), ("soft", "paper", 4.5),
        ("ink", "paper", 7), ("text", "track", 7), ("edge", "ground", 3), ("edge", "paper", 3), ("edge", "track", 3),
        ("accent", "track", 3), ("accent", "paper", 3),
    ):  # fmt: skip
        assert contrast(colours[front], colours[back]) >= least, (front, back)


def contrast(one: str, other: str) -> float:
    """By WCAG 2, of two colours like #0c4a6e."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    values = np.array([int(colour.strip()[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("motion", "seconds"), [("reduce", "0s"), ("no-preference", "0.12s")])
def test_nothing_moves_for_those_who_want_that(motion: Any, seconds: str, browser: Browser, page: Path) -> None:
    with visited(browser, page, reduced_motion=motion) as tab:
        assert tab.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == seconds
