"""What people told the monitor and what cameras are: labels, planned changes, and commands that were carried out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from services.monitor.domain.inputs import CameraKnown, Commanded

_COMMANDS = 512
_PLANS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """A change announced beforehand. What alarms inside it is its doing."""

    id: str
    cameras: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    since: float
    until: float
    by: str
    why: str
    announced_at: float
    cancelled_at: float = 0.0
    cancelled_by: str = ""
    finished: bool = False

    def covers(self, camera_id: str, labels: dict[str, str]) -> bool:
        """Whether it is about this camera."""
        named = not self.cameras or any(fnmatchcase(camera_id, pattern) for pattern in self.cameras)
        return named and all(labels.get(name) == value for name, value in self.labels)

    def is_on(self, at: float) -> bool:
        """Whether it is under way."""
        return not self.cancelled_at and self.since <= at <= self.until


@dataclass(slots=True)
class Board:
    """Of the whole fleet, whatever the model."""

    cameras: dict[str, dict[str, str]] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    commands: dict[str, float] = field(default_factory=dict)

    def know(self, item: CameraKnown) -> None:
        """Take a camera's labels."""
        self.cameras[item.camera_id] = dict(item.labels)

    def labels(self, camera_id: str) -> dict[str, str]:
        """A camera's labels; none when ingest has not told of it."""
        return self.cameras.get(camera_id, {})

    def is_new(self, item: Commanded) -> bool:
        """Whether a command is to be carried out: the same id again is the same command again."""
        if item.id in self.commands:
            return False
        self.commands[item.id] = item.at
        if len(self.commands) > _COMMANDS:
            del self.commands[next(iter(self.commands))]
        return True

    def announce(self, item: Commanded) -> None:
        """Enter a plan; one whose id is known is changed."""
        self.plans[item.subject] = Plan(
            item.subject, item.cameras, item.labels, item.since, item.until, item.by, item.why, item.at
        )
        if len(self.plans) > _PLANS:
            del self.plans[next(iter(self.plans))]

    def cancel(self, item: Commanded) -> None:
        """What alarms from now on is nobody's plan any more."""
        plan = self.plans.get(item.subject)
        if plan is not None and not plan.cancelled_at:
            self.plans[plan.id] = replace(plan, cancelled_at=item.at, cancelled_by=item.by)

    def plan_for(self, camera_id: str, at: float) -> Plan | None:
        """The plan that a camera's alarm at `at` belongs to; the earliest announced of several."""
        labels = self.labels(camera_id)
        return next((p for p in self.plans.values() if p.is_on(at) and p.covers(camera_id, labels)), None)

    def ended(self, now: float) -> list[Plan]:
        """Plans that are over and have not been seen off; they are not returned again."""
        over = [p for p in self.plans.values() if not p.finished and not p.cancelled_at and p.until <= now]
        for plan in over:
            self.plans[plan.id] = replace(plan, finished=True)
        return over
