"""What OpenML answers, looked at before scikit-learn sees it.

`fetch_openml` goes wherever the description of a data set sends it, to files of this machine as well, keeps what it
gets under a path made of the address, dots included, and unpacks it whatever it unpacks to.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tempfile
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kilonet.errors import DataError
from kilonet.files import printable
from kilonet.sources import packed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.request import OpenerDirector, Request

_HOSTS = ("openml.org", "www.openml.org", "api.openml.org", "data.openml.org", "old.openml.org", "test.openml.org")


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Let everything that `urllib` opens go through an `_Opener`."""
    before = getattr(urllib.request, "_opener", None)
    urllib.request.install_opener(_Opener(before or urllib.request.build_opener(), folder))  # type: ignore[arg-type]
    try:
        yield
    finally:
        urllib.request.install_opener(before)


class _Opener:
    """Opens what `fetch_openml` asks for, if it lies at OpenML, and looks at the answer before handing it on.

    Args:
        opener: what opens addresses otherwise.
        folder: where answers are kept while they are looked at.
    """

    def __init__(self, opener: OpenerDirector, folder: Path) -> None:
        self.opener = opener
        self.folder = folder

    def open(self, request: Request, data: None = None, timeout: Any = None) -> _Answer:
        """The answer to a request, as `OpenerDirector.open` gives it.

        Raises:
            DataError: if the address, or one in the answer, is not OpenML's, or the answer unpacks to too much.
        """
        _check_address(request.full_url)
        path = Path(tempfile.mkdtemp(dir=self.folder), "answer")
        with closing(self.opener.open(request, data, timeout)) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
        headers = response.info()
        is_packed = headers.get("Content-Encoding", "") == "gzip"
        if is_packed:
            packed.check_content(path, packed.TEXT_RATIO)
        if "/api/" in request.full_url:
            _check_description(gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes())
        return _Answer(path, headers)


class _Answer(io.FileIO):
    """An answer on the disk, packed as it came."""

    def __init__(self, path: Path, headers: Any) -> None:
        super().__init__(path)
        self.headers = headers

    def info(self) -> Any:
        """The headers that it came with."""
        return self.headers


def _check_description(content: bytes) -> None:
    """Hold the address of the data in a description of it, if the answer is one."""
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        _check_address(str(json.loads(content)["data_set_description"]["url"]))


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    inside = not {".", ".."} & set(parts.path.replace("\\", "/").split("/"))
    if parts.scheme not in ("http", "https") or parts.hostname not in _HOSTS or not inside:
        raise DataError(f"an answer of OpenML's leads elsewhere: {printable(address)[:160]}")
