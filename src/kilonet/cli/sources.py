"""`data` and `models`: what there is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kilonet.cli.app import answer, app
from kilonet.errors import ConfigError
from kilonet.flags import Json, Show, parse_rows


@app.command
def data(
    source: str | None = None, /, *, show: Show = None, index: str | None = None, to: Path | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """List the known data sources, or show one: its shape, classes, counts, origin and checksum.

    Parameters
    ----------
    source
        A known name, openml:NAME_OR_ID, or a path.
    index
        The rows to draw, such as 0 or 10-19; 25 examples over all classes if not given.
    to
        Write the source into this new folder, as files that can be larger than memory.
    """
    from kilonet import display, files, plots, sources

    if source is None and to is not None:
        raise ConfigError("--to without a source", "kilonet data SOURCE --to FOLDER")
    if source is None:
        known = sources.known()
        answer(known, json, lambda: display.table(["source", "what it is"], known.items()))
        return
    target = files.check_picture_target(show) if show else None
    found = sources.load(source) if to is None else sources.convert(source, to)
    rows = parse_rows(index, len(found)) if index is not None else None
    if target:
        plots.save(plots.examples(found, rows), target)
    shown: dict[str, Any] = {
        "source": source, "origin": found.origin, "n": len(found), "shape": list(found.shape),
        "test_from": found.test_from, "classes": dict(zip(found.classes, found.counts().tolist(), strict=True)),
        "sha256": found.sha256(), "notes": list(found.notes),
    }  # fmt: skip
    if to is not None:
        shown |= {"to": str(to), "bytes": sum(file.stat().st_size for file in to.iterdir())}
    if rows is not None:
        shown["labels"] = {row: found.classes[found.labels[row]] for row in rows}
    answer(shown, json, lambda: display.data(found))
    if to is not None and not json:
        display.line(f"\nwritten to {to}: {shown['bytes']:,} bytes; kilonet train {to}")
    if rows is not None and not json:
        display.line("\n" + "\n".join(f"row {row} is {label}" for row, label in shown["labels"].items()))


@app.command
def models(model: str | None = None, /, *, data: str | None = None, json: Json = False) -> None:
    """List the zoo, or work a model through layer by layer.

    Parameters
    ----------
    model
        A name of the zoo, or path/to/file.py:ClassName.
    data
        A source whose image size and classes the model is built for; 28x28x1 and ten classes if not given.
    """
    import numpy as np

    from kilonet import display
    from kilonet.images import ImageSet
    from kilonet.models import build
    from kilonet.sources import load
    from kilonet.summary import summarise
    from kilonet.zoo import ZOO

    if data is None:
        names = tuple("0123456789")
        example = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10), names)
    else:
        example = load(data)
    if model is not None:
        worked = summarise(build(model, example))
        answer(asdict(worked), json, lambda: display.summary(worked))
        return
    counts = {name: build(name, example).parameter_count() for name in ZOO}
    rows = [(name, f"{n:,}", f"{4 * n:,}", ZOO[name].about) for name, n in counts.items()]
    listed = [{"model": name, "parameters": n, "bytes": 4 * n, "about": ZOO[name].about} for name, n in counts.items()]
    answer(
        listed,
        json,
        lambda: display.table(["model", "parameters", "bytes", ""], rows, ["parameters", "bytes"]),
    )
