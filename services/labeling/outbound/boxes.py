"""A detector's boxes as one column of text: JSON of [decision threshold, boxes]; "" for a prediction without."""

from __future__ import annotations

import json
from typing import Any

from services.labeling.domain.model import Detection, Reference


def boxes_text(reference: Reference) -> str:
    """The column's text."""
    if reference.decision_threshold is None:
        return ""
    return json.dumps([reference.decision_threshold, reference.detections], separators=(",", ":"))


def boxes_of(text: str) -> dict[str, Any]:
    """The fields of `Reference` that a column tells."""
    if not text:
        return {}
    threshold, detections = json.loads(text)
    return {"detections": tuple(Detection(*one) for one in detections), "decision_threshold": threshold}
