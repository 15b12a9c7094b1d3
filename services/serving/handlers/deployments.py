"""What is, was or should be loaded on this replica, of registry and of a folder, and what of it is still to be said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from services.common.errors import Transient
from services.common.telemetry import log
from services.serving.domain.ports import Announcer, Deployment, DeploymentState

Clock = Callable[[], datetime]
RETRY_S = 2.0


class Deployments:
    """Written on the event loop."""

    def __init__(self, announcer: Announcer, clock: Clock) -> None:
        """`clock`: aware, UTC."""
        self._announcer = announcer
        self._clock = clock
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._pending: list[Deployment] = []
        self._known: dict[tuple[str, str], Deployment] = {}

    @property
    def all(self) -> list[Deployment]:
        """The newest of each, by model and version."""
        return [self._known[key] for key in sorted(self._known)]

    def note(
        self,
        model: str,
        version: str,
        state: DeploymentState,
        *,
        roles: tuple[str, ...] = (),
        error: str = "",
        revision: int = 0,
        because: datetime | None = None,
        again: bool = False,
    ) -> None:
        """Write down a version's state and keep it for the announcement, unless nothing changed.

        `revision`: of the aliases that it follows, 0 for a model folder's; `because`: when what led to it was said.
        `again`: it is another one under the same number, which counts as a change.
        """
        known = self._known.get((model, version))
        if not again and known is not None and (known.roles, known.state, known.error) == (roles, state, error):
            return
        now = self._clock()
        change = Deployment(model, version, roles, state, error, now, revision, because or now)
        self._known[model, version] = change
        self._pending.append(change)
        self._changed.set()

    async def flush(self) -> None:
        """Say what is still to be said. Raises `Transient`; it is kept then."""
        async with self._lock:
            waiting = list(self._pending)
            if waiting:
                await self._announcer.announce(waiting)
                del self._pending[: len(waiting)]

    async def run(self) -> None:
        """Say what nobody flushes, as it comes, until cancelled: a folder is served whether or not Kafka answers."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.flush()
            except Transient as error:
                log.warning("deployments_wait", error=str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_S)
