"""Judges ONNX packages on held-out rows: what serving will run is what is measured."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from services.trainer.child.data import Rows
from services.trainer.domain.jobs import ModelReport
from services.trainer.domain.scores import conditions, score
from services.trainer.errors import NothingToLearnFrom

TIMED_CALLS = 60
UNKNOWN = -1e4
"""Logit of a class that a model has never heard of."""


@dataclass(frozen=True, slots=True)
class Package:
    """A model folder's two files, opened."""

    session: Any
    described: dict[str, Any]

    @classmethod
    def open(cls, files: dict[str, bytes]) -> Package:
        """onnxruntime on one thread, as serving's default is."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(files["model.onnx"], options, providers=["CPUExecutionProvider"])
        return cls(session, json.loads(files["model.json"]))

    def logits(self, images: NDArray[np.uint8], batch: int = 256) -> NDArray[np.float32]:
        """[n, classes], the images brought to the package's own input size."""
        described = self.described["input"]
        fitted = fit(images, described["channels"], described["height"], described["width"])
        name = self.described["outputs"]["logits"]
        parts = [
            self.session.run([name], {described["name"]: fitted[start : start + batch]})[0]
            for start in range(0, len(fitted), batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.described["classes"])), np.float32)

    def latency_ms(self, images: NDArray[np.uint8]) -> float:
        """Median of calls with one image each."""
        seconds = []
        for place in range(TIMED_CALLS):
            image = images[place % len(images) : place % len(images) + 1]
            began = time.perf_counter()
            self.logits(image)
            seconds.append(time.perf_counter() - began)
        return float(np.median(seconds[10:]) * 1e3)


def evaluate(role: str, version: str, package: Package, test: Rows, class_names: list[str]) -> ModelReport:
    """The report of one model on the dataset's classes; what it cannot answer, it gets wrong.

    Raises `NothingToLearnFrom` when it knows none of them.
    """
    logits = aligned(package.logits(test.images), package.described["classes"], class_names)
    if (logits == UNKNOWN).all():
        raise NothingToLearnFrom(f"version {version} knows none of the dataset's classes", field="version")
    scores = [
        score(condition, logits[rows], test.labels[rows], class_names)
        for condition, rows in conditions(test.new, test.in_force).items()
    ]
    return ModelReport(role, version, scores, package.latency_ms(test.images))


def aligned(logits: NDArray[np.float32], own: list[str], class_names: list[str]) -> NDArray[np.float32]:
    """The columns of a model's own classes in the order of the dataset's; a class unknown to it is never its answer."""
    if own == class_names:
        return logits
    columns = np.full((len(logits), len(class_names)), UNKNOWN, np.float32)
    for place, name in enumerate(class_names):
        if name in own:
            columns[:, place] = logits[:, own.index(name)]
    return columns


def fit(images: NDArray[np.uint8], channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Bring [n, C, H, W] to another shape; the same array when it fits already."""
    if images.shape[1:] == (channels, height, width):
        return images
    mode = "L" if channels == 1 else "RGB"
    fitted = np.empty((len(images), channels, height, width), np.uint8)
    for place, image in enumerate(images):
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).convert(mode)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        fitted[place] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return fitted
