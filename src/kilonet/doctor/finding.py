"""`Finding`: one thing that is wrong, with its evidence and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with data, a run or a machine.

    Attributes:
        name: a word that stays the same between versions, such as `duplicates`.
        what: what was found, and how much of it, in one line.
        why: why it matters, in one line.
        advice: a concrete thing to do, in one line.
        rows: the rows of the source that it is about, all of them, where it is about images.
        evidence: the figures behind it, fit for JSON.
    """

    name: str
    what: str
    why: str
    advice: str
    rows: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
