"""Rollouts as they are applied on this replica: whose a key or a camera is, what runs beside it, and how much of that
was really compared.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from services.common.metrics import SERVING_COMPARED, SERVING_OFFERED
from services.serving.domain.notes import SHADOW, Beside, Comparison, NeverBeside
from services.serving.domain.rollout import Applied, Rollout, Split, split_of
from services.serving.domain.routes import CHAMPION, Route, RouteTable, Version


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers one call, and who runs beside it."""

    version: Version
    role: str
    """"" for the champion's own answer."""
    beside: Version | None
    rollout_id: str
    pair_id: str


class Rollouts:
    """Chooses by the table in force; calls come from any thread, cameras from the event loop."""

    def __init__(self, table: Callable[[], RouteTable]) -> None:
        self._table = table
        self.beside: Beside = NeverBeside()
        """What compares clients' calls."""
        self.cameras: Callable[[str], Sequence[str]] = lambda model: ()
        """The cameras that a model's champion predicts on; the same list while they are the same."""
        self._splits: dict[str, tuple[Rollout, Sequence[str], Split]] = {}
        self._lock = threading.Lock()
        self._offered: dict[str, int] = defaultdict(int)
        self._compared: dict[str, int] = defaultdict(int)

    def choose(self, route: Route, key: str) -> Choice | None:
        """For a call that names no version; None where no rollout touches it."""
        rollout, split = route.rollout, route.split
        if rollout is None or split is None or route.default is None:
            return None
        arm = split.arm(key or uuid4().hex)
        if arm is None:
            beside = route.versions.get(rollout.beside) if rollout.beside else None
            return Choice(route.default, "", beside, rollout.id, uuid4().hex if beside else "")
        paired = route.versions.get(rollout.champion) if rollout.stage == "canary" else None
        return Choice(route.versions[arm.version], arm.name, paired, rollout.id, uuid4().hex)

    def compare(self, comparison: Comparison) -> None:
        """Have it run beside, when there is room; whoever runs it says `count`."""
        self._offer(comparison.about.rollout_id)
        self.beside.offer(comparison)

    def count(self, rollout_id: str) -> None:
        """One more comparison was made."""
        with self._lock:
            self._compared[rollout_id] += 1
        SERVING_COMPARED.inc()

    def of_camera(self, model: str, role: str, camera: str) -> tuple[str, list[tuple[str, Version]]]:
        """The rollout's id, and what runs on the camera's frames beside the binding: (role, version)."""
        route = self._table().routes.get(model)
        rollout = route.rollout if route is not None and role == CHAMPION else None
        if route is None or rollout is None:
            return "", []
        if rollout.beside:
            return rollout.id, [(SHADOW, route.versions[rollout.beside])]
        arm = self._split_of_cameras(model, rollout).arm(camera)
        return (rollout.id, [(arm.name, route.versions[arm.version])]) if arm else ("", [])

    def compared_on_camera(self, rollout_id: str) -> None:
        """A camera's frame was predicted by both."""
        self._offer(rollout_id)
        self.count(rollout_id)

    def _offer(self, rollout_id: str) -> None:
        with self._lock:
            self._offered[rollout_id] += 1
        SERVING_OFFERED.inc()

    def applied(self) -> list[Applied]:
        """All that are in force, by model."""
        found = []
        for model, route in sorted(self._table().routes.items()):
            if (rollout := route.rollout) is not None:
                split = self._split_of_cameras(model, rollout)
                counts = self._offered.get(rollout.id, 0), self._compared.get(rollout.id, 0)
                found.append(Applied(model, rollout, split, len(self.cameras(model)), *counts))
        return found

    def _split_of_cameras(self, model: str, rollout: Rollout) -> Split:
        """Counted out among the cameras there are; anew when others are."""
        cameras = self.cameras(model)
        known = self._splits.get(model)
        if known is None or known[0] is not rollout or known[1] is not cameras:
            known = self._splits[model] = (rollout, cameras, split_of(rollout, cameras))
        return known[2]
