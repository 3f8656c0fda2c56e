"""The C function that makes a picture into the image that a net was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilonet.export.layers import Net


@dataclass(frozen=True)
class Preparer:
    """The function, in C.

    Attributes:
        declaration: for the header.
        memory: the type of its static memory, `..._preparation`; empty if it needs none.
        bytes: of that memory.
        code: its definition.
    """

    declaration: str = ""
    memory: str = ""
    bytes: int = 0
    code: str = ""


def preparer(net: Net, prefix: str) -> Preparer:
    """The function for a net."""
    return Preparer()
