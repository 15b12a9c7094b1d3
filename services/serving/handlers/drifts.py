"""Remembers which models the monitor reports drift of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DriftWord:
    """What is said about an incident; `over` when it is closed, or known to be harmless."""

    incident_id: str
    model: str
    revision: int
    over: bool


class Drifts:
    """What is open now; a word that is older than the one known changes nothing."""

    def __init__(self) -> None:
        self._known: dict[str, DriftWord] = {}
        self._drifting: frozenset[str] = frozenset()

    def note(self, words: Sequence[DriftWord]) -> None:
        """Take words, in any order."""
        for word in words:
            known = self._known.get(word.incident_id)
            if known is None or word.revision > known.revision:
                self._known[word.incident_id] = word
        self._drifting = frozenset(word.model for word in self._known.values() if not word.over)

    def drifting(self, model: str) -> bool:
        """Whether an incident of the model is open; from any thread."""
        return model in self._drifting
