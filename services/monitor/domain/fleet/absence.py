"""Whether a camera sends as it used to, and the incident of those that do not while it is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.events import NOWHERE, CameraFault, Happening, Scope

SILENT: Final = "silent"
FLOODING: Final = "flooding"
LEAST_S: Final = 60.0
GAPS: Final = 100.0
"""Of a camera's usual gaps; frames that come at random rest so long once in e^100."""
FLOOD: Final = 5.0
"""Times the usual frames over as long; frames that come at random do so once in e^400."""
_BLOCKS: Final = 20  # Before which nobody knows what is usual.


@dataclass(slots=True)
class Absence:
    """Cameras of one model that fell silent, or flood, since about the same time; `cameras` are those that still do,
    with their usual rate in frames a second.
    """

    id: str
    kind: str
    began_at: float
    detected_at: float
    widened_at: float
    cameras: dict[str, float] = field(default_factory=dict)
    faults: list[CameraFault] = field(default_factory=list)
    scope: Scope = NOWHERE
    told: bool = False
    revision: int = 0
    history: list[Happening] = field(default_factory=list)
    acknowledged_at: float = 0.0
    acknowledged_by: str = ""
    muted_until: float = 0.0
    noted: bool = False
    """Somebody took it on or muted it, and that was not said yet."""

    def note(self, at: float, what: str, by: str = "monitor", why: str = "") -> None:
        """Add a line to its history."""
        self.history.append(Happening(at, what, by, why))


def patience(rate: float) -> float:
    """Seconds over which a camera of so many frames a second is looked at."""
    return max(LEAST_S, GAPS / rate)


def is_silent(camera: CameraWatch, last_at: float, now: float) -> bool:
    """Whether a watched camera, of which the newest frame was taken at `last_at`, sends nothing any more."""
    if camera.reference is None or now - last_at <= LEAST_S:
        return False
    rate = camera.rate()
    return rate > 0.0 and now - last_at > patience(rate)


def usual(camera: CameraWatch) -> float:
    """Frames a second of the older half of what the trace remembers, the median over its blocks: a pause does not
    count. 0 while there is too little.
    """
    half = len(camera.trace.times) // 2
    if camera.reference is None or half < _BLOCKS:
        return 0.0
    lengths = np.diff(camera.trace.times[: half + 1])
    rates = np.array(camera.trace.frames[1 : half + 1]) / np.maximum(lengths, 1e-6)
    return float(np.median(rates))


def sends(camera: CameraWatch, now: float, seconds: float) -> float:
    """Frames a second over the last so many seconds."""
    trace = camera.trace
    return sum(n for at, n in zip(trace.times, trace.frames, strict=True) if at > now - seconds) / seconds


def floods(camera: CameraWatch, now: float) -> float:
    """The usual rate of a camera that sends far more than that; 0 of others."""
    rate = usual(camera)
    return rate if rate > 0.0 and sends(camera, now, patience(rate)) > FLOOD * rate else 0.0
