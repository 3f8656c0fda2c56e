"""Images of many requests computed together: whatever has come while the last batch was computed is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kilonet.serve.answers import Writer

    Images = NDArray[np.uint8]

TOGETHER = 128
"""Images from which on a batch gains nothing by more."""
AT_ONCE = 8
"""Images that the kernels compute in the time of one."""
PATIENCE = 0.008
"""Seconds that an image waits for others at most, where others are known to come."""


class Batcher:
    """Predicts in a thread of its own, a batch at a time.

    Args:
        probabilities: of images, uint8, (N, C, H, W), those of every class, float64, (N, K).
        writer: writes them down.
    """

    def __init__(self, probabilities: Callable[[Images], NDArray[np.float64]], writer: Writer) -> None:
        self._probabilities, self._writer = probabilities, writer
        self._waiting: deque[tuple[Images, asyncio.Future[NDArray[np.uint8]]]] = deque()
        self._thread = ThreadPoolExecutor(1, "predict")
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def rows(self, images: Images, *, more_come: bool = False) -> asyncio.Future[NDArray[np.uint8]]:
        """The rows of `Writer.rows` for some images, uint8, (N, C, H, W); where more are to come they may wait."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NDArray[np.uint8]] = loop.create_future()
        self._waiting.append((images, future))
        if more_come and len(self._waiting) < AT_ONCE:
            if self._running is None and self._timer is None:
                self._timer = loop.call_later(PATIENCE, self._start)
        else:
            self._start()
        return future

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = self._next()
                try:
                    rows = await loop.run_in_executor(self._thread, self._compute, [images for images, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                at = 0
                for images, future in batch:
                    if not future.done():
                        future.set_result(rows[at : at + len(images)])
                    at += len(images)
        finally:
            self._running = None

    def _next(self) -> list[tuple[Images, asyncio.Future[NDArray[np.uint8]]]]:
        batch = [self._waiting.popleft()]
        n = len(batch[0][0])
        while self._waiting and n + len(self._waiting[0][0]) <= TOGETHER:
            batch.append(self._waiting.popleft())
            n += len(batch[-1][0])
        return batch

    def _compute(self, parts: list[Images]) -> NDArray[np.uint8]:
        return self._writer.rows(self._probabilities(parts[0] if len(parts) == 1 else np.concatenate(parts)))
