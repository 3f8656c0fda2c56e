"""OpenML, through scikit-learn's `fetch_openml`, as the tutorial does it."""

from __future__ import annotations

import socket
import tempfile
import warnings
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

import numpy as np

from kilonet.arrays import from_arrays, natural
from kilonet.errors import DataError, FetchError
from kilonet.files import printable
from kilonet.sources import cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kilonet.images import ImageSet

TIMEOUT = 30.0
"""Seconds without a byte after which the network counts as gone."""
RETRIES = 2
"""Further tries after an answer of the network's that may pass."""

_HINT = "try again later, or give a path to IDX, .npz, .csv or class folders; mnist-5k and digits are always here"


def load(name: str) -> ImageSet:
    """A data set of OpenML by its name or number, cached.

    Raises:
        DataError: if its columns are no square images, or it has no class labels.
        FetchError: if it could not be had.
    """
    if not name:
        raise DataError("openml: needs a name or a number, such as openml:mnist_784 or openml:554")
    asked = {"data_id": int(name)} if name.isascii() and name.isdecimal() else {"name": name}
    return cache.get("openml", [[f"openml:{name.lower()}"]], lambda: fetch(**asked))


def fetch(**asked: Any) -> ImageSet:
    """A data set of OpenML, from scikit-learn's cache if that has it, else from the network.

    What is fetched goes to a folder that vanishes whatever happens: a failure leaves nothing behind.

    Args:
        **asked: `name` or `data_id`.

    Raises:
        DataError: if its columns are no square images, or it has no class labels.
        FetchError: if it could not be had.
    """
    from sklearn.datasets import fetch_openml, get_data_home

    what = f"openml:{printable(str(next(iter(asked.values()))))}"
    home = Path(get_data_home()) / "openml" / "openml.org" / "api" / "v1" / "json" / "data"
    with (
        tempfile.TemporaryDirectory(prefix="kilonet-") as temporary,
        _patience(TIMEOUT),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        kept = "data_id" in asked and (home / f"{asked['data_id']}.gz").exists()
        try:
            bunch = fetch_openml(
                **asked,
                as_frame=False,
                parser="auto",
                n_retries=RETRIES,
                data_home=None if kept else temporary,
            )
        except (HTTPError, URLError, HTTPException, OSError, EOFError) as error:
            raise FetchError(f"{what} could not be fetched: {_reason(error)}", _HINT) from None
        except Exception as error:
            raise FetchError(f"{what}: the answer won't do: {_reason(error)}", _HINT) from None
    return _to_images(bunch, what)


def _to_images(bunch: Any, what: str) -> ImageSet:
    if bunch.target is None or np.ndim(bunch.target) != 1:
        raise DataError(f"{what} has no single column of class labels")
    if not isinstance(bunch.data, np.ndarray):
        raise DataError(f"{what} is sparse: expected a table of pixels")
    labels = bunch.target
    if labels.dtype.kind in "OUS" and set(labels.tolist()) == {str(n) for n in range(len(set(labels.tolist())))}:
        labels = labels.astype(np.int64)
    data = from_arrays(bunch.data, labels, origin=what)
    if list(data.classes) != sorted(data.classes, key=natural):
        raise DataError(f"{what}: classes out of order")
    return data


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let every new connection give up after so many seconds without a byte; `fetch_openml` sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        reason = f"HTTP {error.code} {error.reason}"
        error.close()
        return reason
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, URLError):
        return f"no connection ({error.reason})"
    text = (str(error).splitlines() or [""])[0]
    if "md5 checksum" in text:
        return "its checksum does not match, so it was damaged on the way"
    if isinstance(error, (EOFError, HTTPException)):
        return f"the answer was cut short ({text or type(error).__name__})"
    return printable(text[:200]) or type(error).__name__
