from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kilonet as kn


def draw(path: Path, shade: int | tuple[int, int, int], size: tuple[int, int] = (5, 4)) -> Path:
    """A picture of one colour, 5 wide and 4 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(shade, int) else "RGB", size, shade).save(path)
    return path


def shades(data: kn.ImageSet) -> list[int]:
    """The first pixel of each image."""
    return [int(image[0, 0, 0]) for image in data.images]


def test_classes_and_pictures_come_in_natural_order(tmp_path: Path) -> None:
    for n, name in enumerate(["10/1.png", "10/10.png", "10/9.png", "2/a.png", "1/a.png"]):
        draw(tmp_path / name, 10 * n)
    data = kn.load(tmp_path)
    assert data.classes == ("1", "2", "10")
    assert data.shape == (1, 4, 5)
    assert data.labels.tolist() == [0, 1, 2, 2, 2]
    assert shades(data) == [40, 30, 0, 20, 10]


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tiff", "jpeg", "PNG"])
@pytest.mark.parametrize("colour", [77, (200, 100, 50)], ids=["grey", "colour"])
def test_formats(tmp_path: Path, ending: str, colour: int | tuple[int, int, int]) -> None:
    for name in ("a", "b"):
        draw(tmp_path / name / f"1.{ending}", colour)
    data = kn.load(tmp_path)
    expected = [colour] if isinstance(colour, int) else list(colour)
    assert np.abs(data.pixels[0, :, 0, 0].astype(int) - expected).max() <= (3 if ending == "jpeg" else 0)
    assert data.shape == (len(expected), 4, 5)


def test_grey_among_coloured_becomes_coloured(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "grey.png", 77)
    draw(tmp_path / "b" / "red.png", (255, 0, 0))
    data = kn.load(tmp_path)
    assert data.pixels[:, :, 0, 0].tolist() == [[77, 77, 77], [255, 0, 0]]


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut-short"])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    draw(tmp_path / "a" / "1.png", 0)
    broken = draw(tmp_path / "b" / "broken.png", (1, 2, 3), (50, 40))
    draw(tmp_path / "a" / "1.png", 0, (50, 40))
    broken.write_bytes(broken.read_bytes()[:70] if content is None else content)
    with pytest.raises(kn.DataError, match=r"b/broken\.png is no picture that can be read") as failure:
        kn.load(tmp_path)
    assert "BytesIO" not in failure.value.message


def test_pictures_of_different_size_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png", 0)
    draw(tmp_path / "b" / "1.png", 0, (4, 5))
    with pytest.raises(kn.DataError, match=r"5x4 in .*a/1\.png, 4x5 in .*b/1\.png"):
        kn.load(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "1.png", 0)
    with pytest.raises(kn.DataError, match="one class only, 'cat'"):
        kn.load(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(kn.DataError, match="holds no pictures"):
        kn.load(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.png", 0)
    (tmp_path / "b").mkdir()
    with pytest.raises(kn.DataError, match=r"class folder .*b is empty"):
        kn.load(tmp_path)


def test_what_is_hidden_or_in_no_class_is_passed_over(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/.hidden.png", ".hidden/1.png", "loose.png"):
        draw(tmp_path / name, 0)
    data = kn.load(tmp_path)
    assert len(data) == 2
    assert data.classes == ("a", "b")


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "Testing")])
def test_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    for n, name in enumerate(["a/1.png", "b/1.png", "b/2.png"]):
        draw(tmp_path / names[0] / name, n)
    draw(tmp_path / names[1] / "b" / "1.png", 3)
    data = kn.load(tmp_path)
    assert data.classes == ("a", "b")
    assert shades(data) == [0, 1, 2, 3]
    assert data.labels.tolist() == [0, 1, 1, 1]
    assert data.test_from == 3


def test_what_validates_comes_behind_what_trains(tmp_path: Path) -> None:
    for n, part in enumerate(["train", "val", "test"]):
        for name in ("a", "b"):
            draw(tmp_path / part / name / "1.png", n)
    data = kn.load(tmp_path)
    assert shades(data) == [0, 0, 1, 1, 2, 2]
    assert data.test_from == 4


def test_validation_images_are_no_test_part(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("a", "b"):
            draw(tmp_path / part / name / "1.png", 0)
    data = kn.load(tmp_path)
    assert len(data) == 4
    assert data.test_from is None


def test_classes_may_be_called_train_and_bus(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        draw(tmp_path / name / "1.png", 0)
    assert kn.load(tmp_path).classes == ("bus", "train")


def test_links_that_lead_outside_are_passed_over(tmp_path: Path) -> None:
    outside = draw(tmp_path / "outside" / "secret" / "1.png", 99)
    inside = tmp_path / "inside"
    for name in ("a", "b"):
        draw(inside / name / "1.png", 0)
    (inside / "a" / "2.png").symlink_to(outside)
    (inside / "c").symlink_to(outside.parent)
    (inside / "b" / "3.png").symlink_to(inside / "a" / "1.png")
    data = kn.load(inside)
    assert data.classes == ("a", "b")
    assert shades(data) == [0, 0, 0]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / "real" / name / "1.png", 0)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(kn.load(tmp_path / "link")) == 2


def test_names_from_outside_are_made_printable(tmp_path: Path) -> None:
    for name in ("a\x1b[31m", "b"):
        draw(tmp_path / name / "1.png", 0)
    assert kn.load(tmp_path).classes == (r"a\x1b[31m", "b")


def test_a_new_picture_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / name / "1.png", 0)
    assert len(kn.load(tmp_path)) == 2
    draw(tmp_path / "b" / "2.png", 0)
    assert len(kn.load(tmp_path)) == 3
    (tmp_path / "b" / "2.png").unlink()
    assert len(kn.load(tmp_path)) == 2
