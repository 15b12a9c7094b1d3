"""From a model's outputs to answers, by what its card says it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from services.serving.domain import features
from services.serving.domain.detections import detected
from services.serving.domain.package import ModelCard


def answers(card: ModelCard, outputs: Mapping[str, NDArray[Any]]) -> list[features.Answer]:
    """One answer for each image of a run. Raises `BadPackage` where a detector's output has another shape than said."""
    return features.answers(card, outputs) if card.detection is None else detected(card, outputs)
