"""Nets that answer together: the mean of their probabilities, by either engine, from one weight file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor, nn

import kilonet as kn
from kilonet import checkpoint, engines
from kilonet.batches import Resident
from kilonet.committee import mean_answer, members
from kilonet.models import Classifier, adopt, assemble

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = ["linear", "linear-from-scratch", "tutorial-cnn", "kilo-4k"]


@pytest.fixture(scope="module")
def digits() -> kn.Splits:
    return kn.load("digits").split()


def built(name: str, digits: kn.Splits, n: int = 3) -> list[Classifier]:
    """Nets that have learned a little, so that batch norms have averages of their own."""
    nets = [kn.build(name, digits.train, seed) for seed in range(n)]
    for seed, net in enumerate(nets):
        kn.fit(net, digits, kn.recipe(name, epochs=1, seed=seed))
    return nets


def by_hand(nets: list[Classifier], data: kn.ImageSet) -> NDArray[np.float64]:
    """The mean of the members' probabilities, from what PyTorch gives of each."""
    with torch.no_grad():
        images = torch.from_numpy(data.images)
        of_each = [net.eval()(images).double().numpy() for net in nets]
    return np.asarray(np.mean([scipy.special.softmax(logits, axis=1) for logits in of_each], axis=0))


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_it_answers_with_the_mean_of_the_probabilities(name: str, engine: str, digits: kn.Splits) -> None:
    nets = built(name, digits)
    found = kn.evaluate(kn.Committee.of(nets), digits.test, engine=engine)
    assert digits.test is not None
    np.testing.assert_allclose(found.probabilities, by_hand(nets, digits.test), atol=2e-6)
    assert np.abs(found.probabilities - by_hand(nets[:1], digits.test)).max() > 1e-3


def test_what_goes_forward_is_a_logarithm_of_probabilities(digits: kn.Splits) -> None:
    committee = kn.Committee.of(built("kilo-4k", digits)).eval()
    with torch.no_grad():
        answer = committee(torch.from_numpy(digits.train.images[:20]))
    assert (answer.shape, answer.dtype) == ((20, 10), torch.float32)
    assert torch.allclose(answer.exp().sum(1), torch.ones(20), atol=1e-5)


def test_no_probability_is_lost_to_rounding() -> None:
    answer = mean_answer([torch.tensor([[0.0, 1000.0]]), torch.tensor([[0.0, 3000.0]])])
    assert answer[0].tolist() == pytest.approx([-1000 - np.log(2), 0], abs=1e-3)
    assert bool(mean_answer([torch.tensor([[0.0, float("nan")]]), torch.zeros(1, 2)]).isnan().any())


def test_the_native_engine_computes_its_members(digits: kn.Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = built("kilo-4k", digits, 2)
    committee = kn.Committee.of(nets)
    monkeypatch.setattr(Classifier, "forward", lambda *_: pytest.fail("PyTorch was asked"))
    engine = engines.choose("auto", committee)
    assert engine.name == "native"
    assert digits.val is not None
    resident = Resident.of(digits.val, torch.device("cpu"))
    logits = engine.logits(committee, resident, 500)
    loss, accuracy = engine.measure(committee, resident, 500)
    picked = logits.double()[torch.arange(len(resident)), resident.labels]
    assert loss == pytest.approx(-float(picked.mean()))
    assert accuracy == float((logits.argmax(1) == resident.labels).double().mean())


def test_threads_change_no_bit(mnist_5k: kn.ImageSet) -> None:
    part = mnist_5k.take(slice(0, 4999))  # so many that PyTorch would divide them among its threads
    committee = kn.Committee.of([kn.build("kilo-4k", part, seed) for seed in range(3)])
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(kn.evaluate(committee, part, engine="native").probabilities.tobytes())
    assert len(set(found)) == 1


class Own(nn.Module):
    """A net that changes its images, where it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(images.sub_(1).flatten(1))
        return logits


def test_members_do_not_see_what_others_did_to_the_images(digits: kn.Splits) -> None:
    nets = [adopt(Own(), digits.train) for _ in range(3)]
    found = kn.evaluate(kn.Committee.of(nets), digits.test)
    assert engines.choose("auto", kn.Committee.of(nets)).name == "torch"
    assert digits.test is not None
    np.testing.assert_allclose(found.probabilities, by_hand(nets, digits.test), atol=2e-6)


def test_one_member_alone_answers_as_it_did(digits: kn.Splits) -> None:
    net = kn.build("kilo-4k", digits.train)
    alone, found = (kn.evaluate(model, digits.val) for model in (net, kn.Committee.of([net])))
    np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-6)


def shifted(net: Classifier) -> Classifier:
    net.mean = net.mean + 1
    return net


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda data: kn.build("linear", data), "kilo-4k and linear"),
        (lambda data: kn.build("kilo-4k", replace(data, images=data.images[:, :, :6])), "differ in shape"),
        (lambda data: kn.build("kilo-4k", replace(data, classes=tuple("abcdefghij"))), "differ in classes"),
        (lambda data: shifted(kn.build("kilo-4k", data)), "normalised"),
        (lambda data: kn.Committee.of([kn.build("kilo-4k", data)]), "in a committee"),
    ],
)
def test_members_are_of_one_kind(other: Callable[[Any], Classifier], told: str, digits: kn.Splits) -> None:
    with pytest.raises(kn.ModelError, match=told):
        kn.Committee.of([kn.build("kilo-4k", digits.train), other(digits.train)])


def test_a_committee_has_a_member() -> None:
    with pytest.raises(kn.ModelError, match="no nets"):
        kn.Committee.of([])


@pytest.mark.parametrize("name", MODELS)
def test_one_weight_file_holds_all_members(name: str, digits: kn.Splits, tmp_path: Path) -> None:
    nets = built(name, digits)
    for file in ("one", "other"):
        kn.save_model(kn.Committee.of(nets), tmp_path / file)
    read = kn.load_model(tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert read.parameter_count() == 3 * nets[0].parameter_count()
    for now, then in zip(members(read), nets, strict=True):
        assert torch.equal(now.mean, then.mean)
        assert all(
            torch.equal(a, b) for a, b in zip(now.state_dict().values(), then.state_dict().values(), strict=True)
        )
    one, other = (kn.evaluate(model, digits.test).probabilities for model in (read, kn.Committee.of(nets)))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("n", [0, -1, 2, 4, 101, 10**30, True, 3.0, "3", None, [3]])
def test_a_description_that_is_not_its_weights_is_refused(n: object, digits: kn.Splits, tmp_path: Path) -> None:
    path = tmp_path / "three.safetensors"
    kn.save_model(kn.Committee.of([kn.build("linear", digits.train, seed) for seed in range(3)]), path)
    description, tensors = checkpoint.read(path)
    checkpoint.write(path, tensors, {**description, "committee": n})
    with pytest.raises(kn.RunError, match=r"description is damaged|not those of a committee|weights don't fit"):
        kn.load_model(path)


def test_a_description_alone_makes_no_large_nets(
    digits: kn.Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "small.safetensors", list[str]()
    kn.save_model(kn.build("linear", digits.train), path)
    description, tensors = checkpoint.read(path)
    checkpoint.write(path, tensors, {**description, "committee": 100})

    def noted(*given: Any) -> Classifier:
        made.append("net")
        return assemble(*given)

    monkeypatch.setattr(checkpoint, "assemble", noted)
    with pytest.raises(kn.RunError, match="not those of a committee of 100 linear"):
        kn.load_model(path)
    assert made == ["net"]
