"""A trained model served the way people do it: FastAPI, UploadFile, Pillow, eager PyTorch, plain uvicorn.

    python bench/serving_plain.py RUN PORT

`bench/serving.py` runs it beside `kilonet serve`. What is in it is what one finds in tutorials: an `async def` that
awaits the upload, opens it, turns it into a tensor and asks the model under `no_grad`, one request after another.
Beside a picture file it takes raw pixels in the same way, so that all three loads can be compared.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from PIL import Image
from pydantic import BaseModel

from kilonet import shelf
from kilonet.models import Classifier


class Prediction(BaseModel):
    label: str
    probability: float
    probabilities: dict[str, float]


def make(model: Classifier) -> FastAPI:
    """The application: `/predict` for a picture file, `/raw` for pixels of one image or many."""
    app = FastAPI()
    channels, height, width = model.shape

    def predictions(images: torch.Tensor) -> list[Prediction]:
        with torch.no_grad():
            probabilities = torch.softmax(model(images), dim=1)
        found = []
        for row in probabilities:
            best = int(row.argmax())
            named = {name: float(p) for name, p in zip(model.classes, row, strict=True)}
            found.append(Prediction(label=model.classes[best], probability=float(row[best]), probabilities=named))
        return found

    @app.post("/predict")
    async def predict(file: UploadFile) -> Prediction:
        picture = Image.open(io.BytesIO(await file.read())).convert("L" if channels == 1 else "RGB")
        pixels = np.array(picture.resize((width, height)))
        return predictions(torch.from_numpy(pixels.reshape(1, *model.shape)))[0]

    @app.post("/raw")
    async def raw(request: Request) -> list[Prediction]:
        pixels = np.frombuffer(await request.body(), np.uint8)
        return predictions(torch.from_numpy(pixels.reshape(-1, *model.shape).copy()))

    return app


def main() -> None:
    found = shelf.single(shelf.find(sys.argv[1], Path("runs"))).model()
    uvicorn.run(make(found), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
