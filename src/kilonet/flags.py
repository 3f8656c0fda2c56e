"""Flags that several commands share, and those made from the settings' dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse_from_object

from kilonet.config import Training
from kilonet.errors import ConfigError


def _whole(_: Any, tokens: Sequence[Any]) -> int:
    """A whole number, where the parser would round 1.5."""
    return int(tokens[0].value)


Whole = Annotated[int, Parameter(converter=_whole)]


def _as_flags(cls: type) -> Any:
    """A dataclass like another, its fields all optional, each helped by the docstring under it."""
    helps = {p.arg_name: p.description or "" for p in parse_from_object(cls).params}
    hints = get_type_hints(cls)
    flags = [
        (
            f.name,
            Annotated[
                hints[f.name] | None,
                Parameter(help=f"{helps[f.name]} [default: {f.default}]"),
                *([Parameter(converter=_whole)] if int in (hints[f.name], *get_args(hints[f.name])) else []),
            ],
            field(default=None),
        )
        for f in fields(cls)
    ]
    return make_dataclass(f"{cls.__name__}Flags", flags, frozen=True, kw_only=True, namespace={"__module__": __name__})


if TYPE_CHECKING:
    TrainingFlags = Training
else:
    TrainingFlags = _as_flags(Training)

Project = Annotated[Path, Parameter(help="Folder of the runs.")]
Json = Annotated[bool, Parameter(help="Print one JSON document and nothing else.")]
ModelFile = Annotated[str | None, Parameter(help="path/to/file.py:ClassName, for a run of a model of your own.")]
Show = Annotated[Path | None, Parameter(help="Draw to this .png, .pdf or .svg.")]


def parse_rows(index: str, n: int) -> list[int]:
    """Rows from a text such as `7`, `50000-50008` or `1,5,9-11`, of a source with n rows.

    Raises:
        ConfigError: for another text, or rows that are not there.
    """
    rows: list[int] = []
    for part in index.split(","):
        first, dash, last = part.strip().partition("-")
        words = [first, last] if dash else [first]
        if not all(word.isascii() and word.isdecimal() and len(word) < 18 for word in words):
            raise ConfigError(f"index {index!r} won't do: expected rows such as 7, 1,5 or 50000-50008")
        start, stop = int(first), int(last or first)
        if stop >= n or start > stop:
            raise ConfigError(f"index {part.strip()} won't do: expected rows from 0 to {n - 1}")
        if stop - start >= 10_000:
            raise ConfigError(f"index {part.strip()} names {stop - start + 1:,} rows: expected at most 10,000")
        rows += range(start, stop + 1)
    return rows
