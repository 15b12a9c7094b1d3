"""The features of a prediction as a vector: the order is the contract's field order, pixels first."""

from __future__ import annotations

from typing import Final

PIXELS: Final = (
    "pixels.brightness",
    "pixels.contrast",
    "pixels.sharpness",
    "pixels.red",
    "pixels.green",
    "pixels.blue",
    "pixels.underexposed",
    "pixels.overexposed",
    "pixels.frame_difference",
)
CONFIDENCE: Final = ("max_probability", "margin", "entropy", "energy")
EMBEDDING: Final = (*(f"projections.{i}" for i in range(8)), "embedding_norm")
FEATURES: Final = (*PIXELS, *CONFIDENCE, *EMBEDDING)
WIDTH: Final = len(FEATURES)
DETECTION: Final = ("detection_count", "box_area")
"""What a detector's vector has behind the others; a classifier's ends before, so its references know nothing of it."""

BRIGHTNESS: Final = FEATURES.index("pixels.brightness")
FRAME_DIFFERENCE: Final = FEATURES.index("pixels.frame_difference")


def group(channel: str) -> str:
    """pixels, confidence, embedding, classes (and how much there is of them) or labels: what a channel looks at."""
    if channel.startswith("pixels."):
        return "pixels"
    if channel in CONFIDENCE:
        return "confidence"
    if channel.startswith("class.") or channel in DETECTION:
        return "classes"
    return "labels" if channel.startswith("labelled") else "embedding"


def names(width: int) -> tuple[str, ...]:
    """Of the features in a vector of that length."""
    return (*FEATURES, *DETECTION)[:width]


def has_frames(channel: str) -> bool:
    """Whether analytics keep its value of each frame: not of labels, nor of what detectors alone have."""
    return channel != "labelled_error" and channel not in DETECTION
