"""Damage that knows what a format is built of: headers that lie, members with right checksums, chunks out of order."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from fuzz.edits import EXTREMES, Draw, extreme, mutated, mutated_json, number, overwritten, pick
from kilonet.seals import seal_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@st.composite
def mutated_gzip(draw: Draw, content: st.SearchStrategy[bytes]) -> bytes:
    """Gzip of damaged content, or a damaged gzip file: header, deflate stream, checksum, declared size, members."""
    packed = gzip.compress(draw(content), pick(draw, [1, 9]), mtime=0)
    change = pick(draw, ["none", "none", "bytes", "trailer", "flags", "members", "empty members", "junk"])
    if change == "bytes":
        return bytes(draw(mutated(packed)))
    if change == "trailer":
        at = len(packed) - pick(draw, [4, 8])
        return packed[:at] + extreme(draw, 4) + packed[at + 4 :]
    if change == "flags":
        return bytes(packed[:3] + draw(st.binary(min_size=1, max_size=1)) + packed[4:])
    if change == "members":
        return packed * number(draw, 2, 3)
    if change == "empty members":
        return gzip.compress(b"", mtime=0) * pick(draw, [1, 500]) + packed
    return packed + (b"\0" * 300 + draw(st.binary(max_size=20)) if change == "junk" else b"")


@st.composite
def mutated_idx(draw: Draw, data: bytes) -> bytes:
    """IDX with another type, another count of dimensions, dimensions at their extremes, other values, or any damage."""
    start = 4 + 4 * data[3]
    change = pick(draw, ["type", "rank", "size", "size", "values", "values", "bytes"])
    if change == "values":
        return data[:start] + bytes(draw(overwritten(data[start:])))
    if change == "type":
        return data[:2] + bytes([pick(draw, [8, 9, 11, 12, 13, 14, 0, 10, 15, 255])]) + data[3:]
    if change == "rank":
        rank = pick(draw, [0, 1, 2, 3, 4, 5, 8, 64, 255])
        sizes = b"".join(extreme(draw, 4) for _ in range(min(rank, 8)))
        return data[:3] + bytes([rank]) + sizes + data[start:]
    if change == "size":
        at = 4 + 4 * number(draw, 0, data[3] - 1)
        return data[:at] + extreme(draw, 4) + data[at + 4 :]
    return bytes(draw(mutated(data)))


_DESCRIPTIONS = (
    "'|u1'", "'|i1'", "'<u2'", "'>i4'", "'<i8'", "'<f2'", "'<f4'", "'>f8'", "'<f16'", "'|b1'", "'<c8'", "'|O'", "'O'", "'|S0'", "'<U0'",
    "'|V0'", "'|S3'", "'<U3'", "'|V5'", "'<M8[s]'", "'<m8'", "'<U268435455'", "'|S2147483647'", "'<q'", "'u1,u1'", "'(3,)u1'", "'(0,)u1'",
    "'(100000,100000)u1'", "[('a', '|u1')]", "[('a', '|u1'), ('a', '|u1')]", "[('a', '|O')]", "[('a', '|u1', (2, 2))]", "[]", "{}", "None",
    "('|u1', (2,))", "'\\x00'", "'float'", "'object'", "b'|u1'", "5", "'|T'", "'StringDType'",
)  # fmt: skip
_SIZES = (*map(str, EXTREMES), "-1", "4", "5", "12", "True", "'a'", "1.5", "None", "2**40", "1" * 300)
_SHAPES = (
    "()",
    "(,)",
    "[12, 4, 5]",
    "12",
    "(" * 150 + ")" * 150,
    "((12,),)",
    "(" + "1, " * 40 + ")",
    "lambda: 0",
    "os.system('id')",
)


_NPY_CHANGES = (
    "type", "shape", "shape", "sizes", "both", "order", "text", "version", "length", "values", "values", "bytes",
)  # fmt: skip
_NPY_WORDS = (b"{", b"}", b"'", b"(", b"L", b"# ", b"\n ", b"\0", b" " * 70_000, b"[" * 2000, b"'\\", b"-" * 3000)


@st.composite
def mutated_npy(draw: Draw, data: bytes) -> bytes:
    """An `.npy` file with a header that lies about type, shape, order, version or its own length; else damaged bytes."""
    length = struct.unpack("<H", data[8:10])[0]
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    description, rest = header.split("'fortran_order'")
    order, shape = "False", rest.split("'shape':")[1].split(")")[0].strip() + ")"
    change = pick(draw, _NPY_CHANGES)
    if change == "values":
        return data[: 10 + length] + bytes(draw(overwritten(body)))
    if change == "bytes":
        return bytes(draw(mutated(data)))
    if change in ("type", "both"):
        description = f"{{'descr': {pick(draw, _DESCRIPTIONS)}, "
    if change in ("shape", "both"):
        sizes = draw(st.lists(st.sampled_from(_SIZES), max_size=5))
        shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    if change == "sizes":
        shape = pick(draw, _SHAPES)
    if change == "order":
        order = pick(draw, ["True", "1", "None", "'x'"])
    text = f"{description}'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1", "replace")
    if change == "text":
        text = draw(mutated(text, _NPY_WORDS))
    version = pick(draw, [b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\4\0", b"\xff\xff"]) if change == "version" else b"\1\0"
    wide = version in (b"\2\0", b"\3\0")
    said = pick(draw, EXTREMES) if change == "length" else len(text)
    return data[:6] + version + struct.pack("<I" if wide else "<H", said % 2 ** (32 if wide else 16)) + text + body


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_NAMES = (
    "images.npy",
    "IMAGES.npy",
    "labels.npy",
    "labels",
    "x",
    "",
    "../../x.npy",
    "/etc/x.npy",
    "a\x1b[31m.npy",
    "é.npy",
    "x/",
    "arr_0.npy",
)
_RECORDS = {b"PK\3\4": 30, b"PK\1\2": 46, b"PK\5\6": 22}
"""The records of a zip archive that are full of numbers, and their length in bytes."""


@st.composite
def mutated_zip(draw: Draw, data: bytes) -> bytes:
    """An archive packed anew around damaged members, with right checksums; or one whose own fields and bytes lie."""
    change = pick(draw, ["members", "members", "members", "method", "names", "fields", "fields", "bytes"])
    if change == "bytes":
        return bytes(draw(mutated(data)))
    if change == "fields":
        return _with_wrong_field(draw, data)
    method = pick(draw, _METHODS) if change == "method" else zipfile.ZIP_DEFLATED
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", method) as new:
        members = [(name, old.read(name)) for name in old.namelist()]
        at = number(draw, 0, len(members) - 1)
        name, content = members[at]
        if change == "members":
            members[at] = (name, draw(mutated_npy(content)))
        elif change == "names":
            members[at] = (pick(draw, _NAMES), content)
        elif draw(st.booleans()):
            members.append(("note.txt", b"hello"))
        for name, content in members:
            if name not in new.namelist():
                new.writestr(zipfile.ZipInfo(name or "x"), content, method)
    return packed.getvalue()


def _with_wrong_field(draw: Draw, data: bytes) -> bytes:
    starts = [(at, size) for mark, size in _RECORDS.items() for at in _all(data, mark)]
    start, size = pick(draw, starts)
    at = start + 4 + 2 * number(draw, 0, (size - 6) // 2)
    new = extreme(draw, pick(draw, [2, 4]))
    return data[:at] + new + data[at + len(new) :]


def _all(data: bytes, mark: bytes) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(mark, at)]


_CHUNKS = (
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"cHRM",
    b"sRGB", b"pHYs", b"tIME", b"bKGD", b"xxxx", b"\0\0\0\0",
)  # fmt: skip


@st.composite
def mutated_png(draw: Draw, data: bytes) -> bytes:
    """A PNG with chunks damaged, dropped, doubled, moved or put in, their checksums right; else damaged bytes."""
    chunks = _chunks(data)
    if not chunks:
        return bytes(draw(mutated(data)))
    for _ in range(number(draw, 1, 3)):
        at = number(draw, 0, len(chunks) - 1)
        kind, content = chunks[at]
        change = draw(
            st.sampled_from(["header", "header", "content", "picture", "drop", "double", "swap", "new", "rename"])
        )
        if change == "header" and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
            where, size = pick(draw, [(0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1)])
            head = chunks[0][1]
            chunks[0] = (b"IHDR", head[:where] + extreme(draw, size) + head[where + size :])
        elif change == "picture" and kind == b"IDAT":
            chunks[at] = (kind, zlib.compress(draw(mutated(_inflated(content)))))
        elif change == "drop" and len(chunks) > 1:
            del chunks[at]
        elif change == "double":
            chunks.insert(at, (kind, content))
        elif change == "swap":
            chunks[at], chunks[-1] = chunks[-1], chunks[at]
        elif change == "new":
            chunks.insert(at, (pick(draw, _CHUNKS), draw(_chunk_content())))
        elif change == "rename":
            chunks[at] = (pick(draw, _CHUNKS), content)
        else:
            chunks[at] = (kind, draw(mutated(content)))
    whole = data[:8] + b"".join(_chunk(kind, content) for kind, content in chunks)
    return draw(mutated(whole)) if number(draw, 0, 4) == 0 else whole


def _chunk_content() -> st.SearchStrategy[bytes]:
    texts = [b"key\0\0" + zlib.compress(b"\0" * size) for size in (10, 2_000_000)]
    return st.one_of(st.binary(max_size=40), st.sampled_from([*texts, b"key\0\1\0\0\0" + texts[1][5:], b"\0" * 26]))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompress(content)
    except zlib.error:
        return content


@st.composite
def mutated_safetensors(draw: Draw, data: bytes) -> bytes:
    """A weight file with damage in its header, in the description inside that, in its values, its lengths, or anywhere.

    Its checksum is made right, mostly: whoever writes a hostile file can do that, too.
    """
    size = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + size], data[8 + size :]
    change = pick(draw, ["header", "description", "description", "description", "values", "length", "bytes"])
    if change == "bytes":
        return bytes(draw(mutated(data)))
    if change == "length":
        return extreme(draw, 8) + header + body
    if change == "values":
        body = draw(overwritten(body))
    elif change == "header":
        header = draw(mutated_json(header))
    else:
        document = json.loads(header)
        text = draw(mutated_json(document["__metadata__"]["kilonet"].encode()))
        document["__metadata__"]["kilonet"] = text.decode("utf-8", "replace")
        header = json.dumps(document, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    whole = struct.pack("<Q", len(header)) + header + body
    return _resealed(whole) if number(draw, 0, 9) else whole


@st.composite
def mutated_marks(draw: Draw, data: bytes) -> bytes:
    """A small JSON file of a run's with damage in it; where it carries a checksum, that is made right, mostly."""
    text = bytes(draw(mutated_json(data)))
    try:
        document = json.loads(text)
        document["sha256"] = seal_of(document["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    return json.dumps(document).encode() if number(draw, 0, 9) else text


def _resealed(data: bytes) -> bytes:
    """The file with the checksum that it should have, if there is still a place for one."""
    found = re.search(rb'\\"sha256\\": \\"([0-9a-f]{64})', data)
    if found is None:
        return data
    before, after = data[: found.start(1)], data[found.end(1) :]
    return before + hashlib.sha256(before + b"0" * 64 + after).hexdigest().encode() + after


@st.composite
def spliced(draw: Draw, files: Sequence[bytes]) -> bytes:
    """The beginning of one valid file and the end of another."""
    first, second = pick(draw, files), pick(draw, files)
    return bytes(first[: number(draw, 0, len(first))] + second[number(draw, 0, len(second)) :])
