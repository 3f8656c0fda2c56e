"""An export held against the model that it was made from."""

from __future__ import annotations


class MissingToolError(Exception):
    """A program that a proof needs is not on this machine; its text names it and says how to get it."""
