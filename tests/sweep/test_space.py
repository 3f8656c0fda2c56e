"""The grammar of `--set`, against tables of what it is to mean and to refuse."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from kilonet.config import Config, resolve
from kilonet.errors import ConfigError
from kilonet.sweep.space import Axis, parse


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("lr=1e-4..1e-1:log", Axis("lr", 1e-4, 1e-1, log=True)),
        (" lr = 0.001 .. 0.1 ", Axis("lr", 0.001, 0.1)),
        ("epochs=5..20", Axis("epochs", 5, 20)),
        ("batch-size=16..512:log", Axis("batch_size", 16, 512, log=True)),
        ("batch_size=64", Axis("batch_size", values=(64,))),
        ("model=kilo-4k,kilo-16k", Axis("model", values=("kilo-4k", "kilo-16k"))),
        ("model=../nets/net.py:Net, linear", Axis("model", values=("../nets/net.py:Net", "linear"))),
        ("optimizer=adam,sgd", Axis("optimizer", values=("adam", "sgd"))),
        ("momentum=0,0.9", Axis("momentum", values=(0.0, 0.9))),
    ],
)
def test_texts_mean_axes(text: str, axis: Axis) -> None:
    found = parse([text]).axes[0]
    assert found == axis
    assert [type(end) for end in found.ends] == [type(end) for end in axis.ends]
    assert parse([str(found)]).axes[0] == found


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["lr"], "expected KEY=VALUES"),
        (["lr="], "expected KEY=VALUES"),
        (["learning-rate=1"], "no setting"),
        (["lrr=1"], "did you mean lr"),
        (["lr=abc"], "expected a number"),
        (["lr=nan"], "expected a number"),
        (["lr=1..inf"], "expected a number"),
        (["epochs=1.5"], "expected a whole number"),
        (["epochs=5..20.5"], "expected a whole number"),
        (["lr=1e-1..1e-4"], "below the upper"),
        (["lr=1..1"], "below the upper"),
        (["zoom=0..1:log"], "begins above 0"),
        (["lr=1e-4..1e-1:lin"], ":log"),
        (["lr=1,1.0"], "twice"),
        (["lr=1e-3", "lr=1e-2"], "given twice"),
        (["model=a,,b"], "nothing between"),
        (["optimizer=adam,adamm"], "did you mean adam"),
        (["optimizer=adam..sgd"], "won't do"),
        (["seed=1,2"], "--seeds how many"),
        (["split=standard,full"], "can't be compared"),
        (["device=cpu,cuda"], "changes no score"),
    ],
)
def test_other_texts_are_refused_in_one_line(texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(texts)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_grid_has_each_combination_once_in_an_order_of_its_seed() -> None:
    space = parse(["lr=1,2,3", "model=a,b", "epochs=7"])
    grid = space.grid(0)
    wanted = [{"epochs": 7, "lr": lr, "model": model} for lr, model in product((1.0, 2.0, 3.0), ("a", "b"))]
    assert sorted(grid, key=str) == sorted(wanted, key=str)
    assert space.combinations == 6
    assert grid == space.grid(0) != space.grid(1)


def test_a_grid_has_no_ranges_and_not_too_many_points() -> None:
    with pytest.raises(ConfigError, match="no ranges"):
        parse(["lr=1..2"]).grid(0)
    many = ",".join(map(str, range(1, 400)))
    with pytest.raises(ConfigError, match="159,201 combinations"):
        parse([f"epochs={many}", f"batch-size={many}"]).grid(0)


@pytest.mark.parametrize(
    "texts", [["lr=-1..1"], ["epochs=0..5"], ["momentum=0,0.9"], ["momentum=0.1..0.9", "optimizer=sgd,adam"]]
)
def test_ends_that_will_not_do_are_refused_before_anything_begins(texts: list[str]) -> None:
    def config(values: dict[str, Any]) -> Config:
        return resolve({}, values)

    with pytest.raises(ConfigError, match=r"--set leads to what won't do, with .*: \w+ = .* won't do"):
        parse(texts).check(config)
    parse(["momentum=0.1..0.9", "optimizer=sgd"]).check(config)
