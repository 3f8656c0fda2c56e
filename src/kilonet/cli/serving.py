"""`serve`: a run behind HTTP."""

from __future__ import annotations

import sys

from kilonet.cli.app import RUNS, app
from kilonet.errors import ConfigError
from kilonet.flags import ModelFile, Project, Whole


@app.command
def serve(
    run: str = "last", /, *, host: str = "127.0.0.1", port: Whole = 8000, model: ModelFile = None,
    project: Project = RUNS,
) -> None:  # fmt: skip
    """Serve a run: a page to draw on, and an API that predicts pictures; Ctrl-C or SIGTERM stops it.

    Parameters
    ----------
    run
        A run directory, one of its weight files, a name in the project, or last.
    host
        The address to listen on; with 0.0.0.0, whoever reaches this machine can use it.
    port
        The port; 0 for any that is free.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port {port} won't do: expected 0 to 65535")
    try:
        from kilonet.serve import packing, server
        from kilonet.serve.limits import Limits
        from kilonet.serve.packed import Native
    except ModuleNotFoundError as error:
        raise ConfigError(f"kilonet serve needs {error.name}", "pip install 'kilonet[serve]'") from None
    listening = server.listen(host, port)
    packed = packing.pack(run, project, model)
    where = server.address(listening, host)

    probabilities = Native(packed) if packed.nets else packing.by_torch(run, project, model)
    server.run(packed, probabilities, listening, host, Limits(), lambda: _say(f"{where}  (Ctrl-C stops it)"))
    _say("stopped")


def _say(what: str) -> None:
    sys.stdout.write(f"kilonet serve: {what}\n")
    sys.stdout.flush()
