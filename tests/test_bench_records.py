"""`bench/records.py`: its rows trained once, gone on with, shared, and refused where the recipe is another one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kilonet import rundir

SCRIPT = Path(__file__).parent.parent / "bench" / "records.py"
LINEAR = {"source": "digits", "model": "linear"}
PAIR = {**LINEAR, "committee": 2}
SHORT = {"epochs": 2, "threads": 1}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_records", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_records", module)
    spec.loader.exec_module(module)
    return module


def use(script: ModuleType, monkeypatch: pytest.MonkeyPatch, **rows: Any) -> None:
    made = {name: script.Row(name, asked, 0.9, training=SHORT, **more) for name, (asked, more) in rows.items()}
    monkeypatch.setattr(script, "ROWS", made)


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["records.py", "--runs", str(folder), "--to", str(folder / "records.md"), *words])
    script.main()
    return (folder / "records.md").read_text()


def test_every_row_is_a_recipe(script: ModuleType) -> None:
    for name, row in script.ROWS.items():
        configs = script.wanted(row, 0, row.seeds)
        seeds = [seed for one in configs for seed in one.numbers]
        assert seeds == list(range(row.seeds)), name
        assert row.measured_on or all(one.split == "full" for one in configs)


def test_what_is_there_is_not_trained_again(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(script, monkeypatch, one=(LINEAR, {"seeds": 2}))
    first = call(script, monkeypatch, tmp_path)
    weights = tmp_path / "one-0-1" / "seed-1" / "weights" / "best.safetensors"
    made = weights.stat().st_mtime_ns
    figures = [rundir.Run(tmp_path / "one-0-1" / f"seed-{seed}").metrics()["test"]["accuracy"] for seed in (0, 1)]
    assert f"| **{50 * sum(figures):.3f} %** ±" in first
    assert "- one: seeds 0, 1" in first
    assert call(script, monkeypatch, tmp_path) == first
    assert weights.stat().st_mtime_ns == made


def test_rows_share_their_trainings(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(
        script, monkeypatch, pair=(PAIR, {"seeds": 4}), each=(PAIR, {"seeds": 4, "each": True, "folder": "pair"}),
        moves=(PAIR, {"seeds": 4, "moves": True, "folder": "pair"}),
    )  # fmt: skip
    text = call(script, monkeypatch, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*-*")) == ["pair-0-1", "pair-2-3"]
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert [cells[name][1] for name in ("pair", "each", "moves")] == ["1,300", "650", "1,300"]
    assert [cells[name][8] for name in ("pair", "each", "moves")] == ["2", "4", "2"]
    assert cells["pair"][5] != cells["moves"][5]


def test_moves_are_by_a_pixel(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(script, monkeypatch, one=(LINEAR, {"seeds": 2}))
    call(script, monkeypatch, tmp_path)
    seen = []

    def watched(model: Any, data: Any) -> Any:
        seen.append(data.images.astype(int))
        return evaluate(model, data)

    evaluate = script.evaluate
    monkeypatch.setattr(script, "evaluate", watched)
    script.over_moves(rundir.Run(tmp_path / "one-0-1" / "seed-0"))
    still, down, up, right, left = seen
    assert (down[:, :, 1:] == still[:, :, :-1]).all()
    assert (up[:, :, :-1] == still[:, :, 1:]).all()
    assert (right[..., 1:] == still[..., :-1]).all()
    assert (left[..., :-1] == still[..., 1:]).all()
    assert not down[:, :, 0].any()


def test_another_recipe_is_refused(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(script, monkeypatch, one=(LINEAR, {"seeds": 2}))
    call(script, monkeypatch, tmp_path)
    monkeypatch.setitem(SHORT, "lr", 0.5)
    use(script, monkeypatch, one=(LINEAR, {"seeds": 2}))
    with pytest.raises(SystemExit, match="was trained by another recipe"):
        call(script, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("words", "says"), [(("--seeds", "3"), "make no committees of 2"), (("--seeds", "0"), "seeds")]
)
def test_numbers_of_seeds_that_wont_do(
    words: tuple[str, ...], says: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(script, monkeypatch, pair=(PAIR, {}) if words[1] == "3" else (LINEAR, {}))
    with pytest.raises(SystemExit, match=says):
        call(script, monkeypatch, tmp_path, *words)
