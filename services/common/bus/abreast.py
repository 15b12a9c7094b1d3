"""The partitions of a unit, kept abreast: what they hold is handed over in the order of Kafka's time.

After an outage each partition has a backlog, and a busy one a longer one. Read at the same number of records each, the
quiet ones would run hours ahead, what they say would wait for the busy ones, and those would seem to have gone silent.
So the earliest record goes first, and a partition that has more on the broker but nothing here is waited for. This is
how Kafka Streams chooses, too (KIP-353 and KIP-695).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Record
from services.common.bus.backlog import Waiting, waiting_of
from services.common.bus.connection import record_of
from services.common.bus.lanes import BATCH_BYTES, LANE_BYTES

SLACK_MS: Final = 1
"""A partition goes before another by so much, which makes for longer runs of one."""
PATIENCE_S: Final = 10.0
LOOKS: Final = 5
"""A partition is waited for so long, and for so many answers of the client, as this process may have stood still; then
the others go on without it until it has something.
"""


@dataclass(slots=True)
class _Line:
    """What of one partition is here; `front` is Kafka's time of its newest record that was handed over, in ms."""

    waiting: deque[Any] = field(default_factory=deque)
    bytes: int = 0
    front: int = 0
    awaited_since: float | None = None
    looks: int = 0


_NEVER: Final[tuple[float, int, _Line]] = (inf, 0, _Line())


class Abreast:
    """Records as the client gave them, by partition."""

    def __init__(
        self, places: Collection[TopicPartition], max_batch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`max_batch` records a batch at most, and about as many of each partition wait while one is handled; `clock`
        in seconds.
        """
        self._lines = {place: _Line() for place in sorted(places)}
        self._max_batch = max_batch
        self._clock = clock
        self._unread: Collection[TopicPartition] = ()
        self._in_hand: Record | None = None

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line.waiting) for line in self._lines.values())

    def full(self) -> set[TopicPartition]:
        """The partitions of which more would only cost memory."""
        return {
            place
            for place, line in self._lines.items()
            if len(line.waiting) >= self._max_batch or line.bytes >= LANE_BYTES
        }

    def put(self, place: TopicPartition, found: Iterable[Any]) -> None:
        """At the end of a partition's."""
        line = self._lines[place]
        line.awaited_since, line.looks = None, 0
        for one in found:
            line.waiting.append(one)
            line.bytes += one.serialized_value_size

    def expect(self, unread: Collection[TopicPartition]) -> None:
        """These have records that are not here yet."""
        self._unread = unread
        for place, line in self._lines.items():
            line.looks += 1
            if place not in unread:
                line.awaited_since, line.looks = None, 0

    def is_behind(self) -> bool:
        """Whether there is more than what is here, which is waited for."""
        return self._until() < inf

    def take(self, most: int | None = None) -> list[Record]:
        """The next batch; empty while a partition has to be waited for."""
        limit = self._max_batch if most is None else min(most, self._max_batch)
        heads = [(line.waiting[0].timestamp, n, line) for n, line in enumerate(self._lines.values()) if line.waiting]
        heapify(heads)
        until = self._until()
        batch: list[Record] = []
        size = 0
        while heads and heads[0][0] <= until and len(batch) < limit and size < BATCH_BYTES:
            _, number, line = heads[0]
            last = min(until, min(heads[1:3], default=_NEVER)[0] + SLACK_MS)
            waiting = line.waiting
            while waiting and waiting[0].timestamp <= last and len(batch) < limit and size < BATCH_BYTES:
                one = waiting.popleft()
                line.front = one.timestamp
                line.bytes -= one.serialized_value_size
                size += one.serialized_value_size
                batch.append(record_of(one))
            if waiting:
                heapreplace(heads, (waiting[0].timestamp, number, line))
            else:
                heappop(heads)
                until = self._until()
        self._in_hand = batch[0] if batch else None
        return batch

    def _until(self) -> float:
        """Nothing after that may be handed over yet (ms): a partition that is waited for may hold earlier records."""
        now, until = self._clock(), inf
        for place in self._unread:
            line = self._lines[place]
            if line.waiting:
                continue
            if line.awaited_since is None:
                line.awaited_since = now
            if now - line.awaited_since < PATIENCE_S or line.looks < LOOKS:
                until = min(until, line.front + SLACK_MS)
        return until

    def waiting(self) -> Waiting | None:
        """What waits, the batch in hand included; None when nothing does."""
        heads = (line.waiting[0] for line in self._lines.values() if line.waiting)
        return waiting_of(len(self), self._in_hand, min(heads, key=lambda head: head.timestamp, default=None))

    def done(self) -> None:
        """The batch that was taken last took effect."""
        self._in_hand = None

    def clear(self) -> None:
        """Forget them: they will be read again."""
        self._lines = {place: _Line() for place in self._lines}
        self._unread = ()
        self._in_hand = None


async def unread(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> set[TopicPartition]:
    """Those that have more on the broker than was taken from the client, as its last answer said; and those that it has
    not asked for yet. Each must have a position.
    """
    found = set()
    for place in consumer.assignment() & set(places):
        end = consumer.last_stable_offset(place)
        end = consumer.highwater(place) if end is None or end < 0 else end
        if end is None or await consumer.position(place) < end:
            found.add(place)
    return found
