"""What a model folder says about itself: `model.json`, format 1 (docs/reference/model-package.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.serving.errors import BadPackage

CARD_FILE: Final = "model.json"
GRAPH_FILE: Final = "model.onnx"
FORMAT: Final = 1
CARD_BYTES: Final = 1 << 20
DEFAULT_BATCH: Final = 64
LARGEST_SIDE: Final = 8192


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The graph's image input: raw pixel values 0..255."""

    name: str
    layout: str
    """NCHW or NHWC."""
    dtype: str
    """uint8 or float32."""
    channels: int
    """1 (luma) or 3 (RGB)."""
    height: int
    width: int

    def shape(self, rows: int) -> tuple[int, int, int, int]:
        """The tensor's shape for so many images."""
        if self.layout == "NCHW":
            return rows, self.channels, self.height, self.width
        return rows, self.height, self.width, self.channels


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A classification model's card."""

    classes: tuple[str, ...]
    image: ImageInput
    scores: str
    """Name of the output that holds logits or probabilities, [N, classes]."""
    logits: bool
    """Whether `scores` are logits."""
    embedding: str
    """Name of the embedding output, or ""."""
    temperature: float
    max_batch: int
    feature_schema: int = 1
    run_id: str = ""
    dataset: str = ""
    dataset_version: int = 0


def parse_card(data: bytes) -> ModelCard:
    """Read model.json. Raises `BadPackage` with the field that is wrong."""
    if len(data) > CARD_BYTES:
        raise _bad("", f"has {len(data)} bytes; at most {CARD_BYTES} are read")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise _bad("", f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _bad("", "is not a JSON object")
    if document.get("format") != FORMAT:
        raise _bad("format", f"is {document.get('format')!r}; this version reads {FORMAT}")
    if document.get("task") != "classification":
        raise _bad("task", f"is {document.get('task')!r}; this version serves 'classification'")
    outputs = _object(document, "outputs")
    scores, logits = _scores(outputs)
    return ModelCard(
        classes=_classes(document.get("classes")),
        image=_image(_object(document, "input")),
        scores=scores,
        logits=logits,
        embedding=_text(outputs, "embedding", "outputs.embedding", required=False),
        temperature=_temperature(document.get("temperature", 1.0)),
        max_batch=_whole(document, "max_batch_size", 1, 4096, "max_batch_size", DEFAULT_BATCH),
        feature_schema=_whole(document, "feature_schema", 1, 1, "feature_schema", 1),
        run_id=_text(document, "run_id", "run_id", required=False),
        dataset=_text(document, "dataset", "dataset", required=False),
        dataset_version=_whole(document, "dataset_version", 0, 1 << 31, "dataset_version", 0),
    )


def _bad(field: str, problem: str) -> BadPackage:
    where = f"{CARD_FILE}: `{field}`" if field else CARD_FILE
    return BadPackage(f"{where} {problem}.", field=field)


def _object(document: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = document.get(field)
    if not isinstance(value, dict):
        raise _bad(field, "is missing or not an object")
    return value


def _text(document: Mapping[str, Any], key: str, field: str, *, required: bool = True) -> str:
    value = document.get(key, "")
    if not isinstance(value, str) or (required and not value):
        raise _bad(field, "is missing or not text")
    return value


def _whole(document: Mapping[str, Any], key: str, least: int, most: int, field: str, default: int | None = None) -> int:
    value = document.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _bad(field, f"is {value!r}; a whole number from {least} to {most} is needed")
    return value


def _choice(document: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = document.get(key)
    if value not in choices:
        raise _bad(f"input.{key}", f"is {value!r}; one of {', '.join(choices)} is needed")
    return str(value)


def _classes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(name, str) and name for name in value):
        raise _bad("classes", "needs two or more names")
    if len(set(value)) != len(value):
        raise _bad("classes", "names a class twice")
    return tuple(value)


def _image(value: Mapping[str, Any]) -> ImageInput:
    channels = _whole(value, "channels", 1, 3, "input.channels")
    if channels == 2:
        raise _bad("input.channels", "is 2; 1 (luma) or 3 (RGB) is needed")
    return ImageInput(
        name=_text(value, "name", "input.name"),
        layout=_choice(value, "layout", ("NCHW", "NHWC")),
        dtype=_choice(value, "dtype", ("uint8", "float32")),
        channels=channels,
        height=_whole(value, "height", 1, LARGEST_SIDE, "input.height"),
        width=_whole(value, "width", 1, LARGEST_SIDE, "input.width"),
    )


def _scores(outputs: Mapping[str, Any]) -> tuple[str, bool]:
    named = [key for key in ("logits", "probabilities") if outputs.get(key)]
    if len(named) != 1:
        raise _bad("outputs", "needs exactly one of `logits` and `probabilities`")
    return _text(outputs, named[0], f"outputs.{named[0]}"), named[0] == "logits"


def _temperature(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
        raise _bad("temperature", f"is {value!r}; a number above 0 is needed")
    return float(value)
