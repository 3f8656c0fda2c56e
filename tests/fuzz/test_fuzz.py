"""A short series over every reader, the same each time; `python -m fuzz` runs longer ones, with other seeds."""

from __future__ import annotations

from pathlib import Path

from fuzz import series
from fuzz.readers import READERS

INPUTS = 1500


def test_no_damaged_file_does_harm(tmp_path: Path) -> None:
    whole = sum(reader.share for reader in READERS.values())
    counts = {name: max(1, round(INPUTS * reader.share / whole)) for name, reader in READERS.items()}
    tallies = series.run(counts, INPUTS, tmp_path)
    assert [failure for tally in tallies.values() for failure in tally.failures] == []
    assert {name: tally.inputs for name, tally in tallies.items()} == counts
