"""Whatever won't do is refused in one line, with nothing written."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kilonet import cli

N = 30
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8), np.uint8)
LABELS = np.arange(N) % 3
TRAIN = ("train", "ok.npz", "--epochs", "1", "--model", "linear")
NET = """
import sys, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)
    def forward(self, images):
        found = self.linear(images.flatten(1))
        return """
MODELS = {
    "good": f"{NET}found",
    "syntax": "def (",
    "raises": "raise RuntimeError('first\\nsecond')",
    "leaves": "import sys; sys.exit(3)",
    "imports": "import there_is_no_such_module",
    "other": "class Net:\n    pass",
    "number": "Net = 5",
    "needs": "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width): super().__init__()",
    "leaves_late": "import sys\nclass Net:\n    def __init__(self): sys.exit(0)",
    "leaves_later": f"{NET}sys.exit(0)",
    "two_logits": f"{NET}found[:, :2]",
    "pair": f"{NET}(found, found)",
    "whole": f"{NET}found.long()",
    "cut_off": f"{NET}found.detach()",
    "fails_in_training": f"{NET}found if not self.training else 1 / 0",
}
RESULTS = "epoch,train_loss,val_loss,val_accuracy,lr,seconds\n"


def idx(array: np.ndarray, magic: bytes | None = None) -> bytes:
    head = magic or struct.pack(">HBB", 0, 8, array.ndim)
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def pair(name: str, images: bytes, labels: bytes) -> None:
    Path(name).mkdir()
    Path(name, "train-images-idx3-ubyte").write_bytes(images)
    Path(name, "train-labels-idx1-ubyte").write_bytes(labels)


def pictures(name: str, classes: str = "ab", count: int = 4) -> Path:
    for label in classes:
        Path(name, label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(IMAGES[i]).save(Path(name, label, f"{i}.png"))
    return Path(name)


def arrays(name: str, images: object = IMAGES, labels: object = LABELS) -> None:
    np.savez(f"{name}.npz", images=np.asarray(images), labels=np.asarray(labels))


def make_sources() -> None:
    arrays("ok")
    for name in ("junk.npz", "junk_images.npy", "junk_labels.npy", "junk.csv", "junk.csv.gz", "junk.png", "junk.gz"):
        Path(name).write_bytes(b"neither\xff nor\0" * 9)
    Path("cut.npz").write_bytes(Path("ok.npz").read_bytes()[:900])
    Path("empty.csv").touch()
    flat = np.column_stack([LABELS, IMAGES.reshape(N, -1)]).astype(str)
    for name, value in (("text", "x"), ("blank", ""), ("inf", "inf"), ("big", "256"), ("no", "")):
        table = flat.copy()
        table[3, 0 if name == "no" else 5] = value
        Path(f"{name}.csv").write_text("\n".join(map(",".join, table.tolist())))
    pair("magic", idx(IMAGES, b"\0\0\x08\x09"), idx(LABELS))
    pair("short", idx(IMAGES)[:-1], idx(LABELS))
    pair("long", idx(IMAGES) + b"0", idx(LABELS))
    pair("header", idx(IMAGES)[:9], idx(LABELS))
    pair("counts", idx(IMAGES), idx(LABELS[1:]))
    arrays("counts", labels=LABELS[1:])
    arrays("minus", labels=LABELS - 1)
    arrays("far", labels=np.where(LABELS == 2, 5000, LABELS))
    arrays("nan", IMAGES.astype(float) + np.where(IMAGES == 9, np.nan, 0))
    arrays("below", IMAGES.astype(int) - 1)
    arrays("odd", IMAGES.reshape(N, -1)[:, :63])
    arrays("none", IMAGES[:0], LABELS[:0])
    arrays("one-class", labels=LABELS * 0)
    arrays("tiny", IMAGES[:4], LABELS[:4])
    Path("empty").mkdir()
    pictures("single", "a")
    pictures("broken").joinpath("b", "2.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(pictures("mixed") / "b" / "3.png")
    pictures("hollow").joinpath("c").mkdir()


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of all sorts, model files, pictures, and runs to damage."""
    root = tmp_path_factory.mktemp("ground")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_sources()
        for name, text in MODELS.items():
            Path(f"{name}.py").write_text(f"{text}\n")
        for name, model in (("run", "linear"), ("own", "good.py:Net")):
            with pytest.raises(SystemExit, match="0"):
                cli.main(["train", "ok.npz", "--epochs", "1", "--model", model, "--name", name])
        for name in ("lonely", "config", "weights", "foreign", "results", "split"):
            shutil.copytree("runs/run", f"runs/{name}")
        Path("runs/lonely/config.toml").unlink()
        Path("runs/config/config.toml").write_text("model = [")
        Path("runs/results/results.csv").write_text(f"{RESULTS}1,x,,,0.1,1\n")
        Path("runs/split/state/split.npz").write_bytes(b"junk")
        weights = Path("runs/run/weights/best.safetensors").read_bytes()
        Path("runs/weights/weights/best.safetensors").write_bytes(weights[:-9])
        Path("runs/foreign/weights/best.safetensors").write_bytes(weights.replace(b"kilonet", b"another", 1))
        Image.fromarray(IMAGES[0]).save("one.png")
        Path("zero.png").touch()
        for name, array in (("scalar", np.array(3)), ("nine", np.zeros((1, 9, 9), np.uint8)), ("none", IMAGES[:0])):
            np.save(f"{name}.npy", array)
        shutil.copy("ok.npz", "zipped.npy")
    return root


@pytest.fixture(autouse=True)
def _own_ground(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ground, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(ground.parent / "cache-of-bad-input"))


def refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], *expected: str, status: int = 1) -> None:
    """Run a command that has to be refused: one line that says why, and nothing else, anywhere."""
    before = {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    told = capsys.readouterr()
    assert left.value.code == status, told.err
    assert told.out == ""
    lines = [line for line in told.err.splitlines() if not line.startswith("note: ")]
    assert [line.split(": ")[0] for line in lines] in (["error"], ["error", "hint"])
    for word in expected:
        assert word in told.err
    assert {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")} == before


@pytest.mark.parametrize(("source", "word"), [
    ("junk.npz", "junk.npz"), ("junk_images.npy", "junk_images.npy"), ("junk.csv", "junk.csv"), ("cut.npz", ".npz"),
    ("junk.csv.gz", "gzip"), ("junk.png", "junk.png"), ("junk.gz", "junk.gz"), ("empty.csv", "empty.csv"),
    ("text.csv", "'x'"), ("blank.csv", "missing"), ("inf.csv", "inf"), ("big.csv", "256"), ("no.csv", "label"),
    ("magic", "00000809"), ("short", "cut short"), ("long", "longer"), ("header", "header"), ("counts", "29 labels"),
    ("counts.npz", "29 labels"), ("minus.npz", "-1"), ("far.npz", "5000"), ("nan.npz", "nan"), ("below.npz", "-1"),
    ("odd.npz", "63"), ("none.npz", "no images"), ("one-class.npz", "one class"), ("tiny.npz", "images"),
    ("empty", "no pictures"), ("single", "one class"), ("broken", "2.png"), ("mixed", "3.png"), ("hollow", "is empty"),
    ("mnits", "did you mean mnist"), ("no/such", "no such file"), ("", "unknown source"), ("a\0b", "unknown source"),
])  # fmt: skip
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_data(capsys: pytest.CaptureFixture[str], source: str, word: str, json: tuple[str, ...]) -> None:
    refused(capsys, ("train", source, "--epochs", "1", *json), word)


@pytest.mark.parametrize(("words", "expected"), [
    ("dta", "data"), ("train --epcohs 3", "--epochs"), ("data --jsno", "--json"), ("plot --sho x", "--show"),
])  # fmt: skip
def test_unknown_commands_and_flags(capsys: pytest.CaptureFixture[str], words: str, expected: str) -> None:
    refused(capsys, tuple(words.split()), expected, status=2)


@pytest.mark.parametrize("setting", [
    "--epochs 0", "--epochs abc", "--epochs -1", "--epochs 1.5", "--epochs 9999999999999999999", "--lr nan", "--lr 0",
    "--lr -1", "--batch-size 0", "--batch-size 99999999999999999999", "--momentum 2", "--momentum 0.5", "--seeds 0",
    "--committee 0", "--committee 101", "--committee 1.5",
    "--threads 0", "--device cuda:99", "--device foo", "--device cpu:7", "--seed -1", "--optimizer adm",
    "--model liner", "--preset tutorial", "--split stndard", "--split 70/15", "--config no.toml", "--config ok.npz",
    "--project ok.npz", "--project /proc/no",
])  # fmt: skip
def test_settings(capsys: pytest.CaptureFixture[str], setting: str) -> None:
    flag, value = setting.split()
    model = () if flag == "--model" else ("--model", "linear")
    refused(
        capsys,
        ("train", "ok.npz", *model, flag, value),
        value if flag not in {"--lr", "--momentum"} else flag.strip("-"),
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "last", "a\\b", "a\nb", "x" * 300, "run"])
@pytest.mark.parametrize("project", ["runs", "new"])
def test_names(capsys: pytest.CaptureFixture[str], name: str, project: str) -> None:
    if (name, project) != ("run", "new"):
        refused(capsys, (*TRAIN, "--project", project, f"--name={name}"))


@pytest.mark.parametrize("model", [*sorted(MODELS.keys() - {"good"}), "no_file"])
def test_model_files(capsys: pytest.CaptureFixture[str], model: str) -> None:
    refused(capsys, (*TRAIN[:4], "--model", f"{model}.py:Net"), "Net" if model == "number" else "")


@pytest.mark.parametrize(("words", "expected"), [
    ("evaluate no-run", "no-run"), ("evaluate ok.npz", "ok.npz"), ("evaluate last --project none", "none"),
    ("evaluate lonely", "config.toml"), ("evaluate config", "TOML"), ("plot config", "TOML"), ("plot results", "csv"),
    ("evaluate weights", "best.safetensors"), ("evaluate foreign", "not this run's"), ("evaluate split", "split.npz"),
    ("evaluate split --data ok.npz", "split.npz"), ("evaluate own", "--model"), ("evaluate run --data digits", "class"),
    ("evaluate run --data mixed", "mixed"), ("evaluate own --model two_logits.py:Net", "logit"),
    ("evaluate own --model pair.py:Net", "logit"), ("train --config runs/own/config.toml", "--model"),
    ("predict run", "--data"), ("predict run one.png --data ok.npz", "not both"), ("predict run zero.png", "zero.png"),
    ("predict run no.png", "no.png"), ("predict run empty", "empty"), ("predict run scalar.npy", "scalar.npy"),
    ("predict run nine.npy", "9"), ("predict run one.png nine.npy", "9"), ("predict run none.npy", "no images"),
    ("predict run zipped.npy", "zipped.npy"), ("predict run --data ok.npz --index 30", "29"),
    ("predict own one.png", "--model"), ("predict own one.png --model two_logits.py:Net", "logit"),
])  # fmt: skip
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_runs(capsys: pytest.CaptureFixture[str], words: str, expected: str, json: tuple[str, ...]) -> None:
    refused(capsys, (*words.split(), *json), expected)


@pytest.mark.parametrize("target", ["/nonexistent/a.png", "a.txt", "empty", "ok.npz/a.png", "", "a\0.png"])
@pytest.mark.parametrize("command", ["data ok.npz", "evaluate run", "predict run one.png", "plot run"])
def test_targets(capsys: pytest.CaptureFixture[str], command: str, target: str) -> None:
    refused(capsys, (*command.split(), "--show", target))


@pytest.mark.parametrize("index", ["x", "30", "5-2", "1-", "", "1,,2", "²", "9" * 5000])
def test_rows(capsys: pytest.CaptureFixture[str], index: str) -> None:
    refused(capsys, ("data", "ok.npz", f"--index={index}"), "index")


@pytest.mark.parametrize("words", ["--repeats 0", "--threads 0", "ok.npz"])
def test_bench(capsys: pytest.CaptureFixture[str], words: str) -> None:
    refused(capsys, ("bench", *words.split()))
