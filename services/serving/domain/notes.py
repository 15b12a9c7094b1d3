"""Clients' answers as something to remember, and to compare: what the handlers need of the outside for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.serving.domain.routes import Version
from services.serving.domain.work import Arrays

SHADOW: Final = "shadow"
"""The role of what ran beside the answer, and answered nobody."""


class Notes(Protocol):
    """Takes note of a client's call without slowing it."""

    def note(
        self,
        version: Version,
        outputs: Arrays,
        *,
        arrived_at_ns: int,
        latency_ns: int,
        key: str,
        role: str,
        traceparent: str,
        pair_id: str = "",
        rollout_id: str = "",
        error: str = "",
    ) -> None:
        """Never blocks and never raises; from any thread."""


class NoEvents:
    """Implements `Notes` where clients' predictions are not wanted as events."""

    def note(self, version: Version, outputs: Arrays, **about: Any) -> None:
        """Take no note."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer that is to be compared: what the other version is asked, and about which call."""

    version: Version
    inputs: Arrays
    rollout_id: str
    pair_id: str
    arrived_at_ns: int
    key: str
    traceparent: str


class Beside(Protocol):
    """Runs a version on what another has answered, when there is time for it."""

    def offer(self, comparison: Comparison) -> None:
        """From any thread, never blocking; left out when there is no room."""


class Nothing:
    """Implements `Beside` where clients' predictions are not wanted as events: nobody could compare them."""

    def offer(self, comparison: Comparison) -> None:
        """Leave it."""
