"""How far a listener is behind, and whether its backlog nears the end of what its topic keeps.

What is dropped by retention before it was handled is lost, so at half of the way there is an alarm: a log line and
`irisloop_common_bus_backlog_share`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from services.common.bus.api import Topic
from services.common.bus.connection import BROKER_ERRORS
from services.common.metrics import BUS_BACKLOG_SHARE, BUS_LAG
from services.common.telemetry import log

EVERY_S: Final = 15.0
ALARM_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in this process: records, and the topic, the broker's time (ms) and the size of the oldest of them."""

    records: int
    topic: str
    oldest_ms: int
    bytes_each: int


def share_of(waiting: Waiting, lag: int, topic: Topic[Any], now_ms: float) -> float:
    """How much of what the topic keeps is waiting: 0 for nothing, 1 when the next record is dropped unhandled."""
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
            lag = await _unread(consumer) + sum(one.records for one in queued)
            now_ms = time.time() * 1000
            share = max((share_of(one, lag, named[one.topic], now_ms) for one in queued), default=0.0)
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


async def _unread(consumer: AIOKafkaConsumer) -> int:
    places = sorted(consumer.assignment())
    if not places:
        return 0
    async with asyncio.timeout(EVERY_S):
        ends = await consumer.end_offsets(places)
        return sum([max(0, ends[place] - await consumer.position(place)) for place in places])
