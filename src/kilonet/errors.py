"""What can go wrong, as one small tree.

KilonetError          anything Kilonet refuses, in one line, with a hint where there is one
├── ConfigError       a setting, name or flag value that won't do
├── DataError         a source, file or array that is not the image data it should be
│   └── FetchError    data that could not be had from the network
├── ModelError        a model that is unknown, does not import or does not fit the data
└── RunError          a run directory or weight file that is not one
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
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class ConfigError(KilonetError):
    """A setting, name or flag value that won't do."""


class DataError(KilonetError):
    """A source, file or array that is not the image data it should be."""


class FetchError(DataError):
    """Data that could not be had from the network."""


class ModelError(KilonetError):
    """A model that is unknown, does not import or does not fit the data."""


class RunError(KilonetError):
    """A run directory or weight file that is not one."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not among the known ones: the nearest one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
