"""What a sweep is: its settings, its space, how it looks through it, and the identity that these make."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from kilonet.config import Config, from_table, resolve
from kilonet.errors import ConfigError, ModelError, RunError
from kilonet.models import file_checksum, is_file
from kilonet.sweep import space
from kilonet.sweep.space import Space

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "none"]

_NO_MATTER = ("source", "preset", "save_every", "committee")
"""Settings that tell no sweep from another: the data has a checksum."""


@dataclass(frozen=True)
class Spec:
    """All that makes a sweep the one that it is.

    Attributes:
        settings: fields of `Config` that were given; a model of a user's own file as `file.py:ClassName`.
        training: fields of `Training` that were given.
        base: a config to begin from, as a table, or None.
        texts: the axes of the space, each as `KEY=VALUES`.
        sampler: what draws settings.
        pruner: what ends trials early.
        parts: the number and checksum of the images of each part of the split.
        own: SHA-256 of each file of a model of a user's own, by `file.py:ClassName`.
    """

    settings: dict[str, Any]
    training: dict[str, Any]
    base: dict[str, Any] | None
    texts: tuple[str, ...]
    sampler: Sampler
    pruner: Pruner
    parts: dict[str, Any]
    own: dict[str, str]

    @cached_property
    def space(self) -> Space:
        """What it looks through."""
        return space.parse(self.texts)

    def config(self, values: dict[str, Any]) -> Config:
        """The config of a trial with these values of the axes; its split is the same for all.

        Raises:
            ConfigError: if they won't do.
        """
        more = {key: value for key, value in values.items() if key != "model"}
        settings = {**self.settings, **({"model": values["model"]} if "model" in values else {})}
        base = None if self.base is None else from_table(self.base)
        found = resolve(settings, {**self.training, **more}, base)
        return replace(found, split_seed=found.training.seed if found.split_seed is None else found.split_seed)

    @cached_property
    def first(self) -> Config:
        """The config of one of its trials, for what is the same in all."""
        return self.config(self.space.corner)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that its trials are of."""
        named = [axis.values for axis in self.space.axes if axis.key == "model"]
        return named[0] if named else (self.first.model,)

    @cached_property
    def identity(self) -> str:
        """64 hex digits that are the same for the same sweep on any machine, and for no other."""
        swept = {axis.key for axis in self.space.axes}
        configs = []
        for model in self.models:
            table = asdict(self.config({**self.space.corner, "model": model}))
            training = table.pop("training")
            kept = {key: value for key, value in training.items() if key not in swept | {"device", "threads"}}
            configs.append({**{k: v for k, v in table.items() if k not in _NO_MATTER}, "training": kept})
        told = [configs, self.texts, self.sampler, self.pruner, self.parts, self.own]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """It as JSON, with its identity and the version of Kilonet."""
        return {"kilonet": version("kilonet"), "identity": self.identity, **asdict(self)}

    def check_files(self, files: dict[str, str]) -> None:
        """Make sure that the files of a user's own models were given, and are those that the sweep began with.

        Args:
            files: `path/to/file.py:ClassName` of each `file.py:ClassName`.

        Raises:
            ModelError: if one was not, or is not.
        """
        for name in sorted({*filter(is_file, self.models), *self.own}):
            if name not in files:
                raise ModelError(
                    f"the sweep trains {name!r}, which is not imported because a database says so",
                    f"give the file: --model path/to/{name}",
                )
            if file_checksum(files[name]) != self.own.get(name):
                raise ModelError(f"{files[name]} is another file than the one that the sweep began with", "put it back")


def from_document(found: Any) -> Spec:
    """The spec that `document` gave.

    Raises:
        RunError: if it is of another version of Kilonet, or none.
    """
    ours = version("kilonet")
    if not isinstance(found, dict) or not isinstance(found.get("kilonet"), str):
        raise RunError("the database holds something else under this name", "give another --name")
    if found["kilonet"] != ours:
        raise RunError(
            f"the sweep was begun by Kilonet {found['kilonet']}, and this is {ours}",
            "the same version on all machines, or another --name",
        )
    try:
        fields = {key: value for key, value in found.items() if key not in ("kilonet", "identity")}
        spec = Spec(**{**fields, "texts": tuple(fields["texts"])})
        known = spec.identity == found["identity"]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError):
        known = False
    if not known:
        raise RunError("what the database holds of the sweep is damaged", "give another --name")
    return spec


def named_files(models: list[str]) -> dict[str, str]:
    """`path/to/file.py:ClassName` of each model of a user's own file among these, by `file.py:ClassName`.

    Raises:
        ConfigError: if two files would have the same name.
    """
    found: dict[str, str] = {}
    for model in filter(is_file, models):
        name = short_name(model)
        if found.setdefault(name, model) != model:
            raise ConfigError(f"{found[name]} and {model} have the same name", "rename one of the files")
    return found


def short_name(model: str) -> str:
    """A model's name without the folder of its file."""
    if not is_file(model):
        return model
    path, colon, cls = model.rpartition(":")
    return f"{Path(path).name}:{cls}" if colon else Path(model).name
