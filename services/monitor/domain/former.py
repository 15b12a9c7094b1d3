"""What was seen before: the conditions of closed incidents, and what was normal for former champions, by camera."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import PIXELS
from services.monitor.domain.condition import Condition
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import State
from services.monitor.domain.profile import Profile

CONDITIONS: Final = 16
"""Closed incidents whose condition is remembered, the newest ones."""
VERSIONS: Final = 8
"""Former champions of which it is known what was normal; the one that left first gives way."""
_WIDTH: Final = len(PIXELS)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A closed incident: its cameras, and how these looked while it was level."""

    incident_id: str
    began_at: float
    cameras: tuple[str, ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class Home:
    """What was normal for one camera under a former champion, of the pixel channels alone: they do not depend on the
    model. Arrays have shape (9,); `spread` is a frame's standard deviation, and it and `centre` are in the channels'
    own units; `profile` says by the hour what is expected of `(x - centre) / scale`. `until` is when the camera last
    looked so.
    """

    profile: Profile
    centre: Vector
    scale: Vector
    spread: Vector
    active: NDArray[np.bool_]
    until: float

    @classmethod
    def of(cls, camera: CameraWatch) -> Home | None:
        """Of a camera that knows by itself what is normal; None while it does not."""
        reference, known = camera.reference, camera.known()
        if reference is None or known is None or known.profile is None:
            return None
        profile = known.profile
        return cls(
            Profile(profile.weights[:, :_WIDTH].copy(), profile.doubt.copy(), profile.since),
            reference.centre[:_WIDTH].copy(),
            reference.scale[:_WIDTH].copy(),
            (reference.scale * reference.deviation)[:_WIDTH],
            reference.active[:_WIDTH].copy(),
            camera.alarmed_at if camera.state >= State.ALARM else camera.last_at,
        )

    def expected(self, times: Collection[float]) -> tuple[Vector, float]:
        """Mean of each channel in its own unit over those times while nothing is wrong, shape (9,), and its standard
        error in `spread`s.
        """
        means = np.mean([self.profile.expected(at) for at in times], axis=0)
        return self.centre + means * self.scale, max(self.profile.error(at) for at in times)


@dataclass(slots=True)
class Homes:
    """Of a former champion, by camera. `slot` is its place in a snapshot, 0 to 7; it was replaced at `left_at`."""

    version: str
    slot: int
    left_at: float
    cameras: dict[str, Home] = field(default_factory=dict)


@dataclass(slots=True)
class Former:
    """All of it for one model; `homes` by the time they were left, `changes` counts what was written."""

    conditions: list[Earlier] = field(default_factory=list)
    homes: list[Homes] = field(default_factory=list)
    changes: int = 0

    def bare(self) -> Former:
        """Without the cameras, which a snapshot holds in pieces of their own."""
        return replace(self, homes=[replace(one, cameras={}) for one in self.homes])

    def remember(self, earlier: Earlier) -> None:
        """An incident is over."""
        self.conditions = [*self.conditions[1 - CONDITIONS :], earlier]
        self.changes += 1

    def forget(self, version: str, cameras: Collection[str]) -> None:
        """What was a change for these cameras is normal now: nothing can be told by how far they were from before."""
        self.conditions = [
            one for one in self.conditions if one.condition.version != version or not {*one.cameras} & {*cameras}
        ]
        self.changes += 1

    def leave(self, version: str, at: float, cameras: dict[str, CameraWatch], back: bool) -> None:
        """A champion is replaced; `back`: by one that was champion before.

        Who goes back while a camera looks as is normal was not content with the version there: it leaves no home. A
        camera that has not learnt yet what is normal has the home that it had.
        """
        former = next((one for one in self.homes if one.version == version), None)
        found = dict(former.cameras) if former is not None else {}
        for name, camera in cameras.items():
            home = Home.of(camera)
            if home is not None and back and camera.state < State.ALARM:
                found.pop(name, None)
            elif home is not None:
                found[name] = home
        self.homes = [one for one in self.homes if one is not former][1 - VERSIONS :]
        if found:
            slot = min({*range(VERSIONS)} - {one.slot for one in self.homes})
            self.homes.append(Homes(version, slot, at, found))
        self.changes += 1

    def rename(self) -> None:
        """Classes mean something else now, and no former version knows it."""
        self.homes = []
        self.changes += 1
