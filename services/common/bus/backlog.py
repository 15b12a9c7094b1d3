"""How far a listener is behind, and whether its backlog nears the end of what its topic keeps.

What is dropped by retention before it was handled is lost, so at half of the way there is an alarm: a log line and
`irisloop_common_bus_backlog_share`. What was dropped all the same is the matter of `gaps`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Record, Topic
from services.common.bus.connection import BROKER_ERRORS
from services.common.metrics import BUS_BACKLOG_SHARE, BUS_LAG
from services.common.telemetry import log

EVERY_S: Final = 15.0
ALARM_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in this process of one partition: records, and the broker's time (ms) and size of the oldest."""

    records: int
    topic: str
    partition: int
    oldest_ms: int
    bytes_each: int


def waiting_of(records: int, in_hand: Record | None, first: Any) -> Waiting | None:
    """Of so many records that wait, of which the client gave `first` first, and the oldest of the batch in hand."""
    if in_hand is not None:
        oldest_ms = int(in_hand.timestamp.timestamp() * 1000)
        return Waiting(records + 1, in_hand.topic, in_hand.partition, oldest_ms, len(in_hand.value))
    if first is None:
        return None
    return Waiting(records, first.topic, first.partition, first.timestamp, first.serialized_value_size)


def share_of(waiting: Waiting, lag: int, topic: Topic[Any], now_ms: float) -> float:
    """How much of what a partition keeps is waiting: 0 for nothing, 1 when the next record is dropped unhandled."""
    by_time = (now_ms - waiting.oldest_ms) / topic.retention_ms if topic.retention_ms > 0 else 0.0
    by_size = lag * waiting.bytes_each / topic.retention_bytes if topic.retention_bytes > 0 else 0.0
    return max(0.0, by_time, by_size)


async def watch(
    consumer: AIOKafkaConsumer, handler: str, topics: Sequence[Topic[Any]], waiting: Callable[[], Sequence[Waiting]]
) -> None:
    """Measure until cancelled."""
    named = {topic.name: topic for topic in topics}
    alarmed = False
    while True:
        try:
            queued = waiting()
            unread = await _unread(consumer)
            lag = sum(unread.values()) + sum(one.records for one in queued)
            now_ms = time.time() * 1000
            share = max((_share(one, unread, named[one.topic], now_ms) for one in queued), default=0.0)
        except BROKER_ERRORS as error:
            log.debug("lag_unknown", handler=handler, error=repr(error))
        else:
            BUS_LAG.labels(handler).set(lag)
            BUS_BACKLOG_SHARE.labels(handler).set(share)
            if share > ALARM_SHARE:
                log.error("backlog_nears_retention", handler=handler, share=round(share, 2), lag=lag)
            elif alarmed:
                log.info("backlog_recovers", handler=handler, share=round(share, 2), lag=lag)
            alarmed = share > ALARM_SHARE
        await asyncio.sleep(EVERY_S)


def _share(waiting: Waiting, unread: Mapping[TopicPartition, int], topic: Topic[Any], now_ms: float) -> float:
    lag = waiting.records + unread.get(TopicPartition(waiting.topic, waiting.partition), 0)
    return share_of(waiting, lag, topic, now_ms)


async def _unread(consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    places = sorted(consumer.assignment())
    if not places:
        return {}
    async with asyncio.timeout(EVERY_S):
        ends = await consumer.end_offsets(places)
        return {place: max(0, ends[place] - await consumer.position(place)) for place in places}
