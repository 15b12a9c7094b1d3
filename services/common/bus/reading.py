"""Reading what a topic holds, up to its end as it is now, without a group."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Record
from services.common.bus.connection import BROKER_ERRORS, close, make_consumer, record_of, start
from services.common.bus.followed import assign_all
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings

POLL_MS: Final = 100
PATIENCE_S: Final = 60.0


async def read_topic(
    settings: KafkaSettings, service: str, name: str, partition: int | None, last: int | None
) -> list[Record]:
    """The committed records of a partition, or of all, or the `last` so many of each. Raises `Unavailable`."""
    consumer = make_consumer(settings, f"irisloop-{service}-read", [], max_partition_fetch_bytes=4 << 20)
    await start(consumer)
    try:
        async with asyncio.timeout(PATIENCE_S):
            if partition is None and name not in await consumer.topics():
                return []
            places = await assign_all(consumer, name)
            if partition is not None:
                places = [TopicPartition(name, partition)]
                consumer.assign(places)
            return [record for place in places for record in await _read(consumer, place, last)]
    except BROKER_ERRORS as error:
        raise Unavailable(f"{name} could not be read to its end: {error!r}", reason="KAFKA_AWAY") from error
    finally:
        await close(consumer)


async def _read(consumer: AIOKafkaConsumer, place: TopicPartition, last: int | None) -> list[Record]:
    """Offsets are spent on transactions' ends and compacted records too: reach back further until there are enough."""
    begin = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    reach = end - begin if last is None else min(end - begin, 2 * last + 16)
    while True:
        records = await _between(consumer, place, end - reach, end) if reach > 0 else []
        if last is None:
            return records
        if len(records) >= last or reach >= end - begin:
            return records[max(0, len(records) - last) :]
        reach = min(end - begin, 4 * reach)


async def _between(consumer: AIOKafkaConsumer, place: TopicPartition, first: int, end: int) -> list[Record]:
    consumer.seek(place, first)
    records: list[Record] = []
    while await consumer.position(place) < end:
        found: dict[TopicPartition, list[Any]] = await consumer.getmany(place, timeout_ms=POLL_MS)
        records += [record_of(one) for one in found.get(place, ()) if one.offset < end]
    return records
