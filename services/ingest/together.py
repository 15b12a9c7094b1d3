"""Joins batches that come in one moment into one, as a database's group commit does.

Kafka hands over each partition's frames by themselves. When cameras send a few frames a second each, every frame would
pay for a transaction, an outbox round and a commit of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from services.common.errors import Transient
from services.ingest.domain.assets import Outcome
from services.ingest.domain.frames import Frame

Store = Callable[[Sequence[Frame]], Awaitable[list[Outcome]]]

AT_ONCE: Final = 2
"""One is checked while the other is written; what comes meanwhile waits and goes together."""


class Together:
    """Stores what its callers bring, in the order they came."""

    def __init__(self, store: Store) -> None:
        """`store` takes any number of frames and gives an outcome for each, in order."""
        self._store = store
        self._waiting: list[tuple[Sequence[Frame], asyncio.Future[list[Outcome]]]] = []
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, frames: Sequence[Frame]) -> list[Outcome]:
        """An outcome for each frame, in order. Raises what `store` raises for these frames."""
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((frames, answer))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._go())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _go(self) -> None:
        async with self._slots:
            group, self._waiting = self._waiting, []
            await self._carry_out(group)

    async def _carry_out(self, group: Sequence[tuple[Sequence[Frame], asyncio.Future[list[Outcome]]]]) -> None:
        """What fails in company is tried alone, so that nobody fails for the frames of another."""
        try:
            outcomes = await self._store([frame for frames, _ in group for frame in frames])
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Transient):
                for one in group:
                    await self._carry_out([one])
                return
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        start = 0
        for frames, answer in group:
            if not answer.done():
                answer.set_result(outcomes[start : start + len(frames)])
            start += len(frames)
