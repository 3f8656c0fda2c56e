"""The app that the commands belong to, and what they share in their answers."""

from __future__ import annotations

import json as json_module
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from collections.abc import Callable

app = App(
    name="kilonet",
    help="Kilobyte-sized image classifiers, trained in seconds, measured honestly.",
    version=lambda: version("kilonet"),
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)

RUNS = Path("runs")


def answer(document: Any, json: bool, tell: Callable[[], None]) -> None:
    """The one JSON document, or the words for people."""
    if json:
        sys.stdout.write(json_module.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        tell()
