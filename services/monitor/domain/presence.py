"""Who is missing, and what is open, as numbers."""

from __future__ import annotations

from services.monitor.domain.engine import Engine
from services.monitor.domain.fleet.absence import is_silent
from services.monitor.domain.fleet.missing import heard_of


def silent_cameras(engine: Engine) -> list[tuple[str, str]]:
    """(model, camera) of cameras with a reference and without a frame for so long, by the frames of all cameras: time
    stands still when all of them are silent.
    """
    last = heard_of(engine.models.values())
    until = max(last.values(), default=0.0)
    return [
        (name, camera.camera_id)
        for name, watch in sorted(engine.models.items())
        for camera in watch.cameras.values()
        if is_silent(camera, last[camera.camera_id], until)
    ]


def open_incidents(engine: Engine) -> dict[str, int]:
    """How many incidents are open, by harm."""
    found = {"none": 0, "unknown": 0, "crossed": 0}
    for watch in engine.models.values():
        for case in watch.cases:
            found[case.harm.name.lower()] += 1
    return found
