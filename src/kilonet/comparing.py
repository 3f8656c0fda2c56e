"""Runs, and several seeds of one, compared over the images that they were measured on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kilonet.config import weight_file
from kilonet.errors import KilonetError, RunError
from kilonet.plots import Difference
from kilonet.rundir import Run
from kilonet.shelf import members
from kilonet.significance import LEVEL, Paired, across_seeds, holm, mcnemar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kilonet.significance import AcrossSeeds

Part = Literal["val", "test"]
Verdict = Literal["more than noise", "within noise", "too little to say", "no comparison"]
WORDS = {"val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Net:
    """One measured net.

    Attributes:
        name: of its run.
        seed: that it was trained with.
        right: bool, (N,), whether it gets each image of the part right.
        labels: (N,), the images' classes.
        images: checksum of the images and their classes.
    """

    name: str
    seed: int
    right: NDArray[np.bool_]
    labels: NDArray[np.int64]
    images: str


@dataclass(frozen=True, eq=False)
class Thing:
    """What is compared: a run, as one net, or several seeds of one, a net each, all over the same images."""

    name: str
    nets: tuple[Net, ...]

    @property
    def accuracies(self) -> list[float]:
        """Accuracy of each net, 0 to 1."""
        return [float(net.right.mean()) for net in self.nets]


@dataclass(frozen=True)
class NetPair:
    """A net of one thing against one of another; `p_holm` is corrected for all such pairs of the two things."""

    a: str
    b: str
    paired: Paired
    p_holm: float

    @property
    def better(self) -> str | None:
        """`a` or `b`, if the difference is more than noise."""
        return _better(self.paired.difference, self.p_holm, "a", "b")


@dataclass(frozen=True)
class Comparison:
    """Two things compared.

    Attributes:
        a: name of the first.
        b: name of the second.
        accuracy_a: the first one's accuracy, its nets' mean, 0 to 1.
        accuracy_b: the same of the second.
        test: what decides: `mcnemar` for two nets; else `welch`, or `one-against-seeds` where either is a single net;
            None without a comparison.
        difference: accuracy of the first less that of the second.
        interval: its 95 % interval, by itself: not corrected for other comparisons.
        p: of the test that decides.
        p_holm: the same, corrected for all the comparisons that were made at once.
        verdict: by `p_holm`, at the level 0.05.
        better: name of the better one, if the difference is more than noise.
        why: why there is no comparison, or too little to say; else empty.
        nets: nets of one against their like of the other, image by image.
        over_seeds: the test over seeds, where either has several.
    """

    a: str
    b: str
    accuracy_a: float
    accuracy_b: float
    test: Literal["mcnemar", "welch", "one-against-seeds"] | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict = "no comparison"
    better: str | None = None
    why: str = ""
    nets: tuple[NetPair, ...] = ()
    over_seeds: AcrossSeeds | None = None

    @property
    def p_in_words(self) -> str:
        """The corrected p-value, to four digits where it is small."""
        if self.p_holm is None:
            return "–"
        if self.p_holm < 0.0001:
            return "p < 0.0001"
        return f"p = {self.p_holm:.{4 if self.p_holm < 0.1 else 2}f}"

    def in_words(self) -> str:
        """The verdict, and what it rests on."""
        if self.test is None:
            return self.why
        verdict = f"{self.better} is better, by more than noise" if self.better else self.verdict
        return f"{verdict}{': ' if self.why else ''}{self.why}; {self._grounds()}"

    def _grounds(self) -> str:
        if self.over_seeds is None:
            paired = self.nets[0].paired
            only = f"{paired.only_a:,} are right in the first alone, {paired.only_b:,} in the second alone"
            return f"of {paired.n:,} images {only} (exact McNemar). These are two nets: recipes take --seeds"
        sizes = len(self.over_seeds.a), len(self.over_seeds.b)
        if self.test == "welch":
            seeds = f"{sizes[0]} against {sizes[1]} seeds (Welch)"
        else:
            seeds = f"one net against {max(sizes)} seeds (Crawford and Howell)"
        better = [net.better for net in self.nets]
        first, second = better.count("a"), better.count("b")
        return (
            f"{seeds}. Net against net, {first} of {len(better)} better in the first, {second} in the second (McNemar)"
        )


@dataclass(frozen=True)
class Comparisons:
    """All pairs of some things compared.

    Attributes:
        part: `val` or `test`.
        pairs: every two of the things that could be read.
        left_out: the other things' names, and why.
    """

    part: Part
    pairs: tuple[Comparison, ...]
    left_out: dict[str, str]

    @property
    def what(self) -> str:
        """The part in words."""
        return WORDS[self.part]

    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        pairs = [{**asdict(pair), "in_words": pair.in_words()} for pair in self.pairs]
        rule = {"level": LEVEL, "correction": "Holm", "corrected_for": self.made}
        return {"part": self.part, **rule, "pairs": pairs, "left_out": self.left_out}

    @property
    def made(self) -> int:
        """How many comparisons the p-values are corrected for."""
        return sum(pair.test is not None for pair in self.pairs)


def names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its directory's, or the whole path where others have that name."""
    short = [run.path.resolve().name for run in runs]
    return [name if short.count(name) == 1 else str(run.path) for name, run in zip(short, runs, strict=True)]


def differences(found: Comparisons) -> list[Difference]:
    """The differences that a figure shows."""
    return [
        Difference(f"{pair.a} less {pair.b}", pair.difference, pair.interval, pair.better is not None, pair.p_in_words)
        for pair in found.pairs
        if pair.difference is not None
    ]


def compare_runs(named: Sequence[tuple[str, Run]], part: Part = "val") -> Comparisons:
    """Compare every two of some runs; one of several seeds counts as one thing.

    Args:
        named: names, for people, and runs.
        part: over which part; nothing is unpacked of any other.
    """
    things, left_out = [], {}
    for name, run in named:
        try:
            things.append(read(name, run, part))
        except KilonetError as error:
            left_out[name] = str(error)
    pairs = [compare_things(a, b, part) for a, b in combinations(things, 2)]
    return Comparisons(part, tuple(_corrected(pairs)), left_out)


def read(name: str, run: Run, part: Part) -> Thing:
    """What a run, or each of its seeds that is done, gets right of a part.

    Raises:
        KilonetError: if it is not done, has no such part, or is damaged.
    """
    inside = members(run)
    done = inside if inside == [run] else [member for member in inside if member.finished()]
    if not done:
        raise RunError(f"no seed of {run.path} is done", f"kilonet resume {run.path}")
    nets = tuple(_net(member, part) for member in done)
    if len({(net.images, net.labels.tobytes()) for net in nets}) > 1:
        raise RunError(f"the seeds of {run.path} were measured on different images")
    return Thing(name, nets)


def _net(run: Run, part: Part) -> Net:
    measured = run.path / weight_file(run.config)
    if run.weights not in (None, measured):
        raise RunError(f"only {measured.name} of {run.path} was measured", f"compare {run.path}")
    parts = _sealed_parts(run)
    if not run.finished():
        raise RunError(f"{run.path} is not done", f"kilonet resume {run.path}")
    if part not in parts:
        other = {"val": "the test set must be named: --on test", "test": "leave out --on test"}[part]
        raise RunError(f"{run.path} has no {WORDS[part]} part", other if {"val", "test"} & set(parts) else None)
    probabilities, labels = run.predictions(part)
    if len(labels) != parts[part]["n"]:
        raise RunError(f"{run.path}: its predictions are not those of its {WORDS[part]} part")
    return Net(
        run.path.name, run.config.training.seed, probabilities.argmax(1) == labels, labels, parts[part]["sha256"]
    )


def _sealed_parts(run: Run) -> dict[str, Any]:
    """Those parts that a run's config, as it was written, has a number and a checksum of."""
    run.untouched_config()
    return {name: part for name, part in run.parts().items() if {"n", "sha256"} <= set(part)}


def compare_things(a: Thing, b: Thing, part: Part = "val") -> Comparison:
    """Compare two things, as if it were the only comparison."""
    means = float(np.mean(a.accuracies)), float(np.mean(b.accuracies))
    found = Comparison(a.name, b.name, *means)
    one, other = a.nets[0], b.nets[0]
    if one.images != other.images or not np.array_equal(one.labels, other.labels):
        numbers = f"{len(one.labels):,} and {len(other.labels):,}"
        same = "train both with the same --split and --seed" if part == "val" else "train both on the same source"
        return replace(
            found, why=f"measured on different {WORDS[part]} images ({numbers}), so not to be paired: {same}"
        )
    nets = _net_pairs(a, b)
    if len(a.nets) == len(b.nets) == 1:
        paired = nets[0].paired
        return replace(
            found, test="mcnemar", difference=paired.difference, interval=paired.interval, p=paired.p, nets=nets
        )
    over = across_seeds(a.accuracies, b.accuracies)
    single = 1 in (len(a.nets), len(b.nets))
    return replace(
        found, test="one-against-seeds" if single else "welch", difference=over.difference, interval=over.interval,
        p=over.p, nets=nets, over_seeds=over,
    )  # fmt: skip


def _net_pairs(a: Thing, b: Thing) -> tuple[NetPair, ...]:
    """A single net against each of the other's; two sets by seed, or in order where they have no seed in common."""
    if 1 in (len(a.nets), len(b.nets)):
        pairs = [(one, other) for one in a.nets for other in b.nets]
    else:
        by_seed = {net.seed: net for net in b.nets}
        pairs = [(net, by_seed[net.seed]) for net in a.nets if net.seed in by_seed]
        pairs = pairs or list(zip(a.nets, b.nets, strict=False))
    paired = [mcnemar(one.right, other.right) for one, other in pairs]
    corrected = holm([found.p for found in paired])
    return tuple(
        NetPair(one.name, other.name, found, float(p))
        for (one, other), found, p in zip(pairs, paired, corrected, strict=True)
    )


def _corrected(pairs: list[Comparison]) -> list[Comparison]:
    """Comparisons made at once, with their corrected p-values and verdicts."""
    corrected = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return [pair if pair.p is None else _judged(pair, float(next(corrected))) for pair in pairs]


def _judged(pair: Comparison, p_holm: float) -> Comparison:
    better = _better(pair.difference or 0.0, p_holm, pair.a, pair.b)
    why = _too_little(pair)
    verdict: Verdict = "more than noise" if better else "too little to say" if why else "within noise"
    return replace(pair, p_holm=p_holm, verdict=verdict, better=better, why=why)


def _better(difference: float, p: float, a: str, b: str) -> str | None:
    if p >= LEVEL:
        return None
    return a if difference > 0 else b


def _too_little(pair: Comparison) -> str:
    """Why no result of such data could have been more than noise; empty if one could."""
    if pair.over_seeds is not None:
        return "no seed differs from another, so nothing is known of the noise" if pair.over_seeds.t is None else ""
    paired = pair.nets[0].paired
    if paired.least_p < LEVEL:
        return ""
    apart = paired.only_a + paired.only_b
    if not apart:
        return "no image tells them apart"
    return f"{apart} image{'s tell' if apart > 1 else ' tells'} them apart, and it takes 6"
