"""Deployments on their way out."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.bus import Bus
from services.serving.codec import deployment_event
from services.serving.domain.ports import Deployment


class DeploymentEvents:
    """Implements `Announcer` on the bus."""

    def __init__(self, bus: Bus, replica: str) -> None:
        self._bus = bus
        self._replica = replica

    async def announce(self, changes: Sequence[Deployment]) -> None:
        """Publish; the same change said again, after a restart, bears the same id."""
        await self._bus.publish([deployment_event(change, self._replica) for change in changes])
