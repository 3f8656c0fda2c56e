"""The space that a sweep looks through: `lr=1e-4..1e-1:log`, `epochs=5..20`, `model=kilo-4k,kilo-16k`; no torch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

from kilonet.config import Config, Training
from kilonet.errors import ConfigError, nearest
from kilonet.files import printable

NOT_SWEPT = {
    "seed": "--seed is the first of the seeds, --seeds how many",
    "seeds": "--seeds says how many",
    "split": "trials on other splits can't be compared",
    "measure": "it says how a score is taken",
    "source": "trials on other data can't be compared",
    "device": "it changes no score",
    "threads": "it changes no score",
    "engine": "it changes no score",
}
"""Settings that are no axis, and why."""
MOST_COMBINATIONS = 100_000
"""Combinations that a grid may have."""
_CORNERS = 10_000
"""Combinations of ends and choices up to which all are tried before a sweep begins."""


@dataclass(frozen=True)
class Axis:
    """One setting, and where it may lie.

    Attributes:
        key: a field of `Training`, or `model`.
        low, high: the ends of a range, both possible; None for a list.
        log: whether the range is even in the logarithm.
        values: of a list; empty for a range.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    values: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that the others lie among: both ends, or all of a list."""
        return self.values or (self.low, self.high)

    def __str__(self) -> str:
        values = ",".join(map(str, self.values)) if self.values else f"{self.low}..{self.high}"
        return f"{self.key}={values}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Space:
    """Several axes, in the order of their names."""

    axes: tuple[Axis, ...]

    @property
    def combinations(self) -> int | None:
        """How many points it has; None where an axis is a range."""
        return math.prod(len(axis.values) for axis in self.axes) if all(axis.values for axis in self.axes) else None

    @property
    def corner(self) -> dict[str, Any]:
        """A point of it, for what needs any: settings may need each other, as momentum needs sgd."""
        return {axis.key: axis.ends[0] for axis in self.axes}

    def grid(self, seed: int) -> list[dict[str, Any]]:
        """All points, each once, in an order drawn with a seed, so that the first of them lie all over the space.

        Raises:
            ConfigError: if there is a range among the axes, or there are too many points.
        """
        ranges = [axis for axis in self.axes if not axis.values]
        if ranges:
            raise ConfigError(
                f"a grid has no ranges, and {ranges[0]} is one", f"list values: {ranges[0].key}={ranges[0].low},..."
            )
        if (count := self.combinations or 0) > MOST_COMBINATIONS:
            raise ConfigError(
                f"a grid of {count:,} combinations won't do: expected at most {MOST_COMBINATIONS:,}",
                "list fewer values, or draw some: --sampler random --trials N",
            )
        keys = [axis.key for axis in self.axes]
        points = [dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in self.axes))]
        random.Random(seed).shuffle(points)  # noqa: S311
        return points

    def check(self, config: Callable[[dict[str, Any]], Config]) -> None:
        """Make sure that settings from all over the space will do.

        Args:
            config: makes a config from values of the axes.

        Raises:
            ConfigError: for the first that won't.
        """
        corners = math.prod(len(axis.ends) for axis in self.axes)
        tried: Iterable[dict[str, Any]] = ({**self.corner, axis.key: end} for axis in self.axes for end in axis.ends)
        if corners <= _CORNERS:
            ends = product(*(axis.ends for axis in self.axes))
            tried = (dict(zip(self.corner, values, strict=True)) for values in ends)
        for values in tried:
            try:
                config(values)
            except ConfigError as error:
                told = ", ".join(f"{key} = {value}" for key, value in values.items())
                raise ConfigError(f"--set leads to what won't do, with {told}: {error.message}", error.hint) from None


def parse(texts: Sequence[str]) -> Space:
    """The space of some `KEY=VALUES`.

    Raises:
        ConfigError: for what is no such text, an unknown key, or a value that won't do.
    """
    axes = sorted((_axis(text) for text in texts), key=lambda axis: axis.key)
    for one, other in pairwise(axes):
        if one.key == other.key:
            raise ConfigError(f"--set {one.key} is given twice", f"list the values: --set {one.key}=A,B")
    return Space(tuple(axes))


def _axis(text: str) -> Axis:
    key, equals, values = text.partition("=")
    key, values = key.strip().replace("-", "_"), values.strip()
    if not equals or not values:
        raise ConfigError(f"--set {printable(text)!r} won't do: expected KEY=VALUES", "such as lr=1e-4..1e-1:log")
    if key in NOT_SWEPT:
        raise ConfigError(f"{key} is not swept: {NOT_SWEPT[key]}")
    hints: dict[str, Any] = {"model": str} | {f.name: get_type_hints(Training)[f.name] for f in fields(Training)}
    if key not in hints:
        known = [name for name in hints if name not in NOT_SWEPT]
        raise ConfigError(f"--set {printable(key)!r} is no setting", nearest(key, known))
    hint = hints[key]
    if hint in (int, float) and ".." in values:
        return _range(key, values, hint)
    words = [word.strip() for word in values.split(",")]
    found = tuple(_value(key, word, hint) for word in words)
    if len(set(found)) < len(found):
        raise ConfigError(f"--set {key}={printable(values)} names a value twice")
    return Axis(key, values=found)


def _range(key: str, text: str, kind: type) -> Axis:
    ends, colon, scale = text.partition(":")
    if colon and scale.strip() != "log":
        raise ConfigError(f"--set {key}={printable(text)} won't do: expected nothing or :log after the range")
    low, high = (_value(key, end.strip(), kind) for end in ends.split("..", 1))
    if low >= high:
        raise ConfigError(f"--set {key}={printable(text)} won't do: expected a lower end below the upper one")
    if colon and low <= 0:
        raise ConfigError(f"--set {key}={printable(text)} won't do: a logarithmic range begins above 0")
    return Axis(key, low, high, bool(colon))


def _value(key: str, word: str, hint: Any) -> Any:
    """A value of a setting from its text."""
    if get_origin(hint) is Literal:
        if word not in get_args(hint):
            raise ConfigError(f"--set {key}: {printable(word)!r} won't do", nearest(word, get_args(hint)))
        return word
    if hint is str:
        if not word:
            raise ConfigError(f"--set {key} names nothing between two commas")
        return word
    kinds = {int: "a whole number", float: "a number"}
    try:
        number = hint(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"--set {key}: {printable(word)!r} won't do: expected {kinds[hint]}, a list or a range A..B")
    return number
