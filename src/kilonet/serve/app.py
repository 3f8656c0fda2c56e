"""The application: its routes, and its errors as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Route

from kilonet.serve import openapi, pages
from kilonet.serve.answers import Writer
from kilonet.serve.batching import Batcher
from kilonet.serve.limits import Limits, problem
from kilonet.serve.metrics import Metrics
from kilonet.serve.prediction import Predict
from kilonet.serve.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy as np
    from numpy.typing import NDArray

    from kilonet.serve.decoding import Decoders
    from kilonet.serve.packed import Packed

PREDICT = "/v1/predict"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


class Bounds(BaseModel):
    """What a request may cost."""

    body: int = Field(description="Bytes of a request's body.")
    images: int = Field(description="Images of a request.")
    pixels: int = Field(description="Pixels of all the pictures of a request together.")
    seconds: float = Field(description="That a body may take to come.")


class Model(BaseModel):
    """The model that answers."""

    name: str
    classes: list[str]
    shape: list[int] = Field(description="Channels, height and width of an image.")
    preparation: Literal["digit", "resize"] = Field(description="How a picture is made into such an image.")
    parameters: int = Field(description="The number of trained values.")
    sha256: str = Field(description="Of the weight file.")
    limits: Bounds


def application(
    model: Packed,
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    decoders: Decoders,
    hosts: Collection[str],
    limits: Limits,
) -> Shell:
    """The ASGI application that serves a model.

    Args:
        model: what is served.
        probabilities: of images, uint8, (N, C, H, W), those of every class, float64, (N, K).
        decoders: make pictures into images.
        hosts: the address that is listened on, and its name if it has one, for the check of Host headers.
        limits: what requests may cost.
    """
    writer, metrics = Writer(model.classes), Metrics()
    predict = Predict(model, Batcher(probabilities, writer), writer, decoders, metrics, limits)
    app = FastAPI(
        title=f"Kilonet: {model.name}", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    _add_errors(app)
    _add_pages(app, model, limits)
    _add_metrics(app, metrics)
    _add_documents(app, openapi.document(app, model, limits, PREDICT))
    app.router.routes.append(Route(PREDICT, predict, methods=["POST"]))
    paths = [route.path for route in app.router.routes if isinstance(route, Route)]
    return Shell(app, {("POST", PREDICT): predict}, hosts, paths, metrics)


def _add_pages(app: FastAPI, model: Packed, limits: Limits) -> None:
    """`/`, `/v1/model` and `/healthz`."""
    described = Model(
        name=model.name, classes=list(model.classes), shape=list(model.shape), preparation=model.preparation,
        parameters=model.parameters, sha256=model.sha256,
        limits=Bounds(body=limits.body, images=limits.images, pixels=limits.pixels, seconds=limits.seconds),
    )  # fmt: skip

    @app.get("/", response_class=HTMLResponse, summary="The page where one draws", tags=["page"])
    async def page() -> Response:
        if model.page is None:
            return pages.answer(pages.without_page(model.name), pages.STYLED)
        return pages.answer(model.page, pages.OWN)

    @app.get("/v1/model", summary="The model that answers", tags=["model"])
    async def about() -> Model:
        return described

    @app.get("/healthz", summary="Whether the server answers", tags=["server"])
    async def health() -> Health:
        return Health()


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", response_class=PlainTextResponse, summary="Counts for Prometheus", tags=["server"])
    async def count() -> Response:
        return Response(metrics.text(), media_type=_METRICS_TYPE)


def _add_documents(app: FastAPI, document: dict[str, Any]) -> None:
    """`/openapi.json` and `/docs`, made once."""
    described, page = json.dumps(document).encode(), pages.documentation(document)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_json() -> Response:
        return Response(described, media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.answer(page, pages.STYLED)


def _add_errors(app: FastAPI) -> None:
    """Every error as `{"error": ..., "hint": ...}`."""

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        words = {404: "there is nothing here", 405: f"this path takes {headers.get('Allow')}"}
        body = problem(words.get(error.status_code, error.detail), "the paths are described at /docs")
        return Response(body, error.status_code, headers, "application/json")

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return Response(problem("the server failed", "its log says why"), 500, None, "application/json")
