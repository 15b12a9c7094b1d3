"""Clients' predictions on their way to become events: noted in memory, written raw to a spool on disk every few
milliseconds, and published from there by somebody else. Inference waits for none of it, and Kafka may be away for as
long as the spool has room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final, Protocol, Self

from services.common.metrics import SERVING_DIRECT_DROPPED, SERVING_PREDICTIONS, SERVING_SPOOL_BYTES
from services.common.telemetry import log
from services.serving.domain.bindings import DIRECT
from services.serving.domain.notes import Note
from services.serving.outbound.notation import Writing, grouped, weight
from services.serving.outbound.sampling import Sampling
from services.serving.outbound.spool import Place, SpoolWriter, Tally, position

AT_ONCE: Final = 256
"""Calls made into records between two looks at the event loop."""
FLUSH_S: Final = 0.05
"""A kill costs that and what a flush takes, some 30 ms where calls keep the interpreter busy; 100 ms are promised."""
LOOK_EVERY: Final = 16
"""Flushes between two looks at what is published."""
HURRY: Final = (1 / 16, 1 / 4)
"""Shares of the spool: above the larger the publisher hurries, until it is below the smaller."""


class Publishing(Protocol):
    """Publishes what the spool holds."""

    async def run(self) -> None:
        """Until cancelled."""

    def hurry(self, wanted: bool) -> None:
        """Much waits, or no longer."""


class DirectEvents:
    """Implements `Notes`; an async context manager whose `run` writes the spool until cancelled."""

    def __init__(
        self,
        publishing: Publishing,
        replica: str,
        most: int,
        folder: Path,
        limit_bytes: int,
        sampling: Sampling | None = None,
    ) -> None:
        """`most`: calls noted and not yet on disk; `folder`, `limit_bytes`: of the spool; `sampling` takes what goes to
        ingest, too.
        """
        self._sampling = sampling
        self._publishing = publishing
        self._replica = replica
        self._most = most
        self._folder = folder
        self._limit = limit_bytes
        self._notes: deque[Note] = deque()
        self._spool: SpoolWriter | None = None
        self._tally: Tally | None = None
        self._writing: Writing | None = None
        self._given_up = 0
        self._place = Place(0, 0)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        assert self._tally is not None
        if self._tally.lost:
            SERVING_DIRECT_DROPPED.inc(self._tally.lost)
            log.warning("direct_predictions_lost", calls=self._tally.lost, cause="the process before was killed")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """What was noted is on disk; what is on disk stays."""
        await self._flush()
        self._look()
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.close()

    def _open(self) -> None:
        self._spool = SpoolWriter(self._folder, self._limit, weight)
        self._writing = Writing(self._folder, self._replica)
        self._tally = Tally(self._folder / "tally")
        self._place = position(self._folder)
        if self._sampling is not None:
            self._sampling.open()

    def note(self, note: Note) -> None:
        """Keep it for the next flush, or drop and count it when too many wait."""
        tally = self._tally
        if tally is None or len(self._notes) >= self._most:
            SERVING_DIRECT_DROPPED.inc()
            return
        tally.note()
        self._notes.append(self._sampling.admit(note) if self._sampling else note)

    async def run(self) -> None:
        """Until cancelled; then what was noted is written before the publisher is told to end."""
        publishing = asyncio.create_task(self._publishing.run())
        try:
            flushes = 0
            while not publishing.done():
                await asyncio.sleep(FLUSH_S)
                await self._flush()
                flushes += 1
                if flushes % LOOK_EVERY == 0:
                    await asyncio.to_thread(self._look)
            publishing.result()  # it ends by an error alone, which is this task's, too
        finally:
            await self._flush()
            publishing.cancel()
            await asyncio.wait([publishing])
            self._look()

    async def _flush(self) -> None:
        """From memory to disk. What the disk does not take is dropped, counted and said."""
        while self._notes:
            notes = [self._notes.popleft() for _ in range(min(AT_ONCE, len(self._notes)))]
            try:
                await asyncio.to_thread(self._write, notes)
            except OSError as error:
                SERVING_DIRECT_DROPPED.inc(len(notes))
                log.error("spool_failed", dropped=len(notes), error=str(error))
            if self._tally is not None:
                self._tally.kept(len(notes))
            if self._sampling is not None:
                self._sampling.release(notes)

    def _write(self, notes: list[Note]) -> None:
        assert self._writing is not None and self._spool is not None
        groups = grouped(notes)
        self._spool.append([self._writing.record(group) for group in groups])
        if self._sampling is not None:
            self._sampling.take(groups)

    def _look(self) -> None:
        """Count what was published and given up, and see how much waits."""
        assert self._spool is not None
        size, place, before = self._spool.size(), position(self._folder), self._place
        SERVING_SPOOL_BYTES.set(size)
        SERVING_PREDICTIONS.labels(DIRECT).inc(max(place.done - before.done, 0))
        SERVING_DIRECT_DROPPED.inc(self._spool.given_up - self._given_up + max(place.lost - before.lost, 0))
        self._place, self._given_up = place, self._spool.given_up
        low, high = (share * self._spool.limit for share in HURRY)
        if size > high or size < low:
            self._publishing.hurry(size > high)
        if self._sampling is not None:
            self._sampling.look()
