"""Where confidence says nothing of accuracy: a camera's hours in which a fault shows the model what no labelled picture
had in it, so that it may be wrong and sure.

Dead pixels are read as part of the picture. Of a camera that stands still all frames are one picture, and that one is
right or wrong. Where no contrast is left there is nothing to be right about. Blur, darkness and a camera that was
knocked aside take away what the model was sure of, and confidence falls with accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from services.monitor.domain.events import Incident
from services.monitor.domain.fault import Fault
from services.monitor.domain.quality.book import Cell

DECEIVING: Final = frozenset((Fault.DEAD_PIXELS, Fault.FROZEN, Fault.FLAT))
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A camera's pictures between two capture times, seconds since 1970; `until` is infinite while it is so."""

    camera_id: str
    kind: str
    since: float
    until: float

    def concerns(self, cell: Cell) -> bool:
        """Whether some of an hour's pictures are of it, whatever the version that looked at them."""
        begin = cell.hour * _HOUR
        return cell.camera_id == self.camera_id and self.since < begin + _HOUR and begin < self.until

    def __str__(self) -> str:
        return f"{self.kind} on {self.camera_id}"


def doubts(incidents: Iterable[Incident]) -> list[Doubt]:
    """From the newest word about each incident of a model, open or over."""
    return [
        Doubt(fault.camera_id, fault.kind, fault.since, incident.closed_at or inf)
        for incident in incidents
        for fault in incident.faults
        if fault.kind in DECEIVING
    ]


def doubt_about(cell: Cell, known: Sequence[Doubt]) -> str:
    """Why confidence says nothing of accuracy in an hour of a camera; empty where it does."""
    return next((str(doubt) for doubt in known if doubt.concerns(cell)), "")
