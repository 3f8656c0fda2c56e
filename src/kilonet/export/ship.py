"""An export written, proved and only then kept."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kilonet import files, sources
from kilonet.batches import Resident
from kilonet.config import weight_file
from kilonet.errors import ConfigError, KilonetError, RunError
from kilonet.evaluation import aligned, finite_logits
from kilonet.export import c, compiled, html, onnx
from kilonet.export.layers import plain_net
from kilonet.export.proof import MOST_LOST, TOLERANCE, Agreement, MissingToolError, compared
from kilonet.export.quantise import best
from kilonet.measuring import measured_images
from kilonet.seals import sha256_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.export.integers import QuantisedNet
    from kilonet.export.layers import Net
    from kilonet.images import ImageSet
    from kilonet.models import Classifier
    from kilonet.rundir import Run

Kind = Literal["onnx", "html", "c"]
FORMATS = {"onnx": onnx, "html": html, "c": c}
MOST = 10_000
"""Training images, at most, that stand in for validation images where there are none."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        files: the export's.
        facts: what it takes, by name: bytes, multiply-adds.
        proof: what `proof_file` holds: counts, differences, checksums; or why there is no proof.
        proof_file: beside the export.
    """

    files: tuple[Path, ...]
    facts: dict[str, Any]
    proof: dict[str, Any]
    proof_file: Path


@dataclass(frozen=True, eq=False)
class Images:
    """What an export is made and proved with.

    Attributes:
        measured: what the proof runs on, and what that is, for people; or None, and why.
        why: there are no images, if there are none.
        train, val: the training and the validation part, which an export in integers needs.
    """

    measured: tuple[ImageSet, str] | None
    why: str = ""
    train: ImageSet | None = None
    val: tuple[ImageSet, str] | None = None


def export(
    run: Run,
    to: Kind,
    path: Path | None = None,
    *,
    int8: bool = False,
    source: str | None = None,
    model_file: str | None = None,
    prove: bool = True,
) -> Export:
    """Write a trained model in another form, run what was written on all the test images, and keep it if it agrees.

    In floats every image must get the class that the trained model gives it, and logits within 1e-4; in integers at
    most 0.1 point of the validation images may be lost.

    Args:
        run: with the model.
        to: `onnx`, `html` or `c`.
        path: where to; in the run's folder `exports` if not given.
        int8: write C in integers.
        source: to take images from, if not from the run's own.
        model_file: `path/to/file.py:ClassName`, for a model of the user's own.
        prove: whether to run what was written.

    Returns:
        What was written; unproved, with the reason, where no images or no program to run it with are to be had.

    Raises:
        RunError: if the export disagrees with the model: no file is left then.
        ConfigError: if it can't be written there, or needs what is not installed.
        ModelError: if the model can't be written in this form.
        DataError: if `source` or, for `int8`, the run's images are not to be had.
    """
    if int8 and to != "c":
        raise ConfigError(f"--int8 with --to {to}: expected --to c", "integers are for microcontrollers")
    model = run.model(model_file)
    target = _target(run, model, to, path, int8=int8)
    images = _images(run, model, source, int8=int8) if prove or int8 else Images(None, "--no-prove")
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        facts = _write(model, to, folder / target.name, images, int8=int8)
        proof = _proved(model, to, folder / target.name, images, int8=int8) if prove else _unproved("--no-prove")
        described = _described(run, model, folder, proof, facts)
        return _kept(folder, target, facts, described)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _target(run: Run, model: Classifier, to: Kind, path: Path | None, *, int8: bool) -> Path:
    """Where an export goes, in a folder that is there."""
    if path is None:
        name = re.sub(r"[^A-Za-z0-9-]+", "-", model.name) + ("-int8" if int8 else "")
        name = name.replace("-", "_") if to == "c" else name
        folder = run.path / "exports" if run.is_directory() or run.weights is None else run.weights.parent
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.{to}"
    if path.suffix != f".{to}":
        raise ConfigError(f"can't write {to} to {files.printable(str(path))}: expected a name that ends in .{to}")
    files.check_name(path.name, "the export's name")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"can't write {path}", f"{path.parent} has to be a folder that you may write to")
    return path


def _images(run: Run, model: Classifier, source: str | None, *, int8: bool) -> Images:
    """The images for an export; in integers there must be some, to find the ranges of the maps with."""
    try:
        measured = measured_images(run, model, source)[:2]
        if not int8:
            return Images(measured)
        parts = _parts(run, model, source)
    except KilonetError as error:
        if source is not None or int8:
            raise
        return Images(None, f"the run's images are not to be had: {error.message}")
    train = parts["train"]
    few = train.take(np.linspace(0, len(train) - 1, min(MOST, len(train))).astype(np.int64))
    val = parts.get("val")
    return Images(measured, "", train, (val, "validation images") if val else (few, "training images: none validate"))


def _parts(run: Run, model: Classifier, source: str | None) -> dict[str, ImageSet]:
    """The training part and, if there is one, the validation part, of the run or of a source."""
    if source is not None:
        return aligned(sources.load(source), model.classes).split().parts()
    if not run.is_directory():
        raise RunError(
            "these weights lie in no run directory, so their training images are unknown", "give --data SOURCE"
        )
    found = {name: run.part(name) for name in ("train", "val")}
    return {name: part for name, part in found.items() if part is not None}


def _write(model: Classifier, to: Kind, path: Path, images: Images, *, int8: bool) -> dict[str, Any]:
    """Write an export; and say what it takes."""
    facts: dict[str, Any] = {}
    if to == "onnx":
        onnx.write(model, path)
    elif to == "html":
        files.write(path, html.page(model))
    else:
        plain = plain_net(model, "c")
        c.check(plain)
        net: Net | QuantisedNet = plain
        if int8 and images.train is not None and images.val is not None:
            net = best(plain, images.train.pixels, images.val[0])
        c.write(net, path, _example(model, images))
        facts = {**c.facts(net), "flash_on_cortex_m4": compiled.on_cortex_m4(path)}
    return {**facts, "bytes": {one.name: one.stat().st_size for one in sorted(path.parent.iterdir())}}


def _example(model: Classifier, images: Images) -> NDArray[np.uint8]:
    """An image for a self-test: of the first hundred that with the fewest lit pixels, but some; or a pattern."""
    if images.measured is not None:
        some = images.measured[0].images[:100]
        lit = np.count_nonzero(some.reshape(len(some), -1), axis=1)
        return np.asarray(some[np.where(lit > 0, lit, some[0].size + 1).argmin()])
    pixels = np.arange(np.prod(model.shape))
    return (pixels * pixels // 7 % 256).astype(np.uint8).reshape(model.shape)


def _proved(model: Classifier, to: Kind, path: Path, images: Images, *, int8: bool) -> dict[str, Any]:
    """The proof of a written export.

    Raises:
        RunError: if it disagrees with the model.
    """
    if images.measured is None:
        return _unproved(images.why)
    try:
        found = _agreement(model, to, path, *images.measured)
        validated = _agreement(model, to, path, *images.val) if int8 and images.val else None
    except MissingToolError as error:
        return _unproved(error.message)
    if validated is None:
        if not found.exact:
            raise _disagrees(path, found)
        return {"proved": True, "by": FORMATS[to].tool(), "tolerance": TOLERANCE, **found.document()}
    if validated.lost > MOST_LOST:
        raise RunError(
            f"{path.name} is not kept: in integers it loses {100 * validated.lost:.2f} points on {validated.n:,} "
            f"{validated.what}, more than {100 * MOST_LOST:.1f}: rows {_listed(validated.lost_rows)}",
            "export it in floats: leave out --int8",
        )
    return {
        "proved": True,
        "by": FORMATS[to].tool(),
        "most_lost": MOST_LOST,
        "lost": validated.lost,
        "validation": validated.document(),
        **found.document(),
    }


def _agreement(model: Classifier, to: Kind, path: Path, data: ImageSet, what: str) -> Agreement:
    trained = finite_logits(model, Resident.of(data, model.mean.device), 500, "torch")
    return compared(trained, FORMATS[to].logits(path, data.pixels), data, what)


def _disagrees(path: Path, found: Agreement) -> RunError:
    return RunError(
        f"{path.name} is not kept, for it disagrees with the model on {found.what}: the same class for "
        f"{found.same_class:,} of {found.n:,}, logits up to {found.greatest_difference:.2g} apart: "
        f"rows {_listed(found.differing)}",
        "please report this with the run's weights",
    )


def _listed(rows: NDArray[np.int64]) -> str:
    """The first rows, and how many there are besides."""
    more = len(rows) - 8
    return ", ".join(map(str, rows[:8].tolist())) + (f" and {more:,} more" if more > 0 else "")


def _unproved(why: str) -> dict[str, Any]:
    return {"proved": False, "why": why}


def _described(
    run: Run, model: Classifier, folder: Path, proof: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    """All that a proof file says."""
    weights = run.weights or run.path / weight_file(run.config)
    return {
        "export": {one.name: sha256_of(one) for one in sorted(folder.iterdir())},
        "model": {"name": model.name, "weights": weights.name, "sha256": sha256_of(weights)},
        "kilonet": version("kilonet"),
        **proof,
        "facts": facts,
    }


def _kept(folder: Path, target: Path, facts: dict[str, Any], proof: dict[str, Any]) -> Export:
    """Move an export to its place, and write its proof beside it; an older one's proof goes first."""
    proof_file = target.with_name(f"{target.name}.proof.json")
    proof_file.unlink(missing_ok=True)
    written = sorted(folder.iterdir())
    for one in written:
        one.replace(target.with_name(one.name))
    files.write(proof_file, json.dumps(proof, indent=2) + "\n")
    return Export(tuple(target.with_name(one.name) for one in written), facts, proof, proof_file)
