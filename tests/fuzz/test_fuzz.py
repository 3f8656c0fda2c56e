"""A short series over every reader, the same each time; `python -m fuzz` runs longer ones, with other seeds."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzz import formats, series
from fuzz.readers import READERS

INPUTS = 1500


def test_no_damaged_file_does_harm(tmp_path: Path) -> None:
    whole = sum(reader.share for reader in READERS.values())
    counts = {name: max(1, round(INPUTS * reader.share / whole)) for name, reader in READERS.items()}
    tallies = series.run(counts, INPUTS, tmp_path)
    assert [failure for tally in tallies.values() for failure in tally.failures] == []
    assert {name: tally.inputs for name, tally in tallies.items()} == counts


@settings(max_examples=200)
@given(st.data(), st.integers(0, 200))
def test_a_png_that_is_damaged_already_can_be_damaged_again(data: st.DataObject, length: int) -> None:
    png = io.BytesIO()
    Image.new("L", (9, 9)).save(png, "PNG")
    assert isinstance(data.draw(formats.mutated_png(png.getvalue()[:length])), bytes)
