"""The ranks that torchrun started as one command: rank 0 prints, and one of them says what went wrong."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet.errors import KilonetError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_one() -> Iterator[None]:
    """Join the other ranks; all but rank 0 print nothing, and of an error one rank says what it is."""
    from kilonet import ranks

    with ranks.joined() as number:
        try:
            with _silent(number > 0):
                yield
            ranks.part()
        except (KilonetError, OSError):
            if not ranks.speaks():
                sys.exit(1)
            raise
        except KeyboardInterrupt:
            if not ranks.speaks():
                sys.exit(130)
            raise


def is_first() -> bool:
    """Whether torchrun started this process as rank 0, or did not start it."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Print nothing for a while, if that is wanted."""
    with ExitStack() as opened:
        if wanted:
            nowhere = opened.enter_context(Path(os.devnull).open("w"))
            opened.enter_context(redirect_stdout(nowhere))
            opened.enter_context(redirect_stderr(nowhere))
        yield
