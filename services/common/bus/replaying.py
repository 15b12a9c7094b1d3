"""Reading what several topics hold, up to their ends as they are now, merged by the broker's time, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Record
from services.common.bus.connection import BROKER_ERRORS, close, make_consumer, record_of, start
from services.common.bus.followed import assign_all
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings

POLL_MS: Final = 200
FETCH: Final = 500
SILENT_POLLS: Final = 150
"""So many empty polls of one partition, half a minute, and the broker is taken to be away."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The offsets that a partition holds: from `begin` until before `end`. What lay before `begin` has expired."""

    topic: str
    partition: int
    begin: int
    end: int


@dataclass(slots=True)
class Replay:
    """The records of some topics; each partition's come in its own order."""

    stretches: Sequence[Stretch]
    consumer: AIOKafkaConsumer
    _held: dict[TopicPartition, list[Record]] = field(default_factory=dict)
    _positions: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Offsets to pass; those of transactions' ends and of compacted records hold none."""
        return sum(one.end - one.begin for one in self.stretches)

    async def records(self) -> AsyncIterator[tuple[Record, int]]:
        """Each record with how many offsets of its partition it takes the reader on. Raises `Unavailable`."""
        ends = {TopicPartition(one.topic, one.partition): one.end for one in self.stretches}
        self._positions = {TopicPartition(one.topic, one.partition): one.begin for one in self.stretches}
        firsts = [(place, await self._next(place, ends[place])) for place in sorted(ends)]
        heads = [(first.timestamp, place, first) for place, first in firsts if first is not None]
        heapify(heads)
        while heads:
            _, place, record = heads[0]
            passed = record.offset + 1 - self._positions[place]
            self._positions[place] = record.offset + 1
            yield record, passed
            following = await self._next(place, ends[place])
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (following.timestamp, place, following))

    async def _next(self, place: TopicPartition, end: int) -> Record | None:
        held = self._held.setdefault(place, [])
        silent = 0
        while not held:
            if await self.consumer.position(place) >= end:
                return None
            found: dict[TopicPartition, list[Any]] = await self.consumer.getmany(
                place, timeout_ms=POLL_MS, max_records=FETCH
            )
            held += [record_of(one) for one in reversed(found.get(place, ())) if one.offset < end]
            silent = 0 if found else silent + 1
            if silent > SILENT_POLLS:
                raise Unavailable(f"{place.topic}/{place.partition} gives no more records", reason="KAFKA_AWAY")
        return held.pop()


@asynccontextmanager
async def open_replay(settings: KafkaSettings, service: str, names: Sequence[str]) -> AsyncIterator[Replay]:
    """Topics that are not there have no records. Raises `Unavailable`."""
    consumer = make_consumer(settings, f"irisloop-{service}-replay", [], max_partition_fetch_bytes=1 << 20)
    await start(consumer)
    try:
        there = await consumer.topics()
        places = [place for name in names if name in there for place in await assign_all(consumer, name)]
        consumer.assign(places)
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, begins[place])
        yield Replay([Stretch(p.topic, p.partition, begins[p], ends[p]) for p in places], consumer)
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka could not be read to its end: {error!r}", reason="KAFKA_AWAY") from error
    finally:
        await close(consumer)
