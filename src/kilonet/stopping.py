"""Ctrl-C and SIGTERM: obeyed on the spot, or held back to where the work can be put down."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kilonet.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stop:
    """Whether to stop, and what to say then.

    Attributes:
        asked: Ctrl-C or SIGTERM has come.
        hint: one line: how to go on, or None while there is nothing to go on with.
        agreed: whether all ranks of a training know of it and stop at this step; None where one process trains.
        ended: an error ends the work already, and requests change nothing any more.
    """

    def __init__(self) -> None:
        self.asked = False
        self.agreed: bool | None = None
        self.ended = False
        self.hint: str | None = None
        self._holding = 0

    def note(self, *_: Any) -> None:
        """Take a request: it interrupts on the spot, unless it is the first one and held back.

        Ranks of a training hold every one back: what started them may ask again where another one ends.
        """
        if self.ended:
            return
        again, self.asked = self.asked and self.agreed is None, True
        if again or not self._holding:
            raise KeyboardInterrupt

    @property
    def due(self) -> bool:
        """Whether the work is to be put down after this step."""
        return self.asked if self.agreed is None else self.agreed

    def agree(self, asked: bool) -> None:
        """Take note of whether any rank was asked to stop; all of them learn it in the same step."""
        self.agreed = asked
        self.asked = self.asked or asked

    def obey(self) -> None:
        """Interrupt if that was asked for and is not held back."""
        if self.asked and not self._holding:
            raise KeyboardInterrupt

    @contextmanager
    def later(self) -> Iterator[None]:
        """Hold the first request back until the end of what runs here; what runs may look at `asked`."""
        self.obey()
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        self.obey()


_outermost: Stop | None = None


def current() -> Stop:
    """The one of what runs here."""
    return _outermost or Stop()


@contextmanager
def on_request() -> Iterator[Stop]:
    """Have Ctrl-C and SIGTERM end what runs here with `Interrupted`; inside of another one it gives that one's `Stop`.

    Outside of the main thread, which alone gets signals, it does nothing.
    """
    global _outermost
    if threading.current_thread() is not threading.main_thread():
        yield Stop()
        return
    if _outermost is not None:
        yield _outermost
        return
    stop = _outermost = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, stop.note)
        yield stop
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("interrupted", stop.hint) from None
    finally:
        _outermost = None
        for number, handler in before.items():
            signal.signal(number, handler)
