"""Settings: recipes, and epochs where images are few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import kilonet as kn
from kilonet import config, run
from kilonet.config import Config, Training
from kilonet.errors import ConfigError


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 1000), (99, 11), (100, 10), (101, 10), (250, 4), (333, 4), (334, 3), (10**6, 3)]
)
def test_few_images_get_more_epochs(images: int, epochs: int) -> None:
    training = Training(epochs=3, least_images=1000)
    assert training.over(images) == replace(training, epochs=epochs)
    assert training.over(images).over(images) == training.over(images)


def test_epochs_that_are_given_are_meant(tmp_path: Path) -> None:
    raised = Config(training=Training(epochs=3, least_images=10**6))
    (tmp_path / "c.toml").write_text(config.to_toml(raised))
    base = config.read_toml(tmp_path / "c.toml")
    assert base == raised
    for chosen in (
        config.resolve({}, {"epochs": 2}, base).training,
        config.resolve({}, {"epochs": 2}).training,
        kn.recipe("kilo-16k", epochs=2),
    ):
        assert chosen.over(10).epochs == 2
    assert config.resolve({}, {"epochs": 2, "least_images": 30}).training.over(10).epochs == 3
    assert config.resolve({}, {"lr": 0.5}, base).training.least_images == 10**6


def test_a_run_and_fit_take_as_many_epochs_as_the_images_need(mnist_5k: kn.ImageSet) -> None:
    training = Training(epochs=1, least_images=7000, batch_size=500)
    assert run.plan(Config(model="linear", training=training)).config.training.epochs == 2
    data = mnist_5k.split()
    assert len(kn.fit(kn.build("linear", data.train), data, training).epochs) == 2
    assert len(list(kn.epochs(kn.build("linear", data.train), data, training))) == 2


def test_least_images_are_a_number_from_0() -> None:
    with pytest.raises(ConfigError, match="least_images"):
        Training(least_images=-1)
