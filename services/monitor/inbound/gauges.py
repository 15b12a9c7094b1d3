"""The judge's state as numbers for Prometheus: counts only, never a model's or a camera's name."""

from __future__ import annotations

from math import inf
from typing import Final

from services.common.metrics import MONITOR_OPEN_INCIDENTS, MONITOR_SILENT_CAMERAS
from services.monitor.domain.presence import open_incidents, silent_cameras
from services.monitor.handlers import Judge

_EVERY_S: Final = 5.0
"""Of event time: it looks at every camera."""


class Gauges:
    """Shown now and then."""

    def __init__(self) -> None:
        self._shown = -inf

    def show(self, judge: Judge, clock: float) -> None:
        """Count anew, if the last time is long enough ago; `clock` is the judge's event time."""
        if clock - self._shown < _EVERY_S:
            return
        self._shown = clock
        incidents, silent = judge.look(lambda engine: (open_incidents(engine), len(silent_cameras(engine))))
        MONITOR_SILENT_CAMERAS.set(silent)
        for harm, count in incidents.items():
            MONITOR_OPEN_INCIDENTS.labels(harm).set(count)

    def clear(self) -> None:
        """Another instance judges now, and shows what there is."""
        self._shown = -inf
        MONITOR_SILENT_CAMERAS.set(0)
        MONITOR_OPEN_INCIDENTS.clear()
