"""What can go wrong, as one small tree.

KilonetError          anything Kilonet refuses, in one line, with a hint where there is one
├── ConfigError       a setting, name or flag value that won't do
├── DataError         a source, file or array that is not the image data it should be
│   └── FetchError    data that could not be had from the network
├── ModelError        a model that is unknown, does not import or does not fit the data
└── RunError          a run directory or weight file that is not one, or a run that can't go on
    ├── DivergedError a training whose loss is no finite number any more
    └── LostError     ranks that trained together and don't reach each other any more
Interrupted           stopped by Ctrl-C or SIGTERM, a training saved before; a KeyboardInterrupt
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class KilonetError(Exception):
    """A refusal that its reader can act on.

    Attributes:
        message: one line: what was given and what was expected.
        hint: one line: what to do next, or None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        message = _line(message)
        super().__init__(message)
        self.message = message
        self.hint = None if hint is None else _line(hint)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


def _line(text: str, most: int = 400) -> str:
    """A text as one line that a terminal can show, its middle left out if it is long: it may quote what was given."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= most else f"{line[: most - 100]} … {line[-90:]}"


class ConfigError(KilonetError):
    """A setting, name or flag value that won't do."""


class DataError(KilonetError):
    """A source, file or array that is not the image data it should be."""


class FetchError(DataError):
    """Data that could not be had from the network."""


class ModelError(KilonetError):
    """A model that is unknown, does not import or does not fit the data."""


class RunError(KilonetError):
    """A run directory or weight file that is not one, or a run that can't go on."""


class DivergedError(RunError):
    """A training whose loss is no finite number any more.

    Attributes:
        epoch: the epoch, from 1.
        step: the step in it, from 1, or None if it was the validation after it.
        loss: what the loss was, in nats.
    """

    def __init__(self, epoch: int, step: int | None, loss: float) -> None:
        where = f"epoch {epoch}, step {step}" if step else f"the validation after epoch {epoch}"
        super().__init__(f"the training went wrong in {where}: its loss is {loss}", "lower --lr")
        self.epoch, self.step, self.loss = epoch, step, loss


class LostError(RunError):
    """Ranks that trained together and don't reach each other any more."""


class Interrupted(KeyboardInterrupt):
    """A command or a training stopped by Ctrl-C or SIGTERM.

    Attributes:
        message: one line: where it stopped.
        hint: one line: how to go on, or None where nothing was begun.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not among the known ones: the nearest one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
