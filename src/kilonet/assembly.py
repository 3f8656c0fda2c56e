"""A committee put together from the runs of its members, and measured as the one model that it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilonet import checkpoint, measuring
from kilonet.committee import Committee
from kilonet.run import make_folders, plan_again

if TYPE_CHECKING:
    from kilonet.config import Config
    from kilonet.rundir import Run


def put_together(run: Run, config: Config, parts: dict[str, Any], ended: list[Run], model_file: str | None) -> None:
    """Make one model of a committee's members, measure it, and mark the run as finished; one that is, is left alone.

    Its test part is read here.

    Args:
        run: the committee's.
        config: its config.
        parts: of its data, as its `config.toml` names them.
        ended: the runs of those members that were trained to their end, at least one.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.

    Raises:
        ModelError: if the model's file is needed.
        RunError: if the data has changed, or the weights of a member are damaged.
    """
    if run.finished() and not run.damaged():
        return
    made = plan_again(run, config, parts, model_file)
    run.unseal()
    make_folders(run, made)
    members = [member.model(model_file) for member in ended]
    checkpoint.save_model(Committee.of(members), run.path / "weights" / "committee.safetensors")
    model, n = run.model(model_file), len(ended)
    reports = measuring.measure_parts(run, model, made.splits, f"committee of {n} {config.model}")
    seconds = sum(member.metrics()["seconds"] for member in ended)
    measuring.write_metrics(run, model, config.training.epochs, seconds, reports, committee=n)
    run.seal()
