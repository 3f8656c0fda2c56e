"""The parts of a multipart body (RFC 2046, RFC 7578) that lies in memory."""

from __future__ import annotations

import re

from kilonet.serve.limits import RefusedError

_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s";,]{1,70}))[ \t]*(?:;|$)', re.IGNORECASE)
_MOST_HEADERS = 8 << 10
"""Bytes of a part's headers."""


def parts(body: bytes, content_type: str, most: int) -> list[memoryview]:
    """The contents of a body's parts, in their order, whatever their names.

    Args:
        body: the whole of it.
        content_type: with the boundary.
        most: parts.

    Raises:
        RefusedError: with 400 if it is no such body or was cut off, with 413 if it has too many parts.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise RefusedError(400, "multipart/form-data without a boundary", "let your HTTP library write content-type")
    delimiter = b"--" + (found[1] or found[2]).encode("latin-1")
    body = body if body.startswith(delimiter) else _without_preamble(body, delimiter)
    between = b"\r\n" + delimiter
    if body.count(between) > most + 1:
        raise RefusedError(413, f"more than {most:,} parts", "send several requests")
    view, listed, at = memoryview(body), list[memoryview](), len(delimiter)
    while True:
        line = body.find(b"\r\n", at)
        if body[at : at + 2] == b"--":
            return listed
        if line < 0 or body[at:line].strip(b" \t"):
            raise RefusedError(400, "the multipart body is malformed or cut off")
        start, end = _after_headers(body, line), body.find(between, line)
        if end < 0 or start > end + 2:
            raise RefusedError(400, "the multipart body is malformed or cut off")
        listed.append(view[start:end])
        at = end + len(between)


def _without_preamble(body: bytes, delimiter: bytes) -> bytes:
    at = body.find(b"\r\n" + delimiter)
    if at < 0:
        raise RefusedError(400, "the multipart body does not begin with its boundary")
    return body[at + 2 :]


def _after_headers(body: bytes, line: int) -> int:
    """Where a part's content begins, of which the boundary's line ends at `line`."""
    if body[line + 2 : line + 4] == b"\r\n":
        return line + 4
    end = body.find(b"\r\n\r\n", line, line + _MOST_HEADERS)
    if end < 0:
        raise RefusedError(400, f"a part's headers don't end, or have more than {_MOST_HEADERS:,} bytes")
    return end + 4
