"""Damage to bytes, to text and to JSON, drawn by Hypothesis."""

from __future__ import annotations

import copy
import functools
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

Draw = Any
"""What Hypothesis hands to a composite strategy: draws a value from a strategy."""

EXTREMES = (
    0,
    1,
    2,
    4,
    127,
    128,
    255,
    256,
    2**15 - 1,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)

_integers = functools.lru_cache(maxsize=4096)(st.integers)


def number(draw: Draw, low: int, high: int) -> int:
    """A whole number from `low` to `high`; the strategies are kept, since making them takes longer than drawing."""
    return int(draw(_integers(low, high)))


def pick(draw: Draw, options: Sequence[T]) -> T:
    """One of the options."""
    return options[number(draw, 0, len(options) - 1)]


NASTY_WORDS = (
    b"", b"0", b"-1", b"-0", b"1", b"256", b"2147483648", b"9223372036854775808", b"18446744073709551616", b"1e5", b"1e308",
    b"1e999", b"-1e999", b"5e-324", b"0.1", b"nan", b"NaN", b"inf", b"-Infinity", b"0x10", b"1_000", b"9" * 400,
    b"9" * 5000, b"null", b"None", b"true", b"false", b"[]", b"{}", b"''", b'""', b'"', b"'", b"\\", b"\\u0000", b"\0",
    b"\n", b"\r", b"\r\n", b"\x1b[31m", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xae",
    "۳".encode(), "²".encode(), b"%s%n", b"../../../../etc/passwd", b"file:///etc/passwd", b"__import__('os').system('id')",
    b"[" * 40, b"[" * 3000, b"{'a':" * 300, b'{"a":' * 2000, b"(" * 200, b"," * 50, b"a" * 70_000,
)  # fmt: skip


def mutated(data: bytes, words: Sequence[bytes] = (), most: int = 4) -> st.SearchStrategy[bytes]:
    """Bytes after one edit or a few, in which `words` may turn up."""
    return _edited(data, BYTE_EDITS, words, most)


def overwritten(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of the same number, some of them others."""
    return _edited(data, (_flip, _overwrite), (), 6).map(lambda new: new[: len(data)])


def mutated_text(data: bytes, words: Sequence[bytes] = NASTY_WORDS, most: int = 3) -> st.SearchStrategy[bytes]:
    """Text after edits of its words, its lines, its encoding, and at times of its bytes."""
    return _edited(data, TEXT_EDITS, words, most)


@st.composite
def _edited(draw: Draw, data: bytes, edits: Sequence[Edit], words: Sequence[bytes], most: int) -> bytes:
    for _ in range(number(draw, 1, most)):
        data = pick(draw, edits)(draw, data, words)
    return data


def place(draw: Draw, data: bytes) -> int:
    """A place in the data: anywhere, or near its beginning, where headers are."""
    end = len(data) if draw(st.booleans()) else min(len(data), 64)
    return int(number(draw, 0, end))


def extreme(draw: Draw, size: int | None = None) -> bytes:
    """A number at the edge of what such a field can hold, of 1, 2, 4 or 8 bytes, in either byte order."""
    size = size or pick(draw, [1, 2, 4, 8])
    value = pick(draw, EXTREMES) % 256**size
    order = pick(draw, ["little", "big"])
    return bytes(value.to_bytes(size, order))


_SOME_BYTES = st.binary(min_size=1, max_size=12)


def _flip(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    at = place(draw, data)
    return data[:at] + bytes(b ^ (1 << number(draw, 0, 7)) for b in data[at : at + 1]) + data[at + 1 :]


def _overwrite(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    at, new = place(draw, data), draw(_SOME_BYTES)
    return bytes(data[:at] + new + data[at + len(new) :])


def _overwrite_number(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    at, new = place(draw, data), extreme(draw)
    return data[:at] + new + data[at + len(new) :]


def _insert(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    at = place(draw, data)
    return bytes(data[:at] + draw(_SOME_BYTES) + data[at:])


def _insert_word(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    at = place(draw, data)
    return data[:at] + pick(draw, words or NASTY_WORDS) + data[at:]


def _cut_off(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    return data[: place(draw, data)]


def _cut_out(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    start, end = sorted((place(draw, data), place(draw, data)))
    return data[:start] + data[end:]


def _repeat(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    start, end = sorted((place(draw, data), place(draw, data)))
    return data[:end] + data[start:end] * pick(draw, [1, 2, 20]) + data[end:]


def _swap(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    a, b, c = sorted(place(draw, data) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _replace_word(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"[\w.+-]+", data[:20_000]))
    if not found:
        return _insert_word(draw, data, words)
    match = pick(draw, found)
    return data[: match.start()] + pick(draw, words or NASTY_WORDS) + data[match.end() :]


def _edit_lines(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    at = number(draw, 0, len(lines) - 1)
    change = pick(draw, ["drop", "double", "repeat", "swap", "empty"])
    if change == "swap":
        lines[at], lines[0] = lines[0], lines[at]
    else:
        lines[at : at + 1] = {"drop": 0, "double": 2, "repeat": 200}.get(change, 0) * lines[at : at + 1] or [b""]
    return b"\n".join(lines)


def _encode(draw: Draw, data: bytes, words: Sequence[bytes]) -> bytes:
    return data.decode("latin-1").encode(pick(draw, ["utf-16", "utf-32", "utf-8-sig", "utf-7", "utf-16-be"]))


BYTE_EDITS = (
    _flip, _overwrite, _overwrite_number, _overwrite_number, _insert, _insert_word, _cut_off, _cut_out, _repeat, _swap,
)  # fmt: skip
TEXT_EDITS = (_replace_word, _replace_word, _replace_word, _edit_lines, _insert_word, _encode, *BYTE_EDITS)

if TYPE_CHECKING:
    Edit = Callable[[Draw, bytes, Sequence[bytes]], bytes]


NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 256, 4096, 4097, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64, 10**30, 10**4000,
    0.5, -0.5, 1e308, float("nan"), float("inf"), float("-inf"), "", "0", "1", "-1", "nan", "a\nb", "\x1b[31m", "\0", "\u202e",
    "\ud800", "é" * 300, "x" * 70_000, "kilo-4k", "os.system", "../../x", "/etc/passwd", "file:///etc/passwd", [], {}, [[]], [0], [1, 2, 3],
    [0, 0], [-1, 5], {"a": 1}, [None], ["a"], ["a", "a"], [1e999], ["BOOL", "F4"], [1] * 1000, list("abcdefghij"),
)  # fmt: skip


@st.composite
def mutated_json(draw: Draw, data: bytes) -> bytes:
    """JSON in which values, keys and nesting were changed, and at times its text as well."""
    document = json.loads(data)
    for _ in range(number(draw, 1, 3)):
        document = _edit_json(draw, document)
    text = json.dumps(document).encode()
    if number(draw, 0, 4) == 0:
        text = draw(mutated_text(text))
    if number(draw, 0, 40) == 0:
        depth = pick(draw, [100, 900, 5_000, 100_000])
        text = b"[" * depth + text + b"]" * depth
    return text


def _edit_json(draw: Draw, document: Any) -> Any:
    """The document with one place changed: another value there, or a key gone, renamed or wrapped."""
    places = list(_walk(document))
    path = pick(draw, places)
    change = pick(draw, ["set", "set", "set", "drop", "rename", "wrap", "copy"])
    if not path:
        return [document] if change == "wrap" else document
    holder, key = _at(document, path[:-1]), path[-1]
    if change == "drop":
        del holder[key]
    elif change == "rename" and isinstance(holder, dict):
        holder[pick(draw, ["", "a", "__class__", "kilonet", str(key).upper()])] = holder.pop(key)
    elif change == "wrap":
        holder[key] = [holder[key]]
    elif change == "copy":
        holder[key] = copy.deepcopy(_at(document, pick(draw, places)))
    else:
        holder[key] = copy.deepcopy(pick(draw, NASTY_VALUES))
    return document


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def _walk(document: Any, path: tuple[Any, ...] = ()) -> Any:
    """The way to every place in a JSON document, the whole of it first; of long lists the first places alone."""
    yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _walk(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document[:12]):
            yield from _walk(value, (*path, index))
