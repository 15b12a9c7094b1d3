"""`Bus` on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self

from aiokafka import TopicPartition

from services.common.bus.api import Event, Follow, Record, Stream, Subscription, Topic
from services.common.bus.connection import make_consumer, record_of
from services.common.bus.followed import FollowedTopic, assign_all
from services.common.bus.producing import Publisher, Raw, quietly_stop, start
from services.common.bus.shared import SharedConsumer
from services.common.bus.streamed import StreamRunner
from services.common.bus.topics import missing_topics
from services.common.errors import Unavailable
from services.common.settings import CommonSettings

READ_POLL_MS: Final = 100
READ_PATIENCE: Final = 30
"""Empty polls in a row after which the end of a partition is taken as reached: a transaction may still be open."""


class KafkaBus:
    """The bus of one service instance."""

    def __init__(self, settings: CommonSettings, service: str) -> None:
        self._settings = settings
        self._service = service
        self._publisher = Publisher(settings.kafka, service)
        self._listeners: list[SharedConsumer | FollowedTopic | StreamRunner] = []
        self._topics: list[str] = []

    async def __aenter__(self) -> Self:
        """Connect, and wait for the topics: who joins a group before them is given none. Raises `Unavailable`."""
        await self._publisher.start()
        missing = await missing_topics(self._settings.kafka, self._topics)
        if missing:
            words = f"{missing[0]} and {len(missing) - 1} more topics" if len(missing) > 1 else f"topic {missing[0]}"
            raise Unavailable(f"Kafka has no {words} yet: `irisloop topics apply`", reason="TOPICS_MISSING")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._publisher.stop()

    def subscribe(self, subscription: Subscription[Any]) -> None:
        self._topics.append(subscription.topic.name)
        self._listeners.append(SharedConsumer(self._settings, self._service, subscription, self._publisher))

    def follow(self, follow: Follow[Any]) -> None:
        self._topics.append(follow.topic.name)
        self._listeners.append(FollowedTopic(self._settings, self._service, follow))

    def stream(self, stream: Stream) -> None:
        self._topics += [topic.name for topic in stream.topics]
        self._listeners.append(StreamRunner(self._settings, self._service, stream, self))

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        await self._publisher.publish(events)

    async def publish_raw(self, records: Sequence[Raw]) -> None:
        """Records as they are; for dead letters and their replay."""
        await self._publisher.publish_raw(records)

    async def read(self, topic: Topic[Any], partition: int, *, last: int | None = None) -> Sequence[Record]:
        return await self._read(topic.name, [partition], last)

    async def read_named(self, name: str) -> Sequence[Record]:
        """Every committed record of a topic, partition by partition."""
        return await self._read(name, None, None)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.run())

    def waiting_for(self) -> str:
        return "; ".join(dict.fromkeys(reason for one in self._listeners if (reason := one.waiting_for())))

    async def _read(self, name: str, partitions: list[int] | None, last: int | None) -> list[Record]:
        consumer = make_consumer(
            self._settings.kafka, f"irisloop-{self._service}-read", [], max_partition_fetch_bytes=12 << 20
        )
        try:
            await start(consumer)
            async with asyncio.timeout(60.0):
                places = await assign_all(consumer, name)
                if partitions is not None:
                    places = [TopicPartition(name, number) for number in partitions]
                    consumer.assign(places)
                return await _drain(consumer, places, last)
        except TimeoutError as error:
            raise Unavailable(f"{name} could not be read to its end in a minute") from error
        finally:
            await quietly_stop(consumer)


async def _drain(consumer: Any, places: list[TopicPartition], last: int | None) -> list[Record]:
    """Read each place up to its end as it is now."""
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, begins[place] if last is None else max(begins[place], ends[place] - last))
    records: list[Record] = []
    empty = 0
    while empty < READ_PATIENCE:
        if all([await consumer.position(place) >= ends[place] for place in places]):
            break
        found = await consumer.getmany(timeout_ms=READ_POLL_MS)
        empty = 0 if found else empty + 1
        records += [record_of(one) for batch in found.values() for one in batch]
    return records
