"""What a model folder says about itself: `model.json`, format 1 (docs/reference/model-package.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.serving.domain.card_fields import bad, choice, part, positive, text, whole
from services.serving.domain.detector import DetectorOutputs, parse_detector

GRAPH_FILE: Final = "model.onnx"
FORMAT: Final = 1
CARD_BYTES: Final = 1 << 20
DEFAULT_BATCH: Final = 64
DETECTION: Final = "detection"
LEAST_CLASSES: Final = {"classification": 2, DETECTION: 1}
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
    """A classifier's card, or a detector's."""

    classes: tuple[str, ...]
    image: ImageInput
    scores: str
    """Name of the output that holds logits or probabilities, [N, classes]; "" for a detector."""
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
    detection: DetectorOutputs | None = None
    """What the outputs mean; None for a classifier."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that a prediction is made of; "" stands for one that is not there."""
        return (self.scores, self.embedding) if self.detection is None else (*self.detection.names, self.embedding)


def parse_card(data: bytes) -> ModelCard:
    """Read model.json. Raises `BadPackage` with the field that is wrong."""
    if len(data) > CARD_BYTES:
        raise bad("", f"has {len(data)} bytes; at most {CARD_BYTES} are read")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise bad("", f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise bad("", "is not a JSON object")
    if document.get("format") != FORMAT:
        raise bad("format", f"is {document.get('format')!r}; this version reads {FORMAT}")
    task = choice(document, "task", tuple(LEAST_CLASSES), "task")
    outputs, classes = part(document, "outputs"), _classes(document.get("classes"), LEAST_CLASSES[task])
    detection = parse_detector(document, len(classes)) if task == DETECTION else None
    scores, logits = _scores(outputs) if detection is None else ("", False)
    return ModelCard(
        classes=classes,
        image=_image(part(document, "input")),
        scores=scores,
        logits=logits,
        embedding=text(outputs, "embedding", "outputs.embedding", required=False),
        temperature=positive(document.get("temperature", 1.0), "temperature"),
        max_batch=whole(document, "max_batch_size", 1, 4096, "max_batch_size", DEFAULT_BATCH),
        feature_schema=whole(document, "feature_schema", 1, 1, "feature_schema", 1),
        run_id=text(document, "run_id", "run_id", required=False),
        dataset=text(document, "dataset", "dataset", required=False),
        dataset_version=whole(document, "dataset_version", 0, 1 << 31, "dataset_version", 0),
        detection=detection,
    )


def _classes(value: object, least: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < least or not all(isinstance(name, str) and name for name in value):
        raise bad("classes", f"needs {'two or more names' if least > 1 else 'a name or more'}")
    if len(set(value)) != len(value):
        raise bad("classes", "names a class twice")
    return tuple(value)


def _image(value: Mapping[str, Any]) -> ImageInput:
    channels = whole(value, "channels", 1, 3, "input.channels")
    if channels == 2:
        raise bad("input.channels", "is 2; 1 (luma) or 3 (RGB) is needed")
    return ImageInput(
        name=text(value, "name", "input.name"),
        layout=choice(value, "layout", ("NCHW", "NHWC"), "input.layout"),
        dtype=choice(value, "dtype", ("uint8", "float32"), "input.dtype"),
        channels=channels,
        height=whole(value, "height", 1, LARGEST_SIDE, "input.height"),
        width=whole(value, "width", 1, LARGEST_SIDE, "input.width"),
    )


def _scores(outputs: Mapping[str, Any]) -> tuple[str, bool]:
    named = [key for key in ("logits", "probabilities") if outputs.get(key)]
    if len(named) != 1:
        raise bad("outputs", "needs exactly one of `logits` and `probabilities`")
    return text(outputs, named[0], f"outputs.{named[0]}"), named[0] == "logits"
