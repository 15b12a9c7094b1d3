"""A frame to predict on, and the prediction that came of it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from services.serving.domain.features import Answer


@dataclass(frozen=True, slots=True)
class Frame:
    """A stored asset of a camera."""

    asset: str
    camera: str
    digest: str


@dataclass(frozen=True, slots=True)
class Made:
    """One prediction; `place` is the frame's place in the batch handed in."""

    id: str
    place: int
    model: str
    version: str
    role: str
    answer: Answer
    latency_ms: float
    """Queue and compute."""
    predicted_at: datetime
    rollout_id: str = ""
    """Of the rollout that compares it with another prediction on the same frame."""


class Seen:
    """The ids of the newest predictions, to know a repeat."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, prediction: object) -> bool:
        return prediction in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, prediction: str) -> None:
        """Remember it; the oldest is forgotten beyond the bound."""
        self._ids[prediction] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
