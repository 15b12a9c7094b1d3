"""What a detector's outputs mean, as its card says it (docs/reference/model-package.md); shapes tell nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.serving.domain.card_fields import bad, choice, part, share, text, whole

IGNORED: Final = "-"
LAYOUTS: Final = (
    frozenset({"x0", "y0", "x1", "y1"}),
    frozenset({"x", "y", "width", "height"}),
    frozenset({"cx", "cy", "width", "height"}),
)
"""Two corners; a corner and the size; the centre and the size."""
_NAMED: Final = frozenset({"score", "label", IGNORED}).union(*LAYOUTS)
_MOST_COLUMNS: Final = 64


@dataclass(frozen=True, slots=True)
class DetectorOutputs:
    """A detector's outputs: N rows an image. One below `score_threshold`, or with a label below 0, is padding."""

    boxes: str
    """Name of the output that holds the boxes, [images, N, columns]; [N, columns] where the graph takes one image."""
    columns: tuple[str, ...]
    """What its last dimension holds, in order: one of `LAYOUTS`, `score`, `label`, and `-` for what is ignored."""
    scores: str
    """Name of the output of scores, [images, N]; "" where they are a column."""
    labels: str
    """Name of the output of class numbers, [images, N]; "" where they are a column or there is one class."""
    unit: str
    """`pixels` of the model's input, or `share` of its width and height, 0..1."""
    first_label: int = 0
    """The number of the first class: 1 where 0 is the background."""
    score_threshold: float = 0.05
    """Detections below are not told of."""
    decision_threshold: float = 0.5
    """Detections at least this sure are the model's answer; those below are there for ranking."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs that are read."""
        return tuple(filter(None, (self.boxes, self.scores, self.labels)))


def parse_detector(document: Mapping[str, Any], classes: int) -> DetectorOutputs:
    """From the whole card. Raises `BadPackage` with the field that is wrong."""
    outputs, about = part(document, "outputs"), part(document, "detection")
    together = text(outputs, "detections", "outputs.detections", required=False)
    if bool(together) == bool(outputs.get("boxes")):
        raise bad("outputs", "needs exactly one of `detections` and `boxes`")
    columns = _columns(about.get("columns"))
    found = DetectorOutputs(
        boxes=together or text(outputs, "boxes", "outputs.boxes"),
        columns=columns,
        scores=_beside(outputs, "scores", "score", columns),
        labels=_beside(outputs, "labels", "label", columns, required=classes > 1),
        unit=choice(about, "unit", ("pixels", "share"), "detection.unit"),
        first_label=whole(about, "first_label", 0, 1, "detection.first_label", 0),
        score_threshold=share(about, "score_threshold", "detection.score_threshold", 0.05),
        decision_threshold=share(about, "decision_threshold", "detection.decision_threshold", 0.5),
    )
    if found.decision_threshold < found.score_threshold:
        raise bad("detection.decision_threshold", "is below `detection.score_threshold`")
    return found


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 4 <= len(value) <= _MOST_COLUMNS or not _NAMED.issuperset(map(str, value)):
        raise bad("detection.columns", f"needs 4 to {_MOST_COLUMNS} of {', '.join(sorted(_NAMED))}")
    names = [name for name in map(str, value) if name != IGNORED]
    if len(set(names)) != len(names) or set(names) - {"score", "label"} not in LAYOUTS:
        listed = " or ".join(", ".join(sorted(layout)) for layout in LAYOUTS)
        raise bad("detection.columns", f"needs, each once, {listed}")
    return tuple(map(str, value))


def _beside(
    outputs: Mapping[str, Any], key: str, column: str, columns: tuple[str, ...], *, required: bool = True
) -> str:
    """An output of its own, unless it is a column of the boxes."""
    name = text(outputs, key, f"outputs.{key}", required=False)
    if name and column in columns:
        raise bad(f"outputs.{key}", f"is there, and `detection.columns` names {column!r} too")
    if required and not name and column not in columns:
        raise bad(f"outputs.{key}", f"is missing, and `detection.columns` names no {column!r}")
    return name
