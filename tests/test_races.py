"""A race times what it says it does."""

from __future__ import annotations

import time

import pytest

from kilonet import display
from kilonet.races import Race


@pytest.mark.parametrize("compiles", [True, False])
def test_compiling_takes_no_part_in_the_timed_rounds(compiles: bool, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.3, 0.0, 0.0])
    race = Race("work", "that", (lambda: lambda: time.sleep(next(seconds)), lambda: int), None, 1.0, 1, compiles)
    found = race.run(repeats=2)
    assert found["baseline_seconds"] < 0.1
    assert found["compile_seconds"] == (pytest.approx(0.3, abs=0.1) if compiles else None)
    display.races({"conditions": {}, "results": [{**found, "share_of_peak": 0.5, "memory": [None, None]}]})
    assert ("it compiled" in capsys.readouterr().out) == compiles
