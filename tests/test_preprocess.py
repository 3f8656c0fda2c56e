"""Any picture becomes the image that a model was trained on, or nothing."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import kilonet as kn
from kilonet import cli
from kilonet.pictures import decode
from kilonet.preprocess import prepare, recipe, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

GREY = (1, 28, 28)
SCRIPT = Path(__file__).parent.parent / "bench" / "photographs.py"
Picture = Any
NEAR = 6
"""What rounding a box to pixels makes of a mean difference; a seven and a one differ by 20."""


def drawn(
    *lines: list[tuple[float, float]], side: int = 280, width: int = 22, ink: int = 0, paper: int = 255
) -> Picture:
    """Polylines on a sheet, uint8, (side, side); points are shares of the side."""
    image = Image.new("L", (side, side), paper)
    for line in lines:
        ImageDraw.Draw(image).line([(x * side, y * side) for x, y in line], fill=ink, width=width, joint="curve")
    return np.array(image)


def seven(**how: int) -> Picture:
    return drawn([(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)], **how)


def seen(picture: Picture, shape: tuple[int, int, int] = GREY) -> NDArray[np.uint8]:
    found = prepare(picture, shape, "digit")
    assert found is not None
    return found


def middle(image: NDArray[np.uint8]) -> tuple[float, float]:
    values = image[0].astype(float)
    rows, columns = np.indices(values.shape)
    return float((rows * values).sum() / values.sum()), float((columns * values).sum() / values.sum())


def extent(image: NDArray[np.uint8]) -> tuple[int, int]:
    return int(image[0].any(axis=1).sum()), int(image[0].any(axis=0).sum())


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The mean difference of two images' pixels, of 255, one moved by a pixel at most, as centres are rounded."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    moved = [np.roll(one[0].astype(int), shift, axis=(0, 1)) for shift in shifts]
    return float(min(np.abs(image - other[0].astype(int)).mean() for image in moved))


def test_ink_fills_a_box_of_20_and_is_centred() -> None:
    image = seen(seven())
    assert max(extent(image)) == 20
    assert middle(image) == pytest.approx((13.5, 13.5), abs=0.51)
    assert image.max() == 255
    assert image[0, 0].max() == 0


@pytest.mark.parametrize("move", [(0, 0), (-40, -50), (40, 40), (-40, 60)])
@pytest.mark.parametrize("side", [140, 280, 700])
def test_place_and_size_change_nothing(move: tuple[int, int], side: int) -> None:
    picture = np.roll(seven(side=side, width=side * 22 // 280), np.array(move) * side // 280, axis=(0, 1))
    assert apart(seen(picture), seen(seven())) < NEAR


@pytest.mark.parametrize(
    "light",
    [
        lambda p: 255 - p,
        lambda p: p * 0.3 + 90,
        lambda p: 200 - p * 0.2,
        lambda p: p * np.linspace(0.6, 1, 280)[None],
        lambda p: p * np.linspace(0.5, 1, 280)[:, None] + 20,
        lambda p: p * (1 - 0.4 * np.add.outer(np.linspace(-1, 1, 280) ** 2, np.linspace(-1, 1, 280) ** 2) / 2),
        lambda p: (255 - p) * 0.5 + np.linspace(0, 80, 280)[None],
    ],
)
def test_light_and_polarity_change_nothing(light: Any) -> None:
    assert apart(seen(np.clip(light(seven().astype(float)), 0, 255).astype(np.uint8)), seen(seven())) < 2.5


def test_thin_strokes_are_spread_and_thick_ones_worn_off() -> None:
    usual = seen(seven(width=26)).astype(float).sum()
    assert 0.6 * usual < seen(seven(width=1)).sum() < 1.4 * usual
    assert seen(seven(width=1)).max() == 255
    assert usual < seen(seven(width=80)).sum() < 2.2 * usual


def test_noise_and_dirt_are_no_ink() -> None:
    rng = np.random.default_rng(0)
    dirty = np.clip(seven(ink=40, paper=210) + rng.normal(0, 12, (280, 280)), 0, 255).astype(np.uint8)
    dirty[5:8, 5:8] = 40
    assert apart(seen(dirty), seen(seven())) < 4


def test_a_table_under_the_paper_is_no_ink() -> None:
    picture = seven(side=400, width=30, ink=40, paper=230)
    picture[:, :50], picture[-30:] = 70, 70
    assert apart(seen(picture), seen(seven())) < NEAR


def nothings() -> dict[str, Picture]:
    rng = np.random.default_rng(0)
    slope = np.linspace(60, 220, 280)
    table = np.full((280, 280), 220)
    table[:, 200:] = 60
    disc = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(disc).ellipse((100, 100, 122, 122), fill=0)
    return {
        "white": np.full((280, 280), 255),
        "black": np.zeros((280, 280)),
        "black, of the model's size": np.zeros((28, 28)),
        "grey, in colours": np.full((100, 50, 3), 90),
        "one pixel": np.full((1, 1), 7),
        "a dot": np.array(disc),
        "paper and a table": table,
        "a slope": np.broadcast_to(slope, (280, 280)),
        "a corner lit": np.add.outer(slope, slope) / 2,
        "faint": seven(ink=246),
        "noise": rng.normal(128, 40, (280, 280)),
        "noise of the model's size": rng.normal(128, 40, (28, 28)),
        "noise all over": rng.integers(0, 256, (280, 280)),
        "dots": rng.integers(0, 2, (280, 280)) * 255,
    }


@pytest.mark.parametrize("name", nothings())
def test_nothing_is_drawn(name: str) -> None:
    assert prepare(np.clip(nothings()[name], 0, 255).astype(np.uint8), GREY, "digit") is None


def test_an_image_of_mnist_is_taken_as_it_is(mnist_5k: kn.ImageSet) -> None:
    for image in mnist_5k.images[::100]:
        np.testing.assert_array_equal(seen(image[0]), image)
        np.testing.assert_array_equal(seen(255 - image[0]), image)


@pytest.mark.parametrize("margin", [5, 10, 20])
def test_a_tight_crop_is_read(margin: int) -> None:
    """Ink that covers a third of the picture and more is no noise."""
    picture = seven(width=44)
    rows, columns = (np.flatnonzero((picture < 128).any(axis=axis)) for axis in (1, 0))
    tight = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (tight < 128).mean() > 0.45
    assert apart(seen(np.pad(tight, margin, constant_values=255)), seen(picture)) < NEAR


def small_pictures() -> dict[str, Picture]:
    dot, square, noise = np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.uint8)
    dot[14, 14], square[10:18, 10:18] = 255, 255
    noise[4:24, 4:24] = np.random.default_rng(0).integers(0, 256, (20, 20))
    return {"a pixel": dot, "a square": square, "a dark pixel": 255 - dot, "noise": noise}


@pytest.mark.parametrize("name", [name for name in small_pictures() if name != "noise"])
def test_nothing_is_drawn_on_a_picture_of_the_models_size(name: str) -> None:
    assert prepare(small_pictures()[name], GREY, "digit") is None


def test_a_small_picture_is_taken_as_it_is_only_if_it_was_made_so(mnist_5k: kn.ImageSet) -> None:
    image = mnist_5k.pixels[2600, 0]
    corner = np.zeros((28, 28), np.uint8)
    corner[:14, :14] = image[::2, ::2]
    assert max(extent(seen(corner))) >= 19
    moved = np.roll(image, 6, axis=1)
    assert middle(seen(moved)) == pytest.approx((13.5, 13.5), abs=0.6)


def test_what_is_too_long_holds_nothing() -> None:
    picture = np.zeros((2, 200), np.uint8)
    picture[:, 50:90] = 255
    assert prepare(picture, GREY, "digit") is None
    assert prepare(picture, GREY, "resize") is None
    assert prepare(picture[:, :100], GREY, "resize") is not None


def test_resizing_takes_the_whole_picture() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (56, 84, 3), dtype=np.uint8)
    found = prepare(picture, (3, 28, 28), "resize")
    assert found is not None
    expected = picture.reshape(28, 2, 28, 3, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, atol=0.51)
    grey = prepare(picture, (1, 28, 28), "resize")
    assert grey is not None
    luma = np.array(Image.fromarray(picture).convert("L")).reshape(28, 2, 28, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(grey[0], luma, atol=0.51)
    assert prepare(np.full((5, 5), 9, np.uint8), (3, 8, 8), "resize") is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_means_and_ranges(height: int, width: int, rows: int, columns: int) -> None:
    values = np.random.default_rng((height, width)).random((height, width))
    found = resized(values, rows, columns)
    assert found.shape == (rows, columns)
    assert values.min() - 1e-12 <= found.min() <= found.max() <= values.max() + 1e-12
    if rows <= height and columns <= width:
        assert found.mean() == pytest.approx(values.mean())


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90), st.sampled_from([GREY, (1, 8, 8), (1, 1, 1)]))
def test_no_picture_fails(seed: int, height: int, width: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), rng.integers(256), np.uint8)
    for _ in range(rng.integers(4)):
        top, left = rng.integers(height), rng.integers(width)
        picture[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = rng.integers(256)
    noisy = np.clip(picture + rng.normal(0, rng.choice([0, 0, 5, 50]), picture.shape), 0, 255).astype(np.uint8)
    found = prepare(noisy, shape, "digit")
    assert found is None or (found.shape == shape and found.dtype == np.uint8 and found.any())


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_nothing_shows_on_paper(ink: int) -> None:
    shown = Image.fromarray(255 - seven())
    layered = Image.merge("RGBA", [Image.new("L", shown.size, ink)] * 3 + [shown])
    assert apart(seen(decode(png(layered), "drawing")), seen(seven())) < 0.5


def test_16_bits_and_colours_are_read() -> None:
    expected = seen(seven(ink=30))
    deep = Image.fromarray(seven(ink=30).astype(np.uint16) * 257)
    assert apart(seen(decode(png(deep), "deep")), expected) < 0.5
    blue = np.stack([seven(ink=20), seven(ink=30), seven(ink=200)], axis=2)
    assert apart(seen(blue), expected) < 2


def test_the_recipe_is_json() -> None:
    for name in ("digit", "resize"):
        assert json.loads(json.dumps(recipe(name)))["name"] == name


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_photographs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_photographs"] = module
    spec.loader.exec_module(module)
    return module


def on_photographs(data: kn.ImageSet, model: kn.Classifier) -> tuple[float, float]:
    """The share that a model gets right of some images, and of photographs of them."""
    predictor = kn.Predictor(model)
    clean = float((predictor.probabilities(data.pixels).argmax(axis=1) == data.labels).mean())
    right, _, _ = script().read(predictor, data, seed=0)
    return clean, float(np.mean(right["all"]))


def test_photographs_are_read_nearly_as_well_as_clean_images(mnist_5k: kn.ImageSet) -> None:
    splits = mnist_5k.split()
    model = kn.build("kilo-4k", splits.train, seed=0)
    kn.fit(model, splits, kn.recipe("kilo-4k", epochs=10, seed=0))
    assert splits.test is not None
    clean, photographed = on_photographs(splits.test.take(slice(0, None, 2)), model)
    assert clean > 0.95
    assert photographed > clean - 0.02


@pytest.mark.full
def test_photographs_of_mnist_are_read_within_a_point(full_mnist: kn.ImageSet) -> None:
    splits = full_mnist.split()
    model = kn.build("kilo-16k", splits.train, seed=0)
    kn.fit(model, splits, kn.recipe("kilo-16k", epochs=4, seed=0))
    assert splits.test is not None
    clean, photographed = on_photographs(splits.test.take(slice(0, None, 5)), model)
    assert clean > 0.99
    assert photographed >= clean - 0.01


def test_predict_tells_that_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mnist_5k: kn.ImageSet
) -> None:
    monkeypatch.chdir(tmp_path)
    kn.save_model(kn.build("linear", mnist_5k), tmp_path / "net.safetensors")
    Image.fromarray(seven()).save("seven.png")
    Image.new("RGB", (300, 200), "white").save("blank.png")
    told = ("predict", "net.safetensors", "seven.png", "blank.png", "--show", "shown.png")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*told, "--json"])
    first, second = json.loads(capsys.readouterr().out)
    assert first["class"] in mnist_5k.classes
    assert second == {"source": "blank.png", "class": None, "probability": None, "probabilities": None}
    with pytest.raises(SystemExit, match="0"):
        cli.main(told)
    assert "nothing drawn" in capsys.readouterr().out
    with Image.open("shown.png") as shown:
        assert shown.size[0] > 6 * 110, "each picture beside what the model saw of it: two pairs a row"


def test_other_digits_are_not_near() -> None:
    one = drawn([(0.55, 0.2), (0.45, 0.8)])
    assert apart(seen(one), seen(seven())) > 3 * NEAR


def test_a_photograph_of_many_pixels_is_read() -> None:
    file = io.BytesIO()
    Image.fromarray(seven(side=1400, width=110)).save(file, "JPEG")
    assert decode(file.getvalue(), "photo", 600_000).shape == (700, 700)
    assert apart(seen(decode(file.getvalue(), "photo", 600_000)), seen(seven())) < NEAR
    with pytest.raises(kn.DataError, match="700x700 pixels: more than 400,000"):
        decode(file.getvalue(), "photo", 400_000)


def test_predictions_hold_pictures_only_if_asked(tmp_path: Path, mnist_5k: kn.ImageSet) -> None:
    Image.fromarray(seven(side=1400, width=110)).save(tmp_path / "a.png")
    predictor = kn.Predictor(kn.build("linear", mnist_5k))
    assert predictor.files([tmp_path / "a.png"])[0].original is None
    original = predictor.files([tmp_path / "a.png"], originals=True)[0].original
    assert original is not None
    assert original.shape == (467, 467)
