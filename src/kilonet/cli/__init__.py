"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cyclopts import CycloptsError, UnknownCommandError, UnknownOptionError

from kilonet.cli import (  # noqa: F401  they register their commands
    checks,
    results,
    serving,
    shipping,
    sources,
    sweeping,
    training,
)
from kilonet.cli.app import app
from kilonet.cli.ranked import is_first
from kilonet.errors import Interrupted, KilonetError
from kilonet.stopping import on_request

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit.

    The status is 0; 2 for an unknown command or flag; 1 for anything else that won't do; 130 after Ctrl-C or SIGTERM.
    Where nobody reads on, as in `kilonet evaluate | head`, it is 1, without a word.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        with on_request():
            app(given, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
    except CycloptsError as error:
        status = 2 if isinstance(error, UnknownCommandError | UnknownOptionError) else 1
        _fail(str(error), None, status) if is_first() else sys.exit(status)
    except KilonetError as error:
        if debug:
            raise
        _fail(error.message, error.hint, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        what = f"{error.filename}: " if error.filename else ""
        _fail(f"{what}{error.strerror or error}", None, 1)
    except Interrupted as stopped:
        _fail(stopped.message, stopped.hint, 130)
    sys.exit(0)


def _fail(message: str, hint: str | None, status: int) -> None:
    from kilonet.files import printable

    sys.stderr.write(f"error: {printable(' '.join(message.split()))}\n")
    if hint:
        sys.stderr.write(f"hint: {printable(hint)}\n")
    sys.exit(status)
