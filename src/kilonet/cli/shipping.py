"""`export`: a model in the form that its user needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kilonet.cli.app import RUNS, answer, app
from kilonet.flags import Json, ModelFile, Project

if TYPE_CHECKING:
    from kilonet.export.ship import Export


@app.command
def export(
    run: str = "last", /, *, to: Literal["onnx", "html", "c"], out: Path | None = None, int8: bool = False,
    data: str | None = None, no_prove: bool = False, model: ModelFile = None, project: Project = RUNS,
    json: Json = False,
) -> None:  # fmt: skip
    """Write a model as ONNX, as one HTML page or as C, run that on all the test images, and keep it if it agrees.

    Parameters
    ----------
    run
        A run directory, one of its weight files, a name in the project, or last.
    to
        onnx; html, one file that opens by double click; or c, a .c and a .h.
    out
        Write to this file; into the folder exports of the run if not given.
    int8
        Write C in integers, for microcontrollers; up to 0.1 point of the validation images may be lost.
    data
        Prove with images of this source, not with the run's own.
    no_prove
        Keep what was written unproved, and say so.
    """
    from kilonet import shelf
    from kilonet.export import ship

    found = shelf.single(shelf.find(run, project))
    made = ship.export(found, to, out, int8=int8, source=data, model_file=model, prove=not no_prove)
    answer({"files": [str(file) for file in made.files], **made.proof}, json, lambda: _tell(made))


def _tell(made: Export) -> None:
    """An export's files, what it takes, and its proof."""
    from kilonet import display

    proof, facts = made.proof, made.facts
    for file in made.files:
        display.line(f"export    {file}  ({facts['bytes'][file.name]:,} bytes)")
    if "ram_bytes" in facts:
        whole = facts["flash_on_cortex_m4"]
        code = f" ({whole:,} with all code, on a Cortex-M4)" if whole else ""
        display.line(
            f"takes     {facts['weight_bytes']:,} bytes of flash for weights{code}, {facts['ram_bytes']:,} of RAM, "
            f"{facts['multiply_adds']:,} multiply-adds an image"
        )
    if not proof["proved"]:
        display.line(f"unproved  {proof['why']}")
        return
    n, same = proof["n"], proof["same_class"]
    display.line(f"proof     {proof['images']}: the same class for {same:,} of {n:,}, {proof['by']}")
    if "validation" not in proof:
        display.line(f"          logits within {proof['greatest_logit_difference']:.1g} of the model's")
    else:
        val = proof["validation"]
        right, before = val["correct"]["export"], val["correct"]["model"]
        display.line(f"          {val['n']:,} {val['images']}: {right:,} right, {before:,} by the model")
    right, before = proof["correct"]["export"], proof["correct"]["model"]
    display.line(
        f"accuracy  {display.percent(right / n)} ({right:,} of {n:,}), the model {display.percent(before / n)}"
    )
