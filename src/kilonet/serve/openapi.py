"""The OpenAPI document: FastAPI's own for the small routes, and what predictions take and give, written by hand."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kilonet.serve import bodies

if TYPE_CHECKING:
    from fastapi import FastAPI

    from kilonet.serve.limits import Limits
    from kilonet.serve.packed import Packed

Schema = dict[str, Any]

LISTED = (
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/x-portable-anymap",
)  # fmt: skip
"""Content types of pictures that the document lists; `kilonet.serve.bodies.PICTURES` has other names of these, too."""
_REFUSALS = {
    "400": "The request or its body is malformed, or its Host header names another server.",
    "408": "The request or its body did not come in time.",
    "413": "The body is too large, or has too many images or pixels.",
    "415": "The content type is none that is taken, or the body is compressed.",
    "422": "The body holds no images that the model takes.",
    "429": "Too many requests or connections at a time.",
    "431": "The request's first line and headers are too large.",
}


def document(app: FastAPI, model: Packed, limits: Limits, path: str) -> Schema:
    """The whole document.

    Args:
        app: whose routes are described already, all but predictions.
        model: what answers.
        limits: what a request may cost.
        path: of predictions.
    """
    app.version = version("kilonet")
    found: Schema = app.openapi()
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem()
    schemas["Prediction"] = _prediction(model)
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["responses"] |= _refusals("400", "408", "429", "431")
    found["paths"][path] = {"post": _predict(model, limits)}
    return found


def _predict(model: Packed, limits: Limits) -> Schema:
    channels, height, width = model.shape
    size = channels * height * width
    return {
        "tags": ["model"],
        "summary": "Predict one image or many",
        "operationId": "predict",
        "description": (
            f"Pictures of any size are prepared as the model wants them ({model.preparation}); arrays and raw bytes "
            f"are its own input, {channels} x {height} x {width}. The answer has a prediction for each, in order. "
            f"A request may have {limits.body:,} bytes, {limits.images:,} images and pictures of {limits.pixels:,} "
            f"pixels together, and has {limits.seconds:g} seconds to come."
        ),
        "parameters": [
            {
                "name": "probabilities", "in": "query", "required": False,
                "description": "false leaves the probabilities of all the classes out.",
                "schema": {"type": "string", "enum": ["true", "false"], "default": "true"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                bodies.FORM: {"schema": _form(), "encoding": {"file": {"contentType": ", ".join(LISTED)}}},
                **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in LISTED},
                bodies.JSON: {"schema": _arrays(model)},
                bodies.RAW: {
                    "schema": {
                        "type": "string", "format": "binary", "minLength": size,
                        "description": f"{size:,} bytes an image: channels, rows, columns; images follow each other.",
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "A prediction for each image.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object", "required": ["predictions"], "additionalProperties": False,
                            "properties": {"predictions": {
                                "type": "array", "items": {"$ref": "#/components/schemas/Prediction"}, "minItems": 1,
                            }},
                        }
                    }
                },
            },
            **_refusals(*_REFUSALS),
        },
    }  # fmt: skip


def _form() -> Schema:
    picture = {"type": "string", "format": "binary", "contentMediaType": "image/png"}
    return {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": {"type": "array", "items": picture, "minItems": 1}},
        "description": "A picture file in each part, whatever the parts' names.",
    }


def _arrays(model: Packed) -> Schema:
    """One image or many, nested; for grey ones the axis of the channel may be left out."""
    channels, height, width = model.shape
    map_ = _of(height, _of(width, {"type": "integer", "minimum": 0, "maximum": 255}))
    images = [_of(channels, map_)] if channels > 1 else [map_, _of(1, map_)]
    many = [{"type": "array", "items": image, "minItems": 1} for image in images]
    arrays = [images[0], *many]
    whole = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": {"anyOf": arrays}},
    }
    return {
        "anyOf": [*arrays, whole],
        "description": "Whole numbers from 0 to 255 in nested arrays, an image or many.",
    }


def _of(n: int, items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": n, "maxItems": n}


def _prediction(model: Packed) -> Schema:
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "required": ["class", "probability"],
        "additionalProperties": False,
        "description": "What the model says of an image. Where nothing is drawn, all is null and a note says so.",
        "properties": {
            "class": {"type": ["string", "null"], "enum": [*model.classes, None]},
            "probability": {**probability, "type": ["number", "null"], "description": "Of that class."},
            "probabilities": {
                "type": ["object", "null"],
                "required": list(model.classes),
                "additionalProperties": False,
                "properties": dict.fromkeys(model.classes, probability),
                "description": "Of every class.",
            },
            "note": {"type": "string", "enum": ["nothing drawn"]},
        },
    }


def _problem() -> Schema:
    return {
        "type": "object",
        "required": ["error", "hint"],
        "additionalProperties": False,
        "properties": {
            "error": {"type": "string", "description": "What was given, and what was expected."},
            "hint": {"type": ["string", "null"], "description": "What to do."},
        },
    }


def _refusals(*statuses: str) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}
