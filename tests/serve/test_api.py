"""What is asked of the API, and what it answers: the same as in Python, whatever form images come in."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import kilonet as kn
from kilonet.committee import Committee
from kilonet.export import html
from kilonet.models import adopt
from kilonet.predict import Predictor
from kilonet.preprocess import prepare
from serve.conftest import children, serving

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kilonet.models import Classifier
    from serve.conftest import Served

RAW = {"content-type": "application/octet-stream"}


def drawing(seed: int = 0, side: int = 100, mode: str = "L") -> bytes:
    """A thick stroke, dark on white."""
    pixels = np.full((side, side), 255, np.uint8)
    across = int(np.random.default_rng(seed).integers(20, 60))
    pixels[side // 6 : side - side // 6, across : across + side // 12] = 10
    pixels[side // 6 : side // 4, across - side // 10 : across + side // 4] = 10
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def expected(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return Predictor(model).probabilities(images)


def check(found: list[dict[str, Any]], model: Classifier, images: NDArray[np.uint8]) -> None:
    right = expected(model, images)
    assert len(found) == len(right)
    for one, row in zip(found, right, strict=True):
        assert list(one["probabilities"]) == list(model.classes)
        np.testing.assert_allclose(list(one["probabilities"].values()), row, atol=1e-8)
        assert one["class"] == model.classes[int(row.argmax())]
        assert one["probability"] == one["probabilities"][one["class"]]


def some_images(model: Classifier, n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, *model.shape), np.uint8)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_raw_bytes(served: Served, n: int) -> None:
    images = some_images(served.model, n)
    answer = served.client.post("/v1/predict", content=images.tobytes(), headers=RAW)
    assert answer.status_code == 200
    check(answer.json()["predictions"], served.model, images)


def test_without_all_probabilities(served: Served) -> None:
    images = some_images(served.model, 3)
    whole = served.client.post("/v1/predict", content=images.tobytes(), headers=RAW).json()["predictions"]
    short = served.client.post("/v1/predict?probabilities=false", content=images.tobytes(), headers=RAW)
    assert short.json()["predictions"] == [{k: one[k] for k in ("class", "probability")} for one in whole]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("form", ["one", "one with channel", "many", "many with channel", "whole floats"])
def test_json(served: Served, form: str, wrapped: bool) -> None:
    images = some_images(served.model, 1 if form.startswith("one") else 3)
    array: Any = {
        "one": images[0, 0], "one with channel": images[0], "many": images[:, 0], "many with channel": images,
        "whole floats": images.astype(float),
    }[form].tolist()  # fmt: skip
    answer = served.client.post("/v1/predict", json={"images": array} if wrapped else array)
    assert answer.status_code == 200
    check(answer.json()["predictions"], served.model, images)


def test_a_picture_is_the_body(served: Served) -> None:
    for kind, mode in (("image/png", "L"), ("image/png", "RGBA"), ("image/x-portable-pixmap", "RGB")):
        content = drawing(1, mode=mode)
        answer = served.client.post("/v1/predict", content=content, headers={"content-type": kind})
        check(answer.json()["predictions"], served.model, prepared(content, served.model))


def prepared(content: bytes, model: Classifier) -> NDArray[np.uint8]:
    image = prepare(np.array(Image.open(io.BytesIO(content)).convert("L")), model.shape, model.preparation)
    assert image is not None
    return image[None]


def test_many_pictures_in_their_order_with_a_blank_one(served: Served) -> None:
    blank = io.BytesIO()
    Image.new("L", (50, 50), "white").save(blank, "PNG")
    contents = [drawing(1), blank.getvalue(), drawing(2, 300)]
    files = [("file", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    found = served.client.post("/v1/predict", files=files).json()["predictions"]
    check([found[0]], served.model, prepared(contents[0], served.model))
    check([found[2]], served.model, prepared(contents[2], served.model))
    assert found[1] == {"class": None, "probability": None, "probabilities": None, "note": "nothing drawn"}
    short = served.client.post("/v1/predict?probabilities=false", files=files).json()["predictions"]
    assert short[1] == {"class": None, "probability": None, "note": "nothing drawn"}
    assert short[2] == {key: found[2][key] for key in ("class", "probability")}


def test_multipart_as_others_write_it(served: Served) -> None:
    picture = drawing(3)
    body = b'\r\n--a b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + picture + b"\r\n--a b--\r\nend"
    kind = {"content-type": 'multipart/form-data; charset=utf-8; boundary="a b"'}
    answer = served.client.post("/v1/predict", content=body, headers=kind)
    check(answer.json()["predictions"], served.model, prepared(picture, served.model))


def test_the_model(served: Served) -> None:
    found = served.client.get("/v1/model").json()
    limits = found.pop("limits")
    assert found == {
        "name": "kilo-4k", "classes": list(served.model.classes), "shape": [1, 28, 28], "preparation": "digit",
        "parameters": served.model.parameter_count(), "sha256": hashlib.sha256(served.weights.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert set(limits) == {"body", "images", "pixels", "seconds"}


def test_the_page_is_the_exported_one(served: Served) -> None:
    answer = served.client.get("/")
    assert answer.text == html.page(served.model)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_health_and_metrics(served: Served) -> None:
    assert served.client.get("/healthz").json() == {"status": "ok"}
    before = counted(served)
    served.client.post("/v1/predict", content=bytes(3 * 784), headers=RAW)
    served.client.post("/v1/predict", content=b"", headers=RAW)
    served.client.get("/who/knows")
    after = counted(served)
    for name, more in (
        ('kilonet_requests_total{path="/v1/predict",status="200"}', 1),
        ('kilonet_requests_total{path="/v1/predict",status="422"}', 1),
        ('kilonet_requests_total{path="other",status="404"}', 1),
        ('kilonet_images_total{body="application/octet-stream"}', 3),
    ):
        assert after[name] - before.get(name, 0) == more, name


def counted(served: Served) -> dict[str, float]:
    answer = served.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_documentation_needs_nothing_from_elsewhere(served: Served) -> None:
    answer = served.client.get("/docs")
    assert answer.status_code == 200
    text = re.sub(r"http://127\.0\.0\.1:8000", "", answer.text)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img", text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in ("/v1/predict", "/v1/model", "/healthz", "/metrics"):
        assert path in text


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/model", "/healthz", "/metrics", "/openapi.json"])
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    head, get = served.client.head(path), served.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_every_answer_is_strict_with_browsers(served: Served) -> None:
    answers = [served.client.get(path) for path in ("/", "/docs", "/v1/model", "/nowhere")]
    answers.append(served.client.post("/v1/predict", content=b"", headers=RAW))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_other_paths_and_methods(served: Served) -> None:
    for path in ("/nowhere", "/v1/model/", "/v1", "/%00", "/..%2f..%2fetc/passwd", "/docs/x"):
        answer = served.client.get(path)
        assert (answer.status_code, set(answer.json())) == (404, {"error", "hint"})
    for method, path, allowed in (
        ("DELETE", "/v1/predict", "POST"),
        ("GET", "/v1/predict", "POST"),
        ("POST", "/", "GET"),
    ):
        answer = served.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert set(answer.json()) == {"error", "hint"}


@pytest.mark.parametrize("host", ["localhost", "localhost:", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9999", "[::1]:80"])
def test_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    assert served.client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "[::2]",
        "[::1]evil.example",
        "localhost:80@evil.example",
        "localhost:x",
        "[::1",
        "localhost evil",
    ],
)
def test_other_names_are_not(served: Served, host: str) -> None:
    for answer in (
        served.client.get("/", headers={"host": host}),
        served.client.post("/v1/predict", content=bytes(784), headers=RAW | {"host": host}),
    ):
        assert answer.status_code == 400
        assert "Host" in answer.json()["error"]


@pytest.mark.parametrize("host", ["0", "0.0.0.0"])
def test_who_listens_everywhere_is_asked_by_any_address(digits_model: Classifier, host: str) -> None:
    with serving(digits_model, "--host", host) as served:
        for name, status in (("10.1.2.3:80", 200), ("[fe80::1]", 200), ("evil.example", 400), ("10.1.2.3.evil", 400)):
            assert served.client.get("/healthz", headers={"host": name}).status_code == status


def test_a_committee_and_colours_and_another_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 10), np.uint8)
    data = kn.ImageSet(pixels, np.arange(40) % 3, ("a", 'b"<\\', "ü"))
    model = Committee.of([kn.build("kilo-4k", data, seed=seed) for seed in range(2)]).eval()
    with serving(model) as served:
        images = some_images(model, 5)
        found = served.client.post("/v1/predict", json=images.tolist()).json()["predictions"]
        check(found, model, images)
        check(served.client.post("/v1/predict", json=images[0].tolist()).json()["predictions"], model, images[:1])
        assert served.client.post("/v1/predict", json=images[:, 0].tolist()).status_code == 422
        page = served.client.get("/")
        assert page.status_code == 200
        assert "docs" in page.text
        picture = served.client.post("/v1/predict", content=drawing(), headers={"content-type": "image/png"})
        assert picture.status_code == 200


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(784, 10)

    def forward(self, images):
        return self.line(images.flatten(1).tanh())
"""


def test_a_model_of_ones_own_is_computed_by_pytorch(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    exec(OWN, namespace)
    net: nn.Module = namespace["Own"]()
    model = adopt(net, kn.load("mnist-5k")).eval()
    with serving(model, "--model", f"{file}:Own") as served:
        images = some_images(model, 4)
        answer = served.client.post("/v1/predict", content=images.tobytes(), headers=RAW)
        check(answer.json()["predictions"], model, images)
        assert "no page" in served.client.get("/").text


def test_pytorch_is_not_in_the_serving_process(served: Served) -> None:
    for pid in (served.process.pid, *children(served.process.pid)):
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_a_taken_port_is_one_clear_line(served: Served) -> None:
    command = [sys.executable, "-m", "kilonet", "serve", str(served.weights), "--port", str(served.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: can't listen on 127.0.0.1 port {served.port}: ")
    assert done.stderr.count("\n") == 2


def test_what_is_missing_is_named(served: Served) -> None:
    code = (
        "import sys\nsys.modules['fastapi'] = None\nfrom kilonet import cli\n"
        f"cli.main(['serve', {str(served.weights)!r}, '--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (
        1, "error: kilonet serve needs fastapi\nhint: pip install 'kilonet[serve]'\n",
    )  # fmt: skip


def test_requests_at_the_same_time_get_their_own_answers(served: Served) -> None:
    images = some_images(served.model, 64)
    right = expected(served.model, images)

    async def all_at_once() -> list[httpx.Response]:
        import asyncio

        async with httpx.AsyncClient(base_url=str(served.client.base_url), trust_env=False, timeout=60) as client:
            asked = (client.post("/v1/predict", content=image.tobytes(), headers=RAW) for image in images)
            return list(await asyncio.gather(*asked))

    import asyncio

    for answer, row in zip(asyncio.run(all_at_once()), right, strict=True):
        [one] = answer.json()["predictions"]
        np.testing.assert_allclose(list(one["probabilities"].values()), row, atol=1e-8)
