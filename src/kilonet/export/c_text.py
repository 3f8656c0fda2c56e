"""Pieces of C: identifiers, literals and arrays, and the parts that files are put together from."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = Path(__file__).parent / "c_parts"
LONGEST_STRING = 1000
STANDARD = re.compile(r"\d|int|uint|size|ptrdiff|wchar|wint|sig|kn$|$")
"""Beginnings that would make names of C's own, or no name at all."""


def identifier(name: str) -> str:
    """A name as the beginning of C identifiers, in small letters."""
    found = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")[:40].rstrip("_")
    return f"net_{found}".rstrip("_") if STANDARD.match(found) else found


def comment(text: str) -> str:
    """A text from outside as part of a comment."""
    return re.sub(r"[^ 0-9A-Za-z._,()-]", "_", text)[:100]


def string(text: str) -> str:
    """A text from outside as a string literal in UTF-8; what is longer than C99 has to take is cut off."""
    data = text.encode("utf-8", "replace")
    if len(data) > LONGEST_STRING:
        data = data[:LONGEST_STRING].decode("utf-8", "ignore").encode() + b"..."
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + '"'


def number(value: float) -> str:
    """A number as a float literal that gives the same float32."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"


def array(kind: str, name: str, values: NDArray[np.generic]) -> str:
    """A constant array of float, or of an integer type."""
    flat = values.ravel().tolist()
    texts = [number(value) for value in flat] if kind == "float" else [str(value) for value in flat]
    by = {"float": 8, "int32_t": 9}.get(kind, 20)
    lines = (f"    {', '.join(texts[at : at + by])},\n" for at in range(0, len(texts), by))
    return f"static const {kind} {name}[{len(texts)}] = {{\n{''.join(lines)}}};\n\n"


def part(file: str, prefix: str, /, **slots: object) -> str:
    """One of the parts, its `kn_` and `KN_` made this prefix, its slots filled."""
    return Template(_renamed(file, prefix)).substitute(slots)


@cache
def _renamed(file: str, prefix: str) -> str:
    text = re.sub(r"\bkn_", f"{prefix}_", (PARTS / file).read_text())
    return re.sub(r"\bKN_", f"{prefix.upper()}_", text)
