"""What a run is told: frozen dataclasses, the presets and recipes as data, and TOML.

Config stops at the builders: models, data and figures take plain arguments. The docstring under each
field of `Training` is also the help of its command-line flag.
"""

from __future__ import annotations

import math
import tomllib
import types
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tomli_w

from kilonet.errors import ConfigError, nearest

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "one-cycle"]
BatchOrder = Literal["seeded", "blocks", "loader"]
Weights = Literal["best", "last"]
Engine = Literal["auto", "torch", "native"]

T = TypeVar("T")

MOST_MEMBERS = 100
"""Nets that a committee may have."""
FORMAT = 2
"""Version of what a run directory and its weight files look like; another one is refused."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained.

    Raises:
        ConfigError: for a value out of its range.
    """

    epochs: int = 15
    """Passes over the training images; more of them where `least_images` asks for it."""
    least_images: int = 0
    """Images that training sees at least, each as often as it comes up: few images get more epochs. 0 with --epochs."""
    batch_size: int = 64
    """Images a training step."""
    val_batch_size: int = 500
    """Images a forward pass in validation."""
    optimizer: Optimizer = "adam"
    """Update rule; `sgd` without momentum or decay is the bare step p -= p.grad * lr."""
    lr: float = 1e-3
    """Learning rate; the peak of it under one-cycle."""
    momentum: float = 0.0
    """Momentum of sgd, from 0 to below 1."""
    weight_decay: float = 0.0
    """Decay: L2 in adam and sgd, decoupled in adamw."""
    schedule: Schedule = "constant"
    """Course of the learning rate over the steps of the whole run."""
    batch_order: BatchOrder = "seeded"
    """`seeded`: from a generator of the run's own; `blocks`: the same, for large files: runs of neighbouring images are
    drawn, and hundreds of them mixed; `loader`: the draws of a plain PyTorch script with DataLoader. Large
    files are always gone through in `blocks`."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes in training, from 0 to below 1."""
    shift: float = 0.0
    """Augmentation: training images are moved anew in each epoch, by up to so many pixels where a side has 28."""
    rotate: float = 0.0
    """Augmentation: they are turned by up to so many degrees."""
    zoom: float = 0.0
    """Augmentation: they are enlarged or reduced by up to this share; 0.1 is a factor from 1/1.1 to 1.1."""
    shear: float = 0.0
    """Augmentation: they are slanted by up to so many degrees."""
    elastic: float = 0.0
    """Augmentation: they are bent, by control points moved at random; standard deviation in pixels, as for --shift."""
    measure: Weights = "best"
    """Weights that get measured: those of the best validation accuracy, or the last."""
    seed: int = 0
    """Seed of the initial weights, the batch order and the split."""
    engine: Engine = "auto"
    """What computes: `native`, the kernels for small nets; `torch`, for any; `auto`, the faster of them."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, mps."""
    threads: int | None = None
    """CPU threads; PyTorch's own choice if not given."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_batch_size"):
            _require(1 <= getattr(self, name) <= 1_000_000, name, getattr(self, name), "from 1 to 1,000,000")
        _require(0 <= self.least_images <= 10**12, "least_images", self.least_images, "from 0 to 1,000,000,000,000")
        _require(math.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a number above 0")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "from 0 to below 1")
        _require(self.momentum == 0 or self.optimizer == "sgd", "momentum", self.momentum, "0 unless with sgd")
        decay = self.weight_decay
        _require(math.isfinite(decay) and decay >= 0, "weight_decay", decay, "a number from 0")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "from 0 to below 1")
        _require(0 <= self.shift <= 1000, "shift", self.shift, "from 0 to 1000 pixels")
        _require(0 <= self.rotate <= 180, "rotate", self.rotate, "from 0 to 180 degrees")
        _require(0 <= self.zoom <= 10, "zoom", self.zoom, "from 0 to 10")
        _require(0 <= self.shear <= 80, "shear", self.shear, "from 0 to 80 degrees")
        _require(0 <= self.elastic <= 1000, "elastic", self.elastic, "from 0 to 1000 pixels")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to below 2**63")
        _require(self.threads is None or 1 <= self.threads <= 1024, "threads", self.threads, "from 1 to 1024")

    def over(self, images: int) -> Training:
        """These settings for so many training images: with as many epochs as `least_images` asks for."""
        return replace(self, epochs=max(self.epochs, min(math.ceil(self.least_images / images), 1_000_000)))


@dataclass(frozen=True, kw_only=True)
class Config:
    """All that a run is made from: enough to make it again.

    Attributes:
        source: name or path of the data, as `kilonet.load` takes it.
        split: `standard`, `full`, `tutorial`, or fractions such as `70/15/15`.
        model: a name of the zoo, or `path/to/file.py:ClassName`.
        preset: the preset that this began as, if any.
        split_seed: seed of the split, if it is not the training's.
        seeds: independent runs, with the seeds `training.seed`, `training.seed + 1`, ...
        committee: nets of one committee, with the seeds `training.seed`, `training.seed + 1`, ..., that is measured as
            one model: its answer is the mean of their class probabilities.
        save_every: seconds between checkpoints inside an epoch; there is one after an epoch, too, where it costs
            less than a hundredth of the time since the last.
        training: how the model is trained.
    """

    source: str = "mnist-5k"
    split: str = "standard"
    model: str = "kilo-16k"
    preset: str | None = None
    split_seed: int | None = None
    seeds: int = 1
    committee: int = 1
    save_every: float = 30.0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        _require(1 <= self.seeds <= 10_000, "seeds", self.seeds, "from 1 to 10,000")
        _require(0 <= self.save_every < math.inf, "save_every", self.save_every, "a number of seconds from 0")
        _require(1 <= self.committee <= MOST_MEMBERS, "committee", self.committee, f"from 1 to {MOST_MEMBERS}")
        if self.seeds > 1 and self.committee > 1:
            raise ConfigError(
                f"seeds = {self.seeds} and committee = {self.committee} won't do together",
                "a committee has a seed a member; for several committees train one with --seed "
                f"{self.training.seed}, the next with --seed {self.training.seed + self.committee}, ...",
            )
        _require(self.numbers[-1] < 2**63, "seed", self.training.seed, "small enough for every seed to be below 2**63")

    @property
    def numbers(self) -> range:
        """The seeds of the trainings that it asks for: of one, of several runs, or of a committee's members."""
        first = self.training.seed
        return range(first, first + max(self.seeds, self.committee))


_TUTORIAL: dict[str, Any] = {
    "batch_size": 64,
    "val_batch_size": 128,
    "optimizer": "adam",
    "lr": 1e-3,
    "epochs": 15,
}
_PLAIN_SCRIPT: dict[str, Any] = {**_TUTORIAL, "batch_order": "loader", "measure": "last"}
_ONE_CYCLE: dict[str, Any] = {"optimizer": "adamw", "schedule": "one-cycle", "lr": 1e-2, "weight_decay": 1e-2}
_WARPED: dict[str, Any] = {**_ONE_CYCLE, "shift": 1.5, "rotate": 8.0, "zoom": 0.08, "shear": 4.0}

RECIPES: dict[str, dict[str, Any]] = {
    "linear": _TUTORIAL,
    "linear-from-scratch": _TUTORIAL,
    "tutorial-cnn": _TUTORIAL,
    "kilo-fast": {**_ONE_CYCLE, "epochs": 2, "least_images": 100_000},
    "kilo-4k": {**_WARPED, "elastic": 1.5, "least_images": 200_000},
    "kilo-16k": {**_WARPED, "elastic": 2.0, "least_images": 100_000},
    "kilo-100k": {**_WARPED, "elastic": 2.0, "epochs": 20, "least_images": 100_000},
}
"""Training settings of each zoo model, where they differ from the defaults of `Training`."""

PRESETS: dict[str, dict[str, Any]] = {
    "tutorial-linear": {
        "model": "linear",
        "split": "tutorial",
        "training": _PLAIN_SCRIPT,
    },
    "tutorial-cnn": {
        "model": "tutorial-cnn",
        "split": "tutorial",
        "training": _PLAIN_SCRIPT,
    },
    "fast": {"model": "kilo-fast"},
}
"""Whole experiments by name: what they set of a config, and their training settings over the model's recipe.

The tutorial's give a plain script's very bits on the torch engine; on the native one, which `auto` takes, the same
losses but for rounding.
"""


def recipe(model: str, **settings: Any) -> Training:
    """The training settings that a model carries, with some of them replaced.

    Args:
        model: a name of the zoo; any other model gets the defaults of `Training`.
        **settings: fields of `Training` to set otherwise.

    Raises:
        ConfigError: for an unknown setting or a value that won't do.
    """
    return _from_table(Training, {**RECIPES.get(model, {}), **_given(settings)}, "setting")


def _given(training: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were given: a number of epochs is meant as it stands."""
    return {"least_images": 0, **training} if "epochs" in training else training


def resolve(settings: dict[str, Any], training: dict[str, Any], base: Config | None = None) -> Config:
    """One config from what was asked for, over a base config, a preset or a model's recipe.

    Args:
        settings: fields of `Config` that were given, `preset` among them.
        training: fields of `Training` that were given.
        base: a config read from a file, to start from.

    Raises:
        ConfigError: for an unknown preset or setting, or a value that won't do.
    """
    if base is not None:
        if "preset" in settings:
            raise ConfigError("--preset and --config both were given", "a config file holds its preset already")
        merged = replace(base.training, **_given(training))
        return replace(base, **settings, training=merged)
    preset = PRESETS.get(settings.get("preset", ""), {})
    if "preset" in settings and not preset:
        raise ConfigError(f"unknown preset {settings['preset']!r}", nearest(settings["preset"], PRESETS))
    start = {"model": Config.model, **{k: v for k, v in preset.items() if k != "training"}, **settings}
    chosen = recipe(start["model"], **{**preset.get("training", {}), **_given(training)})
    return Config(**start, training=chosen)


def measured_weights(config: Config) -> str:
    """Which weights get measured: nothing can choose the best ones where nothing validates."""
    return "last" if config.split == "full" else config.training.measure


def weight_file(config: Config) -> str:
    """The file, in a run directory, of the weights that get measured: a committee has one for all its members."""
    return f"weights/{'committee' if config.committee > 1 else measured_weights(config)}.safetensors"


def to_toml(config: Config, **extra: Any) -> str:
    """A config as TOML, with further keys that say how it came about and are passed over when read."""
    table = {name: value for name, value in asdict(config).items() if value is not None}
    table["training"] = {name: value for name, value in table["training"].items() if value is not None}
    return tomli_w.dumps({**table, **extra})


def read_toml(path: Path) -> Config:
    """The config in a TOML file.

    Raises:
        ConfigError: for a file that is not there or not TOML, an unknown key or a value that won't do.
    """
    table = read_table(path)
    if not isinstance(table.get("training", {}), dict):
        raise ConfigError(f"{path}: [training] should be a table")
    return from_table({name: value for name, value in table.items() if name not in {"format", "versions", "parts"}})


def from_table(table: dict[str, Any]) -> Config:
    """A config from what `asdict` made of it, its keys and the types of its values checked.

    Raises:
        ConfigError: for an unknown key or a value that won't do.
    """
    training = table.get("training", {})
    if not isinstance(training, dict):
        raise ConfigError("[training] should be a table")
    return _from_table(Config, {**table, "training": _from_table(Training, training, "training setting")}, "setting")


def read_table(path: Path) -> dict[str, Any]:
    """All that stands in a TOML file.

    Raises:
        ConfigError: for a file that is not there or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", f"its config file may be {path / 'config.toml'}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _from_table(cls: type[T], table: dict[str, Any], what: str) -> T:
    """A dataclass from a mapping, its keys and the types of its values checked."""
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for name, value in table.items():
        if name not in names:
            raise ConfigError(f"unknown {what} {name!r}", nearest(name, names))
        if not _fits(value, hints[name]):
            raise ConfigError(f"{what} {name} = {value!r} won't do: expected {_describe(hints[name])}")
    return cls(**table)


_MOST = 10**300
"""Whole numbers beyond this are no floats."""


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST
        return whole or isinstance(value, float)
    return isinstance(value, hint) and not (isinstance(value, bool) and hint is int)


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    words: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", type(None): "nothing"}
    return words.get(hint, str(hint))


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} = {value} won't do: expected {expected}")
