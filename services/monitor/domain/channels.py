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

BRIGHTNESS: Final = FEATURES.index("pixels.brightness")
FRAME_DIFFERENCE: Final = FEATURES.index("pixels.frame_difference")


def group(channel: str) -> str:
    """pixels, confidence, embedding, classes or labels: which kind of thing a channel looks at."""
    if channel.startswith("pixels."):
        return "pixels"
    if channel in CONFIDENCE:
        return "confidence"
    if channel.startswith("class."):
        return "classes"
    return "labels" if channel.startswith("labelled") else "embedding"
