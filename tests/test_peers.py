"""The peers do the same work as the plain loop and as each other."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial

import pytest
import torch

import kilonet as kn
from kilonet import bench, cli, peers, plain

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports


@pytest.mark.usefixtures("no_peer")
def test_a_peer_that_is_not_here_is_left_out_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "mnist-5k", "--repeats", "1", "--epochs", "1", "--peers", "--json"])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["results"] == []
    assert "JAX is left out: it takes pip install jax" in told.err
    assert "torch.compile is left out: it takes a C++ compiler" in told.err


@pytest.fixture
def no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RACES", [])
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setenv("CXX", "/nowhere")


@pytest.mark.full
@pytest.mark.parametrize("preset", plain.MODELS)
def test_jax_and_torch_compile_follow_each_other(preset: str, mnist_5k: kn.ImageSet) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    splits, found = mnist_5k.split("tutorial"), list[tuple[float, float]]()
    for way in (peers._compiled, peers._jax, partial(peers._jax, scanned=True)):
        torch.manual_seed(1)
        found.append(way(preset, splits, 2)())  # type: ignore[arg-type]
    for loss, accuracy in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-3)
        assert accuracy == pytest.approx(found[0][1], abs=0.005)


@pytest.mark.full
def test_torch_compile_gets_as_far_as_the_plain_loop(mnist_5k: kn.ImageSet) -> None:
    splits = mnist_5k.split("tutorial")
    assert splits.val is not None
    torch.manual_seed(1)
    loss: float = peers._compiled("tutorial-linear", splits, 2)()[0]  # type: ignore[index]
    torch.manual_seed(1)
    parts = plain.tensors(splits.train), plain.tensors(splits.val)
    told = list(plain.plain_loop(plain.MODELS["tutorial-linear"](), *parts, 2))[-1]
    assert loss == pytest.approx(told.val_loss_over_images, rel=0.02)
