"""Ctrl-C and SIGTERM: noted when they come, obeyed where the work can be put down."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stop:
    """Whether to stop."""

    asked = False


@contextmanager
def on_request() -> Iterator[Stop]:
    """Note the first Ctrl-C or SIGTERM instead of obeying it at once; a second one interrupts on the spot.

    Outside of the main thread, which alone gets signals, it does nothing.
    """
    stop = Stop()

    def note(*_: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
