"""The end of a planned change: its incidents are closed, and its cameras learn anew what is normal."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain.conduct import close_case
from services.monitor.domain.events import Finding
from services.monitor.domain.fleet.board import Board, Plan
from services.monitor.domain.model import ModelWatch


def finish(watch: ModelWatch, plan: Plan, board: Board, now: float) -> Iterator[Finding]:
    """Of one model's cameras that the plan was about, all but those that another incident explains: what was changed
    on purpose is not to be held against what was before, whether it alarmed or not.
    """
    for case in [c for c in watch.cases if c.plan_id == plan.id]:
        yield from close_case(watch, case, now, f"the planned change is over ({plan.why})")
    explained = watch.explained()
    for camera in watch.cameras.values():
        if camera.camera_id not in explained and plan.covers(camera.camera_id, board.labels(camera.camera_id)):
            camera.relearn()
