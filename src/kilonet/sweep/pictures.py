"""A sweep in pictures."""

from __future__ import annotations


def draw(*_: object) -> None:
    """To come."""
