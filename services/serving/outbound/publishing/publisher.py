"""Reads a spool, makes events of it, and acknowledges what Kafka has."""

from __future__ import annotations

import asyncio
import fcntl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol, Self

from services.common.bus import Bus, Event
from services.common.errors import IrisloopError, Transient
from services.common.telemetry import log
from services.serving.outbound.notation import Reading, weight
from services.serving.outbound.sampled import Samples
from services.serving.outbound.sampled import weight as weight_of_sample
from services.serving.outbound.sampling import SAMPLES
from services.serving.outbound.spool import SpoolReader

AT_ONCE: Final = 16
"""Records in one publication; each holds what was noted in some 50 ms at most."""
IMAGES_AT_ONCE: Final = 4
LOOK_S: Final = 0.25
"""Between two publications: each costs the broker the same, however much is in it."""
RETRY_S: Final = (0.1, 2.0)
LAST_S: Final = 2.0
"""What a stop waits for Kafka; what is left stays on disk for the next start."""


class Records(Protocol):
    """What a spool's records say."""

    def events(self, record: bytes) -> list[Event[Any]]:
        """Raises `OSError`, `ValueError`, `LookupError`, `TypeError` or `struct.error` for what cannot be read."""


class Publisher:
    """One for each spool at any time: a second one waits for the first to end."""

    def __init__(
        self, bus: Bus, folder: Path, records: Records, weight: Callable[[bytes], int], at_once: int = AT_ONCE
    ) -> None:
        """`folder`: the spool's; `weight`: events in a record; `at_once`: records in one publication."""
        self._at_once = at_once
        self._bus = bus
        self._folder = folder
        self._records = records
        self._weight = weight
        self._stopping = asyncio.Event()

    @classmethod
    def of_predictions(cls, bus: Bus, folder: Path) -> Self:
        """Of the spool that lies there."""
        return cls(bus, folder, Reading(folder), weight)

    @classmethod
    def of_samples(cls, bus: Bus, folder: Path) -> Self:
        """Of the inputs that lie in the predictions' spool."""
        return cls(bus, folder / SAMPLES, Samples(), weight_of_sample, IMAGES_AT_ONCE)

    def stop(self) -> None:
        """Publish what is there, for two seconds at most, and return from `until_stopped`."""
        self._stopping.set()

    def hurry(self, wanted: bool) -> None:
        """In the process that serves there is nothing to hurry."""

    async def run(self) -> None:
        """Until cancelled; then as `stop` does. Implements `Publishing` in the process that serves."""
        working = asyncio.create_task(self.until_stopped())
        try:
            await asyncio.shield(working)
        finally:
            self.stop()
            await asyncio.wait([working])

    async def until_stopped(self) -> None:
        """Publish whatever comes."""
        async with _alone(self._folder, self._stopping) as alone:
            if not alone:
                return
            spool, delay = SpoolReader(self._folder), RETRY_S[0]
            while not self._stopping.is_set():
                try:
                    if await self._some(spool) < self._at_once:
                        await self._pause(LOOK_S)
                    delay = RETRY_S[0]
                except Transient as error:
                    log.warning("spool_waits", spool=str(self._folder), error=str(error))
                    spool.back()
                    await self._pause(delay)
                    delay = min(2 * delay, RETRY_S[1])
            await self._rest(spool)

    async def _some(self, spool: SpoolReader) -> int:
        """The oldest on disk; they leave it when the broker has them. Raises `Transient`."""
        records, place = await asyncio.to_thread(spool.read, self._at_once)
        if records:
            groups = await asyncio.to_thread(lambda: [self._read(record) for record in records])
            events = [event for group in groups for event in group]
            lost = sum(map(self._weight, records)) - len(events)
            refused = await self._publish(events)
            await asyncio.to_thread(spool.acknowledge, place, len(events) - refused, lost + refused)
        return len(records)

    async def _publish(self, events: Sequence[Event[Any]]) -> int:
        """How many Kafka will never take: these alone are left out. Raises `Transient`."""
        if not events:
            return 0
        try:
            await self._bus.publish(events)
            return 0
        except Transient:
            raise
        except IrisloopError as error:
            if len(events) == 1:
                log.error("spool_event_refused", ce_id=events[0].ce_id, error=str(error))
                return 1
        half = len(events) // 2
        return await self._publish(events[:half]) + await self._publish(events[half:])

    async def _rest(self, spool: SpoolReader) -> None:
        try:
            async with asyncio.timeout(LAST_S):
                while await self._some(spool):
                    pass
        except (Transient, TimeoutError) as error:
            log.warning("spool_left", spool=str(self._folder), error=str(error))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _read(self, record: bytes) -> list[Event[Any]]:
        """The record's events; none for one that cannot be read, which must not stop those behind it."""
        try:
            return self._records.events(record)
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            spool, events = str(self._folder), self._weight(record)
            log.error("spool_record_unreadable", spool=spool, events=events, error=repr(error))
            return []


@asynccontextmanager
async def _alone(folder: Path, stopping: asyncio.Event) -> AsyncIterator[bool]:
    """Hold the spool's lock, which the system lets go of when its process ends; False when stopped before."""
    file = await asyncio.to_thread(_lock_file, folder)
    try:
        held = _taken(file)
        while not held and not stopping.is_set():
            await asyncio.sleep(LOOK_S)
            held = _taken(file)
        yield held
    finally:
        file.close()


def _lock_file(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "lock").open("w")


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
