"""A page of a small trained net, and the browser to open it in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kilonet as kn
from export.browsing import launched, visited
from kilonet.export import html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from kilonet.models import Classifier


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module: as long as it is there, no other event loop can run."""
    yield from launched()


@pytest.fixture(scope="session")
def digit_reader(mnist_5k: kn.ImageSet) -> Classifier:
    data = mnist_5k.split()
    model = kn.build("kilo-16k", data.train, seed=0)
    kn.fit(model, data, kn.recipe("kilo-16k", epochs=15, seed=0))
    return model.eval()


@pytest.fixture(scope="session")
def page(digit_reader: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "a page #1.html"
    path.write_text(html.page(digit_reader), encoding="utf-8")
    return path


@pytest.fixture
def tab(browser: Browser, page: Path) -> Iterator[Page]:
    with visited(browser, page) as tab:
        yield tab
