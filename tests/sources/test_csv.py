from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import kilonet as kn
from fuzz.guard import frugal

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture
def squares() -> NDArray[np.uint8]:
    """Six images, 3x3, whose first pixel is 0, as is usual."""
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 3), np.uint8)
    images[:, 0, 0] = 0
    return images


def rows(images: NDArray[np.uint8], labels: list[str], at: str = "first") -> list[str]:
    cells = [[str(pixel) for pixel in image.ravel()] for image in images]
    both = [[label, *row] if at == "first" else [*row, label] for row, label in zip(cells, labels, strict=True)]
    return [",".join(row) for row in both]


def load_csv(folder: Path, lines: list[str]) -> kn.ImageSet:
    (folder / "some.csv").write_text("\n".join([*lines, ""]))
    return kn.load(folder / "some.csv")


DIGITS = ["3", "1", "4", "1", "5", "3"]
WORDS = ["c10", "c2", "c1", "c2", "c10", "c1"]
PIXELS = [f"pixel{n}" for n in range(9)]
NUMBERS = [str(n) for n in range(9)]


@pytest.mark.parametrize("at", ["first", "last"])
@pytest.mark.parametrize("names", [None, PIXELS, NUMBERS], ids=["no-header", "words", "numbers"])
@pytest.mark.parametrize("labels", [DIGITS, WORDS], ids=["digits", "words"])
def test_the_label_may_be_first_or_last_under_a_header_or_not(
    tmp_path: Path, squares: NDArray[np.uint8], at: str, names: list[str] | None, labels: list[str]
) -> None:
    lines = rows(squares, labels, at)
    if names is not None:
        lines.insert(0, ",".join(["label", *names] if at == "first" else [*names, "label"]))
    data = load_csv(tmp_path, lines)
    assert np.array_equal(data.images, squares[:, None])
    assert [data.classes[label] for label in data.labels] == labels
    assert data.classes == (("1", "3", "4", "5") if labels is DIGITS else ("c1", "c2", "c10"))


@pytest.mark.parametrize("name", ["Label", " class", "target", "y"])
def test_the_header_may_name_the_label_anywhere(tmp_path: Path, squares: NDArray[np.uint8], name: str) -> None:
    header = ",".join([*PIXELS[:4], name, *PIXELS[4:]])
    lines = [",".join([*map(str, image.ravel()[:4]), "7", *map(str, image.ravel()[4:])]) for image in squares]
    data = load_csv(tmp_path, [header, *lines])
    assert np.array_equal(data.images, squares[:, None])
    assert data.classes == ("7",)


def test_a_first_row_with_a_label_called_y_is_data(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    squares[0] = 0
    data = load_csv(tmp_path, rows(squares, ["y", "x", "y", "x", "y", "x"]))
    assert len(data) == 6


def test_a_gap_in_the_first_row_makes_it_no_header(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    lines = rows(squares, WORDS)
    lines[0] = "c10,0,,0,0,0,0,0,0,0"
    with pytest.raises(kn.DataError, match="pixel in line 1, column 2 is missing"):
        load_csv(tmp_path, lines)


@pytest.mark.parametrize("name", ["some.csv.gz", "SOME.CSV.GZ"])
def test_gzipped(tmp_path: Path, squares: NDArray[np.uint8], name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress("\n".join(rows(squares, DIGITS)).encode()))
    assert np.array_equal(kn.load(path).images, squares[:, None])


def test_colours_are_three_squares_in_a_row(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 3, 3), np.uint8)
    data = load_csv(tmp_path, rows(images, DIGITS))
    assert np.array_equal(data.images, images)


def test_fractions_are_multiplied_by_255(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    lines = [f"{label}," + ",".join(str(pixel / 255) for pixel in image.ravel()) for label, image in
             zip(DIGITS, squares, strict=True)]  # fmt: skip
    data = load_csv(tmp_path, lines)
    assert np.array_equal(data.images, squares[:, None])
    assert len(data.notes) == 1


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",0,1,2,3,4,5,6,7,8", "the label in line {} is missing"),
        ("3,0,1,2,3,oops,5,6,7,8", "the pixel in line {}, column {} is 'oops', no number"),
        ("3,0,1,2,3,,5,6,7,8", "the pixel in line {}, column {} is missing"),
        ("3,0,1,2,3", "the pixel in line {}, column {} is missing"),
        ("3,0,1,2,3,4,5,6,7,8,9", "no CSV file that can be read"),
        ("3,0,1,2,3,256,5,6,7,8", "pixel 256 in image 3: expected a number from 0 to 255"),
        ("3,0,1,2,3,-1,5,6,7,8", "pixel -1 in image 3: expected a number from 0 to 255"),
        ("-3,0,1,2,3,4,5,6,7,8", "label -3 in row 3"),
        ("3.5,0,1,2,3,4,5,6,7,8", "label 3.5 in row 3"),
    ],
)
def test_the_row_at_fault_is_named(
    tmp_path: Path, squares: NDArray[np.uint8], line: str, said: str, header: bool
) -> None:
    lines = rows(squares, DIGITS)
    lines[3] = line
    if header:
        lines.insert(0, ",".join(["label", *PIXELS]))
    column = "pixel4" if header else "5"
    said = said.format(5 if header else 4, column)
    with pytest.raises(kn.DataError, match=said) as raised:
        load_csv(tmp_path, lines)
    assert "\n" not in raised.value.message


def test_rows_longer_than_the_header_are_refused(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    with pytest.raises(kn.DataError, match=r"some\.csv"):
        load_csv(tmp_path, [",".join(["label", *PIXELS]), *(f"{row},1" for row in rows(squares, DIGITS))])


def test_rows_that_are_no_square_are_refused(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    with pytest.raises(kn.DataError, match="rows of 8 pixels are no square image") as raised:
        load_csv(tmp_path, rows(squares.reshape(6, 9)[:, :8], DIGITS))
    assert "label column" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no table of images"),
        (b"\n", "no table of images"),
        (b"some words\nmore words\n", "no table of images"),
        (b"label,pixel1,pixel2,pixel3,pixel4\n", "holds no images"),
        (b"\x89PNG\xff\xfe\x00", "no CSV file that can be read"),
        (b'a,"b\nc', "some.csv"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "some.csv").write_bytes(content)
    with pytest.raises(kn.DataError, match=said) as raised:
        kn.load(tmp_path / "some.csv")
    assert "\n" not in raised.value.message


def test_damaged_gzip_is_refused(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    path = tmp_path / "some.csv.gz"
    path.write_bytes(gzip.compress("\n".join(rows(squares, DIGITS)).encode())[:-20])
    with pytest.raises(kn.DataError, match="no CSV file that can be read"):
        kn.load(path)


@pytest.mark.parametrize("times", [1, 160], ids=["64-MB", "10-GB"])
@pytest.mark.parametrize("head", [b"", b"label,a,b,c,d\n", b"a,b,c,d,e"], ids=["rows", "header", "one-line"])
def test_a_bomb_is_refused_by_its_true_size(tmp_path: Path, times: int, head: bytes) -> None:
    member = b"1,0,0,0,0\n" * (64 * 2**20 // 10) if head[-1:] in (b"", b"\n") else b"a" * 64 * 2**20
    (tmp_path / "some.csv.gz").write_bytes(gzip.compress(head) + gzip.compress(member, 1) * times)
    with frugal(), pytest.raises(kn.DataError, match=r"at most .* are believed|field larger than"):
        kn.load(tmp_path / "some.csv.gz")


def test_other_packings_are_not_opened(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    """What begins as a table and ends as a zip archive is read as the table that it begins as."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("some.csv", "\n".join(rows(squares, DIGITS)))
    (tmp_path / "some.csv.zip").write_bytes(b"1,2,3,4,5\n" + packed.getvalue())
    with pytest.raises(kn.DataError, match="no CSV file that can be read"):
        kn.load(tmp_path / "some.csv.zip")


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    lines = [",".join([*(f"p{i}" for i in range(9)), "label"]), *rows(squares, DIGITS, "last")]
    (tmp_path / "some.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert np.array_equal(kn.load(tmp_path / "some.csv").pixels[:, 0], squares)
    (tmp_path / "some.csv").write_text(
        "\n".join([lines[0].replace("p0", "label", 1)[:-6] + ",p0", *rows(squares, DIGITS)]), encoding="utf-8-sig"
    )
    assert kn.load(tmp_path / "some.csv").classes == ("1", "3", "4", "5")


@pytest.mark.parametrize("columns", [65_538, 3_000_000])
def test_more_columns_than_pixels_are_refused_at_once(tmp_path: Path, columns: int) -> None:
    (tmp_path / "some.csv").write_text(("0," * (columns - 1) + "0\n") * 2)
    with frugal(), pytest.raises(kn.DataError, match=f"has {columns:,} columns"):
        kn.load(tmp_path / "some.csv")


def test_numbers_in_names_may_be_of_any_length(tmp_path: Path, squares: NDArray[np.uint8]) -> None:
    labels = ["c" + "9" * 5000, "c2", "c" + "9" * 4999, "c2", "c010", "c2"]
    assert load_csv(tmp_path, rows(squares, labels)).classes == ("c2", "c010", labels[2], labels[0])


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "some.csv")
    with frugal(), pytest.raises(kn.DataError, match="a pipe or a device"):
        kn.load(tmp_path / "some.csv")
