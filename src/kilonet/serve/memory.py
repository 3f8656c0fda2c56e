"""Memory that is given back once it is not used any more."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_memory_back() -> None:
    """Have the C library give large blocks back to the system as soon as they are freed, where it is GNU's.

    Otherwise it keeps ever larger ones for later once it has seen some, and a server stays as large as its worst hour.
    """
    mmap_threshold, trim_threshold = -3, -1
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 1 << 20)
        mallopt(trim_threshold, 1 << 20)
