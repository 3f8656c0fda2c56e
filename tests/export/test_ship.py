"""Exports are run and held against the trained model, kept if they agree, and gone if they don't."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

import kilonet as kn
from kilonet import cli
from kilonet.export import onnx as to_onnx
from kilonet.export import ship
from kilonet.export.proof import MissingToolError, compared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

OWN = """
from torch import nn
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def forward(self, images):
        return self.layers(images).tanh()
"""


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a net trained on a file of images."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        data = kn.load("digits")
        np.savez(home / "some.npz", images=data.pixels[:, 0], labels=data.labels)
        assert run("train", "some.npz", "--model", "kilo-4k", "--epochs", "12", "--name", "net") == 0
        yield home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(home)
    yield
    shutil.rmtree(home / "runs/net/exports", ignore_errors=True)


def spoken(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(*words) == 1
    return capsys.readouterr().err


def exports() -> list[str]:
    folder = Path("runs/net/exports")
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_onnx_is_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    told = spoken(capsys, "export", "net", "--to", "onnx")
    assert told["files"] == ["runs/net/exports/kilo-4k.onnx"]
    assert exports() == ["kilo-4k.onnx", "kilo-4k.onnx.proof.json"]
    made = onnx.load(told["files"][0])
    onnx.checker.check_model(made, full_check=True)
    metadata = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(metadata["classes"]) == [str(i) for i in range(10)]
    assert json.loads(metadata["preparation"])["name"] == "resize"
    assert b".py" not in Path(told["files"][0]).read_bytes()

    model, data = kn.load_model(Path("runs/net/weights/best.safetensors")), kn.load("digits")
    session = onnxruntime.InferenceSession(told["files"][0], providers=["CPUExecutionProvider"])
    for n in (0, 1, 13):
        logits = session.run(None, {"images": data.images[:n]})[0]
        assert logits.shape == (n, 10)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, kn.Predictor(model).probabilities(data.images[:13]), atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "c"])
def test_the_proof_says_what_was_held_against_what(capsys: pytest.CaptureFixture[str], to: str) -> None:
    if to == "c" and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    told = spoken(capsys, "export", "net", "--to", to)
    proof = json.loads(Path(f"{told['files'][0]}.proof.json").read_text())
    metrics = json.loads(Path("runs/net/metrics.json").read_text())["test"]
    assert proof["proved"]
    assert proof["images"] == "its test part"
    assert (proof["n"], proof["same_class"], proof["correct"]["model"]) == (
        metrics["n"],
        metrics["n"],
        metrics["correct"],
    )
    assert 0 < proof["greatest_logit_difference"] < 1e-4
    weights = Path("runs/net/weights/best.safetensors").read_bytes()
    assert proof["model"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert proof["export"] == {
        Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in told["files"]
    }


def test_int8_is_measured_on_validation_images(capsys: pytest.CaptureFixture[str]) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    told = spoken(capsys, "export", "net", "--to", "c", "--int8")
    assert exports() == ["kilo_4k_int8.c", "kilo_4k_int8.c.proof.json", "kilo_4k_int8.h"]
    metrics = json.loads(Path("runs/net/metrics.json").read_text())
    assert told["validation"]["n"] == metrics["val"]["n"]
    assert told["validation"]["correct"]["model"] == metrics["val"]["correct"]
    assert told["n"] == metrics["test"]["n"]
    assert told["facts"]["weight_bytes"] < 4 * 3802


def another_net(model: kn.Classifier, path: Path) -> None:
    """What a broken exporter might write: the net with one weight changed."""
    weights = next(iter(model.net.parameters()))
    before = weights.data.clone()
    weights.data[0] += 0.5
    genuine(model, path)
    weights.data.copy_(before)


genuine = to_onnx.write


def test_an_export_that_disagrees_is_an_error_and_no_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("export", "net", "--to", "onnx") == 0
    kept = {name: (Path("runs/net/exports") / name).read_bytes() for name in exports()}
    monkeypatch.setattr(to_onnx, "write", another_net)
    said = refused(capsys, "export", "net", "--to", "onnx")
    assert "kilo-4k.onnx is not kept, for it disagrees with the model on its test part: the same class for" in said
    assert "apart" in said
    assert {name: (Path("runs/net/exports") / name).read_bytes() for name in exports()} == kept
    refused(capsys, "export", "net", "--to", "onnx", "--out", "other.onnx")
    assert not list(Path.cwd().glob("*other*"))
    assert not list(Path.cwd().glob(".*"))


def test_int8_that_loses_too_much_is_not_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    monkeypatch.setattr(ship, "MOST_LOST", -1.0)
    assert "in integers it loses" in refused(capsys, "export", "net", "--to", "c", "--int8")
    assert exports() == []


def logits(*rows: list[float]) -> NDArray[np.float64]:
    return np.array(rows, np.float64)


@pytest.mark.parametrize(
    ("exported", "same", "exact"),
    [
        (logits([1.00009, 0], [0, 2]), 2, True),
        (logits([1.00011, 0], [0, 2]), 2, False),
        (logits([np.nan, 0], [0, 2]), 1, False),
        (logits([np.inf, 0], [0, 2]), 1, False),
        (logits([1, 0], [2, 0]), 1, False),
        (logits([1, 0, 0], [0, 2, 0]), 0, False),
        (logits([1, 0]), 0, False),
    ],
)
def test_any_disagreement_counts(exported: NDArray[np.float64], same: int, exact: bool) -> None:
    data = kn.from_arrays(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]))
    found = compared(logits([1, 0], [0, 2]), exported, data, "two images")
    assert (found.same_class, found.exact) == (same, exact)
    assert len(found.differing) >= 2 - same
    assert (len(found.differing) == 0) == exact
    json.dumps(found.document(), allow_nan=False)


def test_where_the_data_is_gone_it_is_unproved_or_proved_with_other_images(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "some.npz").rename(home / "away.npz")
    try:
        told = spoken(capsys, "export", "net", "--to", "onnx")
        assert not told["proved"]
        assert "some.npz" in told["why"]
        assert run("export", "net", "--to", "onnx") == 0
        assert "unproved  the run's images are not to be had" in capsys.readouterr().out
        assert "some.npz" in refused(capsys, "export", "net", "--to", "c", "--int8")
        told = spoken(capsys, "export", "net", "--to", "onnx", "--data", "digits")
        assert (told["proved"], told["images"], told["n"]) == (True, "all of digits", 1797)
    finally:
        (home / "away.npz").rename(home / "some.npz")


def test_without_the_program_that_runs_it_it_is_unproved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    told = spoken(capsys, "export", "net", "--to", "c")
    assert not told["proved"]
    assert "no-such-compiler" in told["why"]

    def missing(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        raise MissingToolError("onnxruntime is not installed")

    monkeypatch.setattr(to_onnx, "logits", missing)
    assert spoken(capsys, "export", "net", "--to", "onnx")["why"] == "onnxruntime is not installed"


def test_no_prove_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = spoken(capsys, "export", "net", "--to", "onnx", "--no-prove")
    assert (told["proved"], told["why"]) == (False, "--no-prove")
    assert not json.loads(Path("runs/net/exports/kilo-4k.onnx.proof.json").read_text())["proved"]


def test_weights_that_lie_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone" / "net.safetensors"
    alone.parent.mkdir()
    shutil.copy("runs/net/weights/best.safetensors", alone)
    told = spoken(capsys, "export", str(alone), "--to", "onnx")
    assert told["files"] == [str(alone.with_name("kilo-4k.onnx"))]
    assert "no run directory" in told["why"]
    assert spoken(capsys, "export", str(alone), "--to", "onnx", "--data", "some.npz")["proved"]
    assert "no run directory" in refused(capsys, "export", str(alone), "--to", "c", "--int8")


def test_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = f"{tmp_path / 'own.py'}:Own"
    assert run("train", "some.npz", "--model", own, "--epochs", "1", "--name", "own", "--project", str(tmp_path)) == 0
    words = ("export", str(tmp_path / "own"), "--model", own, "--to")
    assert spoken(capsys, *words, "onnx")["proved"]
    for to in ("c", "html"):
        assert f"Own can't be written as {to}: layer Own" in refused(capsys, *words, to)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "onnx", "--int8"), "--int8 with --to onnx: expected --to c"),
        (("--to", "onnx", "--out", "a.html"), "can't write onnx to a.html: expected a name that ends in .onnx"),
        (("--to", "onnx", "--out", "no/such/a.onnx"), "can't write no/such/a.onnx"),
        (("--to", "c", "--out", 'a".c'), "can't"),
        (("--to", "onnx", "--data", "no-such-source"), "no-such-source"),
        (("--to", "onnx", "--data", "mnist-5k"), "the model takes"),
        (("--to", "exe"), "exe"),
        ((), "--to"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    said = refused(capsys, "export", "net", *words)
    assert message in said
    assert said.count("error:") == 1
    assert exports() == []


def test_out_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "digits.onnx"
    assert spoken(capsys, "export", "net", "--to", "onnx", "--out", str(target))["files"] == [str(target)]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["digits.onnx", "digits.onnx.proof.json"]
