"""Files of a run's that fuzzing found to be read wrongly, each kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fuzz.guard import frugal
from kilonet import checkpoint, config, files
from kilonet.errors import ConfigError, DataError, RunError
from kilonet.sources import npyfile

DESCRIPTION: dict[str, Any] = {
    "model": "linear", "zoo": True, "raw": False, "shape": [1, 2, 2], "classes": ["a", "b"], "preparation": "resize",
    "mean": [0.0], "std": [255.0],
}  # fmt: skip
TENSORS = {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}


def test_the_weights_that_are_changed_below_can_be_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "some.safetensors", TENSORS, DESCRIPTION)
    assert checkpoint.load_model(tmp_path / "some.safetensors").shape == (1, 2, 2)


@pytest.mark.parametrize("changed", [{"classes": []}, {"mean": [0.0] * 3}, {"std": [1.0] * 3}, {"mean": []}])
def test_a_description_that_contradicts_itself_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "some.safetensors", TENSORS, {**DESCRIPTION, **changed})
    with pytest.raises(RunError):
        checkpoint.load_model(tmp_path / "some.safetensors")


def test_a_checksum_that_is_no_text_is_damage(tmp_path: Path) -> None:
    content = checkpoint.sealed(TENSORS, DESCRIPTION)
    at = content.index(b'sha256\\": \\"') + 12
    files.write(tmp_path / "some.safetensors", content[:at] + rb"\\ud800" + content[at + 7 :])
    with pytest.raises(RunError, match="damaged"):
        checkpoint.read(tmp_path / "some.safetensors")


def test_a_number_too_long_to_read_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("seeds = " + "9" * 5000)
    with pytest.raises(ConfigError, match="is not TOML"):
        config.read_toml(tmp_path / "config.toml")


def test_a_whole_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("save_every = 1" + "0" * 400)
    with pytest.raises(ConfigError, match="expected a number"):
        config.read_toml(tmp_path / "config.toml")


def test_a_long_broken_header_is_refused_at_once(tmp_path: Path) -> None:
    header = b"{'descr': '<u8', 'f" + b"\n(" * 3000
    (tmp_path / "some.npy").write_bytes(b"\x93NUMPY\x02\0" + len(header).to_bytes(4, "little") + header)
    with frugal(seconds=0.5), pytest.raises(DataError):
        npyfile.read(tmp_path / "some.npy")
