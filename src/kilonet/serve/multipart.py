"""The parts of a multipart body (RFC 2046, RFC 7578) that lies in memory, found by python-multipart."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kilonet.serve.limits import RefusedError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # what it logs is the sender's fault


def parts(body: bytes, content_type: str, most: int) -> list[memoryview]:
    """The contents of a body's parts, in their order, whatever their names.

    Args:
        body: the whole of it.
        content_type: with the boundary.
        most: parts.

    Raises:
        RefusedError: with 400 if it is no such body or was cut off, with 413 if it has too many parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "multipart/form-data without a boundary", "let your HTTP library write content-type")
    found = _Parts(memoryview(body), most)
    try:
        MultipartParser(boundary, found.callbacks()).write(body)
    except FormParserError as error:
        raise RefusedError(400, f"the multipart body is malformed: {error}") from None
    if not found.whole:
        raise RefusedError(400, "the multipart body is cut off")
    return found.listed


class _Parts:
    """What the parser finds in a body that it is given whole, so that each part's content comes in one piece."""

    def __init__(self, body: memoryview, most: int) -> None:
        self._body, self._most = body, most
        self.listed: list[memoryview] = []
        self.whole = False

    def callbacks(self) -> MultipartCallbacks:
        return {"on_part_begin": self._begin, "on_part_data": self._content, "on_end": self._end}

    def _begin(self) -> None:
        if len(self.listed) == self._most:
            raise RefusedError(413, f"more than {self._most:,} parts", "send several requests")
        self.listed.append(self._body[:0])

    def _content(self, _: bytes, start: int, end: int) -> None:
        self.listed[-1] = self._body[start:end]

    def _end(self) -> None:
        self.whole = True
