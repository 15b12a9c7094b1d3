"""Clients' answers as something to remember, and to compare: what the handlers need of the outside for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from services.serving.domain.package import ModelCard
from services.serving.domain.routes import Version
from services.serving.domain.sampling import Inputs
from services.serving.domain.work import Arrays

SHADOW: Final = "shadow"
"""The role of what ran beside the answer, and answered nobody."""


@dataclass(slots=True)
class Note:
    """A call and its answer; `error` instead of outputs where it failed."""

    version: Version
    outputs: Arrays
    """Those that the version's card names."""
    role: str
    arrived_at_ns: int
    """Since 1970."""
    latency_ns: int
    """0 where it says nothing about the version."""
    traceparent: str
    pair_id: str = ""
    rollout_id: str = ""
    error: str = ""
    inputs: Inputs | None = None
    """What was asked, where inputs of the model are sampled."""

    @property
    def rows(self) -> int:
        """Images in the call, each of which becomes an event; 1 where nobody described the model."""
        card = self.version.card
        return len(self.outputs[card.scores or card.outputs[0]]) if card and self.outputs else 1


def described(version: Version, outputs: Arrays) -> Arrays:
    """The outputs that an event is made of."""
    card = version.card
    if card is None or not outputs:
        return {}
    if card.detection is not None:
        return _of_detector(version, card, outputs)
    return {name: outputs[name] for name in (card.scores, card.embedding) if name}


def _of_detector(version: Version, card: ModelCard, outputs: Arrays) -> Arrays:
    """Nothing where the graph takes one image at a time: a row is then a detection, not an image."""
    return {name: outputs[name] for name in card.outputs if name} if version.config.max_batch_size else {}


class Notes(Protocol):
    """Takes note of a client's call without slowing it."""

    def note(self, note: Note) -> None:
        """Never blocks and never raises; from any thread."""


class NoEvents:
    """Implements `Notes` where clients' predictions are not wanted as events."""

    def note(self, note: Note) -> None:
        """Take no note."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What another version is asked, and the call that it is about, as it is to be noted."""

    version: Version
    inputs: Arrays
    about: Note


class Beside(Protocol):
    """Runs a version on what another has answered, when there is time for it."""

    def offer(self, comparison: Comparison) -> None:
        """From any thread, never blocking; left out when there is no room."""


class NeverBeside:
    """Implements `Beside` where clients' predictions are not wanted as events: nobody could compare them."""

    def offer(self, comparison: Comparison) -> None:
        """Leave it."""
