"""OpenML, through scikit-learn's `fetch_openml`, as the tutorial does it."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import warnings
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

import numpy as np

from kilonet.arrays import from_arrays
from kilonet.errors import DataError, FetchError
from kilonet.files import printable
from kilonet.sources import answers, cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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
    asked = {"data_id": int(name)} if name.isascii() and name.isdecimal() else {"name": quote(name, safe="")}
    return cache.get("openml", cache.Origin(f"openml:{name.lower()}"), lambda: fetch(**asked))


def fetch(**asked: Any) -> ImageSet:
    """A data set of OpenML, from scikit-learn's cache as far as that has it, else from the network.

    What is fetched goes to a folder that vanishes whatever happens: a failure leaves nothing behind. What
    scikit-learn keeps is linked into that folder, and so never changed.

    Args:
        **asked: `name` or `data_id`.

    Raises:
        DataError: if its columns are no square images, or it has no class labels.
        FetchError: if it could not be had.
    """
    from sklearn.datasets import fetch_openml

    what = f"openml:{printable(str(next(iter(asked.values()))))}"
    kept = Path(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")).expanduser() / "openml"
    with (
        tempfile.TemporaryDirectory(prefix="kilonet-") as temporary,
        tempfile.TemporaryDirectory(prefix="kilonet-") as kept_here,
        _patience(TIMEOUT),
        answers.guarded(Path(kept_here)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        with suppress(OSError):
            shutil.copytree(kept.absolute(), Path(temporary) / "openml", copy_function=os.symlink)
        try:
            bunch = fetch_openml(
                **asked,
                as_frame=False,
                parser="auto",
                n_retries=RETRIES,
                read_csv_kwargs={"dtype": None},  # scikit-learn 1.9 asks for categories, and stumbles over pandas 3.1's
                data_home=temporary,
            )
        except DataError as error:
            raise FetchError(f"{what}: the answer won't do: {error.message}", _HINT) from None
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
    return from_arrays(bunch.data, _names(bunch.target), origin=what)


def _names(labels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers and words, in ARFF's quotes or not, are names; in natural order 0 to 9 are themselves."""
    if labels.dtype.kind == "f":
        return labels
    return np.array([label.strip("'") if isinstance(label, str) else label for label in labels.tolist()], object)


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
