"""Proofs of exports."""

from __future__ import annotations

from kilonet.errors import KilonetError


class MissingToolError(KilonetError):
    """A proof needs a tool that this machine lacks."""
