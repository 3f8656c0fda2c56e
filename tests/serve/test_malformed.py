"""Malformed requests by the hundred, and with `full` by the ten thousand: no 5xx, no hang, no memory."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from serve.malformed import make
from serve.talking import ask
from serve.test_api import RAW, check, some_images

if TYPE_CHECKING:
    from serve.conftest import Served


def series(served: Served, seeds: range) -> tuple[Counter[int], float]:
    """How often each status was answered, 0 for a connection closed without; and the most memory, MB."""
    statuses, most = Counter[int](), 0.0

    def one(seed: int) -> int:
        content = make(seed)
        try:
            found = ask(served.port, content, close=True, seconds=30).status
        except TimeoutError:
            raise AssertionError(f"request {seed} hangs") from None
        assert found < 500, f"request {seed} is answered {found}"
        return found

    with ThreadPoolExecutor(4) as pool:
        for start in range(seeds.start, seeds.stop, 100):
            statuses.update(pool.map(one, range(start, min(start + 100, seeds.stop))))
            most = max(most, served.memory())
    return statuses, most


def still_right(served: Served) -> None:
    assert served.process.poll() is None
    images = some_images(served.model, 2)
    answer = served.client.post("/v1/predict", content=images.tobytes(), headers=RAW)
    check(answer.json()["predictions"], served.model, images)


def test_some_hundreds(served: Served) -> None:
    statuses, most = series(served, range(400))
    assert most < 300
    assert {200, 400, 413, 415, 422} <= set(statuses)
    still_right(served)


@pytest.mark.full
def test_ten_thousand(served: Served) -> None:
    statuses, most = series(served, range(1000, 11_000))
    print(dict(statuses), most)
    assert sum(statuses.values()) == 10_000
    assert most < 300
    still_right(served)
