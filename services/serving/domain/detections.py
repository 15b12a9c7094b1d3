"""What a detector's outputs say about one image: boxes as shares of it, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.serving.domain.detector import DetectorOutputs
from services.serving.domain.features import TOP, Answer, Detection, Findings, Floats, embedded
from services.serving.domain.package import ModelCard
from services.serving.errors import BadPackage

MOST: Final = 100
"""Detections told of, as many as COCO's evaluation looks at (Lin et al., ECCV 2014)."""
_NOT_FINITE: Final = "The model's output is not finite."


def detected(card: ModelCard, outputs: Mapping[str, NDArray[Any]]) -> list[Answer]:
    """One answer for each image of a run. Raises `BadPackage` where an output has not the shape that the card tells."""
    spec = card.detection
    assert spec is not None
    boxes, scores, labels = tensors(spec, outputs)
    embedding = np.asarray(outputs[card.embedding], dtype=np.float64) if card.embedding else None
    finite = np.ones(len(boxes), dtype=np.bool_)
    if embedding is not None:
        finite = np.asarray(np.isfinite(embedding).all(axis=1))
    projected, norms = embedded(embedding, finite)
    return [
        _answer(
            card,
            spec,
            boxes[row],
            scores[row],
            labels[row],
            () if projected is None else tuple(projected[row].tolist()),
            None if norms is None else float(norms[row]),
        )
        if finite[row]
        else Answer(error=_NOT_FINITE)
        for row in range(len(boxes))
    ]


def tensors(spec: DetectorOutputs, outputs: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats, Floats]:
    """Boxes [images, N, columns], scores and labels [images, N] of a run; the labels of a single class are all 0.

    Raises `BadPackage` where shapes do not fit.
    """
    boxes = np.asarray(outputs[spec.boxes], dtype=np.float64)
    if boxes.ndim == 2:
        boxes = boxes[None]
    if boxes.ndim != 3 or boxes.shape[2] != len(spec.columns):
        wanted = f"[images, N, {len(spec.columns)}]"
        raise BadPackage(f"Output {spec.boxes!r} has the shape {list(outputs[spec.boxes].shape)}, not {wanted}.")
    return boxes, _rows(spec, outputs, spec.scores, "score", boxes), _rows(spec, outputs, spec.labels, "label", boxes)


def _rows(spec: DetectorOutputs, outputs: Mapping[str, NDArray[Any]], name: str, column: str, boxes: Floats) -> Floats:
    if not name:
        there = column in spec.columns
        return boxes[:, :, spec.columns.index(column)] if there else np.full(boxes.shape[:2], float(spec.first_label))
    values = np.asarray(outputs[name], dtype=np.float64)
    shaped = values[None] if values.ndim == 1 else values
    if shaped.shape != boxes.shape[:2]:
        wanted = list(boxes.shape[:2])
        raise BadPackage(f"Output {name!r} has the shape {list(values.shape)}, not {wanted} as {spec.boxes!r} has.")
    return shaped


def _answer(
    card: ModelCard,
    spec: DetectorOutputs,
    boxes: Floats,
    scores: Floats,
    labels: Floats,
    projections: tuple[float, ...],
    norm: float | None,
) -> Answer:
    kept = (scores >= spec.score_threshold) & (labels >= 0.0)
    if np.isnan(scores).any() or not np.isfinite(boxes[kept]).all():
        return Answer(error=_NOT_FINITE)
    corners = _corners(spec, card, boxes[kept])
    numbers, scores = labels[kept] - spec.first_label, np.minimum(scores[kept], 1.0)
    strange = (numbers < 0) | (numbers >= len(card.classes)) | (numbers != np.floor(numbers))
    if strange.any():
        label = float((numbers + spec.first_label)[strange][0])
        last = spec.first_label + len(card.classes) - 1
        return Answer(error=f"The model names class {label:g}; its card has {spec.first_label} to {last}.")
    sizes = corners[:, 2:] - corners[:, :2]
    good = (sizes > 0.0).all(axis=1)
    order = np.argsort(-scores[good], kind="stable")
    names = [card.classes[int(number)] for number in numbers[good][order]]
    rows = np.column_stack([scores, corners[:, :2], sizes])[good][order].tolist()
    return _told(spec, [Detection(name, *row) for name, row in zip(names, rows, strict=True)], projections, norm)


def _told(
    spec: DetectorOutputs, detections: list[Detection], projections: tuple[float, ...], norm: float | None
) -> Answer:
    sure = [one for one in detections if one.score >= spec.decision_threshold]
    best: dict[str, float] = {}
    for one in sure:
        best.setdefault(one.class_name, one.score)
    area = sum(one.width * one.height for one in sure) / len(sure) if sure else None
    return Answer(
        scores=tuple(best.items())[:TOP],
        max_probability=detections[0].score if detections else 0.0,
        projections=projections,
        embedding_norm=norm,
        found=Findings(tuple(detections[:MOST]), spec.decision_threshold, len(sure), area),
    )


def _corners(spec: DetectorOutputs, card: ModelCard, boxes: Floats) -> Floats:
    """[N, 4] left, top, right, bottom as shares of the image, cut at its edges."""
    column = {name: boxes[:, place] for place, name in enumerate(spec.columns)}
    if "x0" in column:
        edges = [column["x0"], column["y0"], column["x1"], column["y1"]]
    else:
        half = 0.5 if "cx" in column else 0.0
        left = column["cx" if half else "x"] - half * column["width"]
        top = column["cy" if half else "y"] - half * column["height"]
        edges = [left, top, left + column["width"], top + column["height"]]
    corners = np.column_stack(edges)
    if spec.unit == "pixels":
        corners = corners / [card.image.width, card.image.height, card.image.width, card.image.height]
    return np.asarray(np.clip(corners, 0.0, 1.0))
