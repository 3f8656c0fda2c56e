"""Parts side by side, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

import parts
from kilonet.beside import Died, side_by_side
from kilonet.errors import RunError


def test_one_refusal_ends_all() -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match="number 2 won't do"):
        side_by_side(parts.refused, [1, 2], 2, lambda _, __: None)
    assert time.monotonic() - start < 20


def test_parts_give_what_they_give_in_their_order() -> None:
    assert side_by_side(partial(parts.doubled, 10), range(5), 3, lambda _, __: None) == [10, 12, 14, 16, 18]


def test_a_part_whose_process_died_is_begun_again_in_another_and_then_left_out(tmp_path: Path) -> None:
    told, died = list[int](), list[tuple[int, Died]]()
    found = side_by_side(
        partial(parts.dying, tmp_path),
        range(5),
        2,
        lambda number, _: told.append(number),
        died=lambda number, how: died.append((number, how)),
    )
    assert [part[0] for part in found if not isinstance(part, Died)] == [0, 1, 3, 4]
    assert found[2] == Died(-signal.SIGKILL)
    assert sorted(told) == [0, 1, 1, 2, 2, 3, 4]
    assert sorted(number for number, _ in died) == [1, 2, 2]
    assert "killed by SIGKILL" in str(found[2])


def test_without_retries_a_part_is_left_out_at_once(tmp_path: Path) -> None:
    found = side_by_side(partial(parts.dying, tmp_path), [0, 1], 1, lambda _, __: None, retries=0)
    assert found[0][0] == 0
    assert found[1] == Died(-signal.SIGKILL)


def test_processes_that_die_while_they_start_are_no_endless_loop() -> None:
    assert side_by_side(parts.Unstartable(), range(3), 2, lambda _, __: None) == [Died(3)] * 3


def test_no_process_is_left_behind() -> None:
    pids = list[int]()

    def tell(number: int, pid: int) -> None:
        pids.append(pid)
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(parts.sleeper, [0, 1, 3], 2, tell)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_keeps_its_part_between_two() -> None:
    assert side_by_side(parts.Counting(), range(3), 1, lambda _, __: None) == [1, 2, 3]
