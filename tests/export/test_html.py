"""The page as text: small, sealed by its policy, the same for equal models, and safe whatever names are in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape

import numpy as np
import pytest
import torch

import kilonet as kn
from kilonet.export import html
from kilonet.export.layers import plain_net
from kilonet.models import Classifier

HOSTILE = (
    "</script><script>alert(1)</script>", "<!--<script>",
    "\"'&<b>", "\u202eolleh\u2028", "\ud800", "\x00\x1b[31m", "$policy", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(mnist_5k: kn.ImageSet) -> Classifier:
    return kn.build("kilo-16k", mnist_5k, seed=0).eval()


@pytest.fixture(scope="module")
def text(model: Classifier) -> str:
    return html.page(model)


def inside(text: str, opening: str, closing: str) -> str:
    (found,) = re.findall(f"{opening}(.*?){closing}", text, re.DOTALL)
    return str(found)


def sealed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_16k_net_is_under_150_kilobytes(text: str) -> None:
    assert len(text.encode()) < 150_000


def test_equal_models_give_equal_bytes(text: str, mnist_5k: kn.ImageSet) -> None:
    assert html.page(kn.build("kilo-16k", mnist_5k, seed=0).eval()) == text
    assert html.page(kn.build("kilo-16k", mnist_5k, seed=1).eval()) != text


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(text: str) -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in unescape(inside(text, 'Security-Policy" content="', '"')).split(";")
    )
    script, style = (sealed(inside(text, f"<{name}>", f"</{name}>")) for name in ("script", "style"))
    assert policy == {
        "default-src": "'none'", "script-src": script, "style-src": style, "img-src": "data: blob:",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert text.index("Content-Security-Policy") < text.index("<link")


def test_it_refers_to_nothing_outside_and_has_no_handlers_in_its_markup(text: str) -> None:
    text = re.sub(r'(id="weights">).*?<', r"\1<", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bimport\b|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(", text)
    markup = re.sub(r"<(script|style)\b[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\son\w+=|javascript:|\sstyle=", markup)
    assert re.findall(r"\b(?:src|href)=\"(.{0,5})", markup) == ["data:"]


def test_its_weights_are_those_of_the_plain_net(model: Classifier, text: str) -> None:
    found = np.frombuffer(base64.b64decode(inside(text, 'id="weights">', "</script>")), "<f4")
    layers = [layer for layer in plain_net(model, "html").layers if layer.weight is not None]
    wanted = [np.asarray(values).ravel() for layer in layers for values in (layer.weight, layer.bias)]
    np.testing.assert_array_equal(found, np.concatenate(wanted).astype(np.float32))


def test_names_from_outside_stay_data(mnist_5k: kn.ImageSet) -> None:
    model = kn.build("linear", mnist_5k, seed=0).eval()
    plain = html.page(model)
    model.classes, model.name = (*HOSTILE, "8", "9"), "".join(HOSTILE)
    text = html.page(model)
    text.encode()
    tags = r"</?(?:script|style|b)\b|<!--"
    assert re.findall(tags, text) == re.findall(tags, plain)
    assert json.loads(inside(text, 'id="net">', "</script>"))["classes"] == list(model.classes)
    assert unescape(inside(text, "<title>", "</title>")) == model.name.replace("\ud800", "?") + " – Kilonet"


@pytest.mark.parametrize(
    ("classes", "preparation", "title"),
    [
        (("3", "5"), "digit", "Draw a digit"),
        (("3", "x"), "digit", "Draw a character"),
        (("bag", "coat"), "resize", "Draw, or drop a picture"),
    ],
)
def test_the_title_says_what_to_do(classes: tuple[str, ...], preparation: str, title: str) -> None:
    data = kn.from_arrays(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1]))
    model = kn.build("linear", data, seed=0)
    model.classes, model.preparation = classes, "digit" if preparation == "digit" else "resize"
    assert f"<h1>{title}</h1>" in html.page(model)


def test_a_committee_is_refused(mnist_5k: kn.ImageSet) -> None:
    committee = kn.Committee.of([kn.build("linear", mnist_5k, seed) for seed in (0, 1)])
    with pytest.raises(kn.ModelError, match="can't be written as html"):
        html.page(committee)


def test_a_model_is_left_as_it_was(mnist_5k: kn.ImageSet) -> None:
    model = kn.build("kilo-4k", mnist_5k, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    html.page(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
