"""False alarms and misses of the training doctor, the figures of docs/doctor.md.

    KILONET_DATA=... python bench/doctor.py [--seeds 2] [--first 0] [--only PART_OF_A_NAME] [--kind sick]

Trains healthy runs and sick ones, a line each with what the doctor finds, and sums up. A healthy run counts as a false
alarm with any finding, a sick one as a miss without one of those that fit. A training that stops by itself because its
loss is no number counts as `diverged`. For the tutorial's CNN the classes that the
doctor names are held against a loop of its own over all validation images. One thread; sets that are not on the machine
are left out, and it says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import kilonet as kn
from kilonet import config
from kilonet.doctor import training as doctor
from kilonet.doctor.finding import Finding
from kilonet.history import Epoch, History
from kilonet.metrics import Report
from kilonet.models import Classifier, adopt


@dataclass(frozen=True)
class Case:
    """A training: `fits` are findings of which one at least has to be made; none for a healthy one."""

    name: str
    model: str | Callable[[], nn.Module]
    source: str = "mnist-5k"
    fits: frozenset[str] = frozenset()
    split: str = "standard"
    preset: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    change: Callable[[kn.Splits, int], kn.Splits] = lambda splits, _: splits


@dataclass(frozen=True)
class Outcome:
    settings: config.Config
    history: History
    model: Classifier
    splits: kn.Splits
    reports: dict[str, Report]
    failure: Finding | None = None


def mlp(*widths: int, last: type[nn.Module] | None = None) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        sizes = (784, *widths, 10)
        for i in range(len(sizes) - 1):
            layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
        return nn.Sequential(*layers[:-1], *([last()] if last is not None else []))

    return make


def dead_layer() -> nn.Module:
    net = mlp(64, 32)()
    with torch.no_grad():
        net[3].bias.fill_(-100.0)  # type: ignore[index]
    return net


class Dropout(nn.Module):
    """A plain convolutional net, its activations by function call."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.dropout, self.out = nn.Dropout(0.25), nn.Linear(16 * 5 * 5, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.first(images)), 2)
        x = torch.max_pool2d(torch.relu(self.second(x)), 2)
        found: Tensor = self.out(self.dropout(x.flatten(1)))
        return found


class Poisoned(nn.Module):
    """Gives NaN in training after 150 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.steps = mlp(32)(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        found: Tensor = self.net(images)
        return found * float("nan") if self.training and self.steps > 150 else found


def without_final_relu() -> nn.Module:
    net = kn.build("tutorial-cnn", kn.load("mnist-5k")).net
    assert isinstance(net, nn.Sequential)
    return nn.Sequential(*(layer for i, layer in enumerate(net) if i != 5))


def shuffled(splits: kn.Splits, seed: int) -> kn.Splits:
    rng = np.random.default_rng(seed)
    parts = {name: replace(part, labels=rng.permutation(part.labels)) for name, part in splits.parts().items()}
    return kn.Splits(parts["train"], parts.get("val"), parts.get("test"), splits.how)


def few(n: int) -> Callable[[kn.Splits, int], kn.Splits]:
    def change(splits: kn.Splits, seed: int) -> kn.Splits:
        rows = np.random.default_rng(seed).permutation(len(splits.train))[:n]
        return replace(splits, train=splits.train.take(rows))

    return change


def inverted_test(splits: kn.Splits, _: int) -> kn.Splits:
    assert splits.test is not None
    return replace(splits, test=replace(splits.test, images=255 - splits.test.pixels))


def imbalanced(share: float) -> Callable[[kn.Splits, int], kn.Splits]:
    """Keep all images labelled 0 and so large a share of the others in the training part."""

    def change(splits: kn.Splits, seed: int) -> kn.Splits:
        rng = np.random.default_rng(seed)
        keep = (splits.train.labels == 0) | (rng.random(len(splits.train)) < share)
        return replace(splits, train=splits.train.take(np.flatnonzero(keep)))

    return change


KILO = ("kilo-fast", "kilo-4k", "kilo-16k")
ZOO = ("linear", "linear-from-scratch", *KILO)
MOMENTUM = {"optimizer": "sgd", "momentum": 0.9, "schedule": "constant", "weight_decay": 0.0}


def healthy() -> Iterator[Case]:
    for source in ("mnist-5k", "digits", "mnist:10000", "fashion-mnist:20000"):
        for model in ZOO:
            yield Case(f"{model}, {source}", model, source)
    for model in ZOO:
        for epochs in (1, 3, 10, 15):
            if epochs != config.recipe(model).over(3500).epochs:
                yield Case(f"{model}, {epochs} epochs", model, training={"epochs": epochs})
    for model in KILO:
        for optimizer in ("adam", "adamw"):
            settings = {"optimizer": optimizer, "lr": 1e-3, "schedule": "constant", "epochs": 10}
            yield Case(f"{model}, {optimizer} 1e-3 constant", model, training=settings)
        yield Case(f"{model}, sgd momentum", model, training={**MOMENTUM, "lr": 0.05, "epochs": 10})
    yield Case("linear, sgd 0.1", "linear", training={"optimizer": "sgd", "lr": 0.1})
    yield Case("linear, sgd momentum", "linear", training={**MOMENTUM, "lr": 0.05})
    yield Case("tutorial-linear preset", "linear", split="tutorial", preset="tutorial-linear")
    yield Case("tutorial-linear preset, mnist", "linear", "mnist", split="tutorial", preset="tutorial-linear")
    yield Case("kilo-4k, mnist, 3 epochs", "kilo-4k", "mnist", training={"epochs": 3})
    yield Case("kilo-4k, full split", "kilo-4k", split="full")
    yield Case("kilo-16k, no test", "kilo-16k", split="80/20")
    yield Case("own mlp 64", mlp(64), training={"epochs": 10})
    yield Case("own mlp 128-64", mlp(128, 64), training={"epochs": 5})
    yield Case("own cnn with dropout", Dropout, training={"epochs": 10})
    yield Case(
        "tutorial-cnn without its final ReLU", without_final_relu, training={"lr": 4e-3, "schedule": "one-cycle"}
    )


def sick() -> Iterator[Case]:
    high, low = frozenset({"lr-too-high", "diverged"}), frozenset({"lr-too-low"})
    dead = frozenset({"dead-classes"})
    for source in ("mnist-5k", "mnist"):
        yield Case(f"tutorial-cnn preset, {source}", "tutorial-cnn", source, dead, "tutorial", "tutorial-cnn")
    for source in ("mnist-5k", "digits"):
        for model in ZOO:
            lr = config.recipe(model).lr
            over = high | {"dead-units"} if model in KILO else high
            for name, fits, rate in (
                ("lr x 100", over, lr * 100), ("lr x 1000", over, lr * 1000), ("lr / 100", low, lr / 100),
                ("lr 1e-6", low, 1e-6), ("lr 1e-8", low, 1e-8),
            ):  # fmt: skip
                yield Case(f"{model}, {source}, {name}", model, source, fits, training={"lr": rate})
            fits = frozenset({"guessing", "loss-not-falling"})
            yield Case(f"{model}, {source}, labels shuffled", model, source, fits, change=shuffled)
    yield Case("own mlp, lr x 100", mlp(64), fits=high | {"dead-units"}, training={"lr": 0.1, "epochs": 10})
    yield Case("own mlp, lr / 100", mlp(64), fits=low, training={"lr": 1e-5, "epochs": 10})
    yield Case("own mlp, lr 1e-8", mlp(64), fits=low | {"loss-not-falling"}, training={"lr": 1e-8, "epochs": 10})
    yield Case("linear, sgd lr x 100", "linear", fits=high, training={"optimizer": "sgd", "lr": 10.0})
    yield Case("linear, sgd lr / 100", "linear", fits=low, training={"optimizer": "sgd", "lr": 0.001})
    fits = frozenset({"overfitting"})
    yield Case("own mlp 512-512, 60 images", mlp(512, 512), fits=fits, training={"epochs": 40}, change=few(60))
    yield Case("kilo-16k, 60 images", "kilo-16k", fits=fits, training={"epochs": 60}, change=few(60))
    yield Case("own mlp, dead layer", dead_layer, fits=frozenset({"dead-units"}), training={"epochs": 5})
    yield Case("own model, NaN", Poisoned, fits=frozenset({"diverged"}), training={"epochs": 5})
    yield Case("own mlp, softmax at the end", mlp(64, last=Softmax), fits=frozenset({"squashed-logits"}))
    fits = frozenset({"test-contradicts"})
    yield Case("kilo-4k, inverted test", "kilo-4k", fits=fits, training={"epochs": 5}, change=inverted_test)
    yield Case("linear, inverted test", "linear", fits=fits, training={"epochs": 5}, change=inverted_test)
    fits = frozenset({"collapse"})
    yield Case("linear, 1 % of the other classes", "linear", fits=fits, change=imbalanced(0.01))
    yield Case("own mlp, 1 % of the others", mlp(64), fits=fits, training={"epochs": 5}, change=imbalanced(0.01))


class Softmax(nn.Softmax):
    def __init__(self) -> None:
        super().__init__(dim=1)


def load(source: str, seed: int) -> kn.ImageSet:
    """A source, or, with `:N` behind its name, so many of its images, its test part left out."""
    name, _, count = source.partition(":")
    data = kn.load(name)
    if not count:
        return data
    rows = np.random.default_rng(seed).permutation(data.test_from or len(data))[: int(count)]
    return data.take(np.sort(rows))


def train(case: Case, seed: int) -> Outcome:
    settings = {"source": case.source.partition(":")[0], "split": case.split}
    named = case.model if isinstance(case.model, str) else "own.py:Net"
    settings |= {"model": named} if case.preset is None else {"preset": case.preset}
    made = config.resolve(settings, {**case.training, "seed": seed, "threads": 1})
    splits = case.change(load(case.source, seed).split(case.split, seed), seed)
    if isinstance(case.model, str):
        model = kn.build(case.model, splits.train, seed)
    else:
        torch.manual_seed(seed)
        model = adopt(case.model(), splits.train)
    records: list[Epoch] = []
    kept, failure = deepcopy(model), None
    try:
        for record in kn.epochs(model, splits, made.training):
            records.append(record)
            if made.training.measure == "last" or splits.val is None or History(records).best is record:
                kept = deepcopy(model)
    except kn.RunError as error:
        failure = Finding("diverged", error.message, "", "")
    parts = {name: part for name, part in splits.parts().items() if name != "train"}
    reports = {} if failure else {name: kn.evaluate(kept, part) for name, part in parts.items()}
    return Outcome(made, History(records), kept, splits, reports, failure)


def findings(outcome: Outcome) -> tuple[list[Finding], float]:
    """What the doctor says, and the seconds that it takes."""
    start = time.perf_counter()
    if outcome.failure is not None:
        return [outcome.failure], 0.0
    found = doctor.diagnose(
        outcome.settings, outcome.history, outcome.model, outcome.splits.train, outcome.splits.val, outcome.reports
    )
    return found, time.perf_counter() - start


@torch.no_grad()
def never_predicted(outcome: Outcome) -> set[str]:
    """The classes that no validation image is predicted as, by a plain loop."""
    assert outcome.splits.val is not None
    outcome.model.eval()
    seen: set[int] = set()
    for image in np.array_split(outcome.splits.val.images, 40):
        seen |= set(outcome.model(torch.tensor(image)).argmax(1).tolist())
    return {name for k, name in enumerate(outcome.model.classes) if k not in seen}


def right(case: Case, outcome: Outcome, found: list[Finding]) -> bool:
    """Whether the doctor says what it should."""
    names = {finding.name for finding in found}
    if case.preset != "tutorial-cnn":
        return bool(names & case.fits) if case.fits else not names
    dead = next((finding for finding in found if finding.name == "dead-classes"), None)
    named = set(dead.evidence["never_predicted"]) if dead is not None else set()
    blamed = dead is None or dead.evidence["cause"] == "net.5"
    return named == never_predicted(outcome) and blamed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--kind", choices=["healthy", "sick"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"kilonet's training doctor, torch {torch.__version__}, 1 thread")
    counts = {"healthy": [0, 0], "sick": [0, 0]}
    slowest = 0.0
    for kind, cases in (("healthy", healthy()), ("sick", sick())):
        for case in cases:
            times = 4 if case.preset == "tutorial-cnn" else 1
            for seed in range(asked.first, asked.first + asked.seeds * times):
                if asked.only not in case.name or asked.kind not in {None, kind}:
                    continue
                try:
                    outcome = train(case, seed)
                except kn.FetchError:
                    print(f"left out   {case.name}: not on this machine", flush=True)
                    break
                found, seconds = findings(outcome)
                slowest = max(slowest, seconds)
                good = right(case, outcome, found)
                counts[kind][0] += 1
                counts[kind][1] += not good
                verdict = "right" if good else "FALSE ALARM" if kind == "healthy" else "MISS"
                accuracy = {name: f"{100 * report.accuracy:.1f}" for name, report in outcome.reports.items()}
                print(f"{verdict:11s} {kind}: {case.name}, seed {seed}: {accuracy}, {seconds:.2f} s", flush=True)
                for finding in found:
                    print(f"            {finding.name}: {finding.what}", flush=True)
    print(f"\nhealthy: {counts['healthy'][1]} false alarms on {counts['healthy'][0]} runs")
    print(f"sick: {counts['sick'][1]} misses on {counts['sick'][0]} runs; slowest diagnosis {slowest:.2f} s")


if __name__ == "__main__":
    main()
