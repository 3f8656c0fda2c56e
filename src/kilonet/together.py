"""A run of several ranks: planned alike by all, written by rank 0, and known again by a launch that was restarted."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kilonet import ranks, run
from kilonet.errors import ConfigError
from kilonet.models import file_checksum
from kilonet.rundir import Run
from kilonet.state import begin
from kilonet.stopping import on_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilonet.config import Config
    from kilonet.run import Plan, Say


def planned(config: Config) -> Plan:
    """The plan of a config, made by every rank, and the same on all.

    Raises:
        ConfigError: if the config asks for several trainings.
        RunError: if a rank has another version, other settings or other data than rank 0.
        KilonetError: as `run.plan` does.
    """
    check_one_net(len(config.numbers))
    made = ranks.on_all(partial(run.plan, config))
    _compare(made)
    return made


def check_one_net(nets: int) -> None:
    """Make sure that several ranks are to train one net.

    Raises:
        ConfigError: if not.
    """
    if ranks.size() > 1 and nets > 1:
        raise ConfigError(
            f"{ranks.size()} ranks train one net together, not the {nets} of --seeds or --committee",
            "without torchrun these go side by side on the cores",
        )


def prepared(found: Run | None, epochs: int | None, model_file: str | None, say: Say) -> Plan | None:
    """What `run.prepare` gives on rank 0, and on the others, which may not have the run, the plan of its config.

    Args:
        found: the run; rank 0 has it.
        epochs: as `run.prepare` has it.
        model_file: as `run.prepare` has it.
        say: as `run.prepare` has it.

    Raises:
        RunError: if a rank has another version or other data than rank 0.
        KilonetError: as `run.prepare` does.
    """
    made = ranks.on_all(lambda: None if found is None else run.prepare(found, epochs, model_file, say))
    config = ranks.tell(None if made is None else made.config)
    if config is None:
        return None
    made = ranks.on_all(lambda: made or run.plan(config, model_file))
    _compare(made)
    return made


def only_first(work: Callable[[], Run | None]) -> Run | None:
    """What some work gives, which rank 0 alone does; where it fails there, it fails on all."""
    return ranks.on_all(lambda: None if ranks.number() else work())


def help_out(made: Plan) -> None:
    """Train a run to its end as one of those ranks that write nothing.

    Raises:
        DivergedError, Interrupted: as `run.finish` does.
        LostError: if another rank does not answer.
    """
    with on_request() as stop, stop.later():
        state = begin(made.model, len(made.splits.train), made.config.training)
        run.train(state, made, None, lambda _: None, stop)


def launch() -> str:
    """What tells this launch of torchrun from any other on this host, whatever it restarts; empty without torchrun.

    torchrun's agent, the parent of its ranks, lives as long as the launch does.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    agent, began = os.getppid(), ""
    with suppress(OSError):
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {socket.gethostname()} {agent} {began}"


def begun(project: Path) -> Run | None:
    """The run that this launch began before torchrun restarted it, if it came to that."""
    if not (token := launch()):
        return None
    for path in project.glob("*/state/launch"):
        with suppress(OSError):
            if path.read_text() == token:
                return Run(path.parent.parent)
    return None


def start(made: Plan, project: Path, name: str | None) -> Run:
    """A new run directory, as `run.start` makes it, by which a restarted launch knows its run again."""
    token = launch()
    return run.start(made, project, name, **({"launch": token} if token else {}))


def _compare(made: Plan) -> None:
    """Make sure that all ranks have planned the same, by the same code, from the same data."""
    if ranks.size() == 1:
        return
    config = asdict(made.config)
    training = config.pop("training")
    settings = {**config, **training, "threads": None, "device": made.model.mean.device.type}
    facts = {"Kilonet version": version("kilonet"), "PyTorch version": torch.__version__, "Kilonet code": _code()}
    ranks.same(facts, "install the same version on every host")
    if made.model_file:
        settings["model's file"] = f"checksum {file_checksum(made.model_file)[:16]}"
    ranks.same(settings, "give every host the same command line")
    parts = {
        f"{name} part": f"{part['n']:,} images, checksum {part['sha256'][:16]}"
        for name, part in made.stock.parts.items()
    }
    ranks.same(parts, f"every host needs the same data under {made.config.source}")


def _code() -> str:
    """A checksum of Kilonet's own source, as 16 hex digits: two copies may differ and have the same version."""
    home = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
