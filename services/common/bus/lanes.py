"""A lane is one partition in hand: its records wait here, bounded, and are handled in order, batch by batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from services.common.bus.api import Record
from services.common.bus.backlog import Waiting, waiting_of
from services.common.bus.connection import record_of
from services.common.bus.work import Stopped, Worker
from services.common.telemetry import log

BATCH_BYTES: Final = 8 << 20
"""A batch holds no more, unless its first record alone is larger."""
LANE_BYTES: Final = 1 << 20
"""A lane with more asks for no more."""


class Queue:
    """Records as the client gave them, counted and weighed."""

    def __init__(self, max_batch: int) -> None:
        """`max_batch` records a batch at most; as many wait while one is handled."""
        self._max_batch = max_batch
        self._waiting: deque[Any] = deque()
        self._bytes = 0
        self._in_hand: Record | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether more would only cost memory."""
        return len(self._waiting) >= self._max_batch or self._bytes >= LANE_BYTES

    def put(self, found: Iterable[Any]) -> None:
        """At the end."""
        for one in found:
            self._waiting.append(one)
            self._bytes += one.serialized_value_size

    def take(self, most: int | None = None) -> list[Record]:
        """The next batch."""
        limit = self._max_batch if most is None else min(most, self._max_batch)
        batch: list[Record] = []
        size = 0
        while self._waiting and len(batch) < limit:
            weight = self._waiting[0].serialized_value_size
            if batch and size + weight > BATCH_BYTES:
                break
            batch.append(record_of(self._waiting.popleft()))
            size += weight
        self._bytes -= size
        self._in_hand = batch[0] if batch else None
        return batch

    def waiting(self) -> Waiting | None:
        """What waits, the batch in hand included; None when nothing does."""
        return waiting_of(len(self._waiting), self._in_hand, self._waiting[0] if self._waiting else None)

    def done(self) -> None:
        """The batch that was taken last took effect."""
        self._in_hand = None

    def clear(self) -> None:
        """Forget them: they will be read again."""
        self._waiting.clear()
        self._bytes = 0
        self._in_hand = None


class Lane:
    """One partition of a subscription, from its assignment until it is revoked."""

    def __init__(self, worker: Worker, max_batch: int, progress: Callable[[Lane], None]) -> None:
        """`progress` is called after each batch."""
        self.worker = worker
        self.queue = Queue(max_batch)
        self.paused = False
        self.done: int | None = None
        """The next offset, once a batch took effect."""
        self.committed: int | None = None
        self.failure: BaseException | None = None
        self._progress = progress
        self._filled = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def put(self, found: Iterable[Any]) -> None:
        """Records of the partition, in order."""
        self.queue.put(found)
        self._filled.set()

    async def stop(self, patience_s: float) -> None:
        """Let the batch in hand end, then end; a batch that takes longer is given up, and comes again elsewhere."""
        self.queue.clear()
        self.worker.stopping.set()
        self._filled.set()
        done, _ = await asyncio.wait([self._task], timeout=patience_s)
        if not done:
            log.warning("batch_given_up", handler=self.worker.handler, after_s=patience_s)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            while not self.worker.stopping.is_set():
                await self._filled.wait()
                self._filled.clear()
                await self._empty()
        except Stopped:
            return
        except Exception as error:
            log.exception("lane_broke", handler=self.worker.handler)
            self.failure = error

    async def _empty(self) -> None:
        while batch := self.queue.take():
            await self.worker.work(batch)
            self.queue.done()
            self.done = batch[-1].offset + 1
            self._progress(self)
            if self.worker.stopping.is_set():
                return
