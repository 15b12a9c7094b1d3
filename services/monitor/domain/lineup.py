"""References by version and camera: the champion's, and those that wait: of versions in shadow or canary, so that a new
champion is watched from its first frame on, and of the champion before, for a rollback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.monitor.domain.camera import Beginning, CameraWatch
from services.monitor.domain.events import State
from services.monitor.domain.inputs import Seen
from services.monitor.domain.policy import Policy
from services.monitor.domain.pooling import Pool

SLOTS: Final = 3
"""Versions kept beside the champion: the champion before, and two others."""
FORGOTTEN_S: Final = 3600.0
"""One that was not heard of for so long gives way to another."""


@dataclass(slots=True)
class References:
    """The cameras of one version, numbers of its classes, and what its cameras have in common, as of the
    comparison of that number.
    """

    cameras: dict[str, CameraWatch] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    pool: Pool | None = None
    compared: int = 0

    def bare(self) -> References:
        """Without what a snapshot holds in pieces of their own."""
        return replace(self, cameras={}, pool=None)

    def see(self, item: Seen, policy: Policy, before: Mapping[str, CameraWatch]) -> CameraWatch | None:
        """Take a frame of a camera; the camera when a block of it (or its reference) is complete. `before` are the same
        cameras under the version before.
        """
        camera = self.cameras.get(item.camera_id)
        if camera is None:
            camera = self.cameras[item.camera_id] = CameraWatch(item.camera_id)
        learning = camera.is_learning()
        if camera.reference is None and not camera.filled:
            self._compare()
        number = self.classes.setdefault(item.class_name, len(self.classes))
        beginning = self._beginning(before.get(item.camera_id)) if learning else _NOTHING
        if not camera.take(item.at, item.features, number, tuple(self.classes), policy, beginning):
            return None
        camera.remember(item.at, item.asset_id)
        if learning and not camera.is_learning():
            self._compare()
        return camera

    def _beginning(self, before: CameraWatch | None) -> Beginning:
        return Beginning(self.pool, before.anchor() if before is not None else None)

    def _compare(self) -> None:
        found = (camera.known() for camera in self.cameras.values())
        self.pool, self.compared = Pool.of(known for known in found if known is not None), self.compared + 1


_NOTHING: Final = Beginning()


@dataclass(slots=True)
class Kept:
    """References of a version that is not the champion. `slot` is its place among them in a snapshot, 0 to 2."""

    version: str
    slot: int
    references: References = field(default_factory=References)
    was_champion: bool = False
    heard_at: float = 0.0

    def see(self, item: Seen, policy: Policy, champion: Mapping[str, CameraWatch]) -> None:
        """Take what it said in shadow or canary. Where that moves, the champion's camera tells of it: here what is
        seen from then on is normal. The champion before learns nothing more.
        """
        if self.was_champion:
            return
        camera = self.references.see(item, policy, champion)
        if camera is not None and camera.state >= State.ALARM:
            camera.relearn()
            camera.accepted = False


def keep(kept: list[Kept], version: str, at: float) -> Kept | None:
    """The references kept for a version that is heard of, begun when it first is; None while others have the slots:
    were these handed to each that speaks, none would ever be learnt.
    """
    found = next((one for one in kept if one.version == version), None)
    if found is None:
        waiting = [one for one in kept if not one.was_champion]
        oldest = min(waiting, key=lambda one: one.heard_at, default=None)
        if oldest is not None and len(waiting) >= SLOTS - 1:
            if at - oldest.heard_at < FORGOTTEN_S:
                return None
            kept.remove(oldest)
        found = Kept(version, _free(kept))
        kept.append(found)
    found.heard_at = max(found.heard_at, at)
    return found


def exchange(kept: list[Kept], version: str, successor: str, references: References) -> References:
    """`successor` takes over from `version`, whose references are kept; the successor's, new where there are none."""
    found = next((one for one in kept if one.version == successor), None)
    kept[:] = [one for one in kept if one is not found and not one.was_champion]
    if version:
        for camera in references.cameras.values():
            camera.rest()
        kept.append(Kept(version, _free(kept), references, was_champion=True))
    return found.references if found is not None else References()


def champion_before(kept: list[Kept]) -> Mapping[str, CameraWatch]:
    """The cameras of the champion before, by id."""
    return next((one.references.cameras for one in kept if one.was_champion), {})


def _free(kept: list[Kept]) -> int:
    return min(set(range(SLOTS)) - {one.slot for one in kept})
