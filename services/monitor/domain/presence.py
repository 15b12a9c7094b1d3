"""Who is missing: cameras that sent frames, and send none while others do."""

from __future__ import annotations

from typing import Final

from services.monitor.domain.engine import Engine

LEAST_S: Final = 60.0
GAPS: Final = 100.0
"""Of a camera's usual gaps; frames that come at random rest so long once in e^100."""


def silent_cameras(engine: Engine) -> list[tuple[str, str]]:
    """(model, camera) of cameras with a reference and without a frame for so long, by the event time of all cameras:
    it stands still when all of them are silent.
    """
    found = []
    for name, watch in sorted(engine.models.items()):
        for camera in watch.cameras.values():
            rate = camera.rate() if camera.reference is not None else 0.0
            if rate > 0.0 and engine.clock - camera.last_at > max(LEAST_S, GAPS / rate):
                found.append((name, camera.camera_id))
    return found


def open_incidents(engine: Engine) -> dict[str, int]:
    """How many incidents are open, by harm."""
    found = {"none": 0, "unknown": 0, "crossed": 0}
    for watch in engine.models.values():
        for case in watch.cases:
            found[case.harm.name.lower()] += 1
    return found
