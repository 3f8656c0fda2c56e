"""The machine doctor: what it tells, and the faults it is to find."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kilonet.doctor import machine
from kilonet.errors import ModelError


def names() -> set[str]:
    return {finding.name for finding in machine.examine()[0]}


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with room and as many threads as cores."""
    monkeypatch.delenv("KILONET_DATA", raising=False)
    monkeypatch.setattr(os, "cpu_count", torch.get_num_threads)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))


def test_a_sound_machine_has_no_finding() -> None:
    state = torch.get_rng_state()
    found, tried = machine.examine()
    assert found == []
    assert tried["same"]
    assert tried["accuracy"] > 0.9
    assert torch.equal(torch.get_rng_state(), state)


def test_what_there_is_is_told() -> None:
    told = machine.describe()
    assert told["versions"]["torch"] == torch.__version__
    assert told["threads"].startswith(f"{torch.get_num_threads()} of ")
    assert told["extras"]["dev"] == "there"
    assert told["devices"].startswith("cpu")


def test_faults_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KILONET_DATA", str(tmp_path / "nowhere"))
    torch.set_num_threads(2)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert names() == {"data-folder", "threads", "cache", "room"}


def test_a_training_that_fails_or_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "smoke", lambda: {"accuracy": 0.1, "same": False, "seconds": 1.0})
    assert names() == {"smoke", "determinism"}

    def fails() -> None:
        raise ModelError("no")

    monkeypatch.setattr(machine, "smoke", fails)
    assert names() == {"smoke"}
