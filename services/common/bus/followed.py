"""`every-instance` consumption: all partitions, no group, read to the end before ready, then followed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Follow, Record
from services.common.bus.cloudevents import decode
from services.common.bus.connection import BROKER_ERRORS, make_consumer, record_of
from services.common.bus.producing import quietly_stop, start
from services.common.bus.shared import POLL_MS, finish
from services.common.bus.work import Worker, backoff
from services.common.errors import Unavailable
from services.common.settings import CommonSettings
from services.common.telemetry import log


class FollowedTopic:
    """One topic as one instance sees it; a record that cannot be taken is logged and passed over."""

    def __init__(self, settings: CommonSettings, service: str, follow: Follow[Any]) -> None:
        self._settings = settings
        self._service = service
        self._follow = follow
        topic = follow.topic
        self._worker = Worker(
            service, follow.handler, follow.handle, lambda record: decode(record, topic), self._pass_over
        )
        self._positions: dict[TopicPartition, int] = {}
        self._ready = False

    def waiting_for(self) -> str:
        """Empty once everything that was there at the start has been handled."""
        return self._worker.waiting if self._ready else f"{self._follow.topic.name} to be read to its end"

    async def run(self) -> None:
        """Follow until cancelled, through every outage of the broker."""
        tries = 0
        while True:
            consumer = make_consumer(
                self._settings.kafka, f"irisloop.{self._service}.{self._follow.handler}", [self._follow.topic]
            )
            try:
                await start(consumer)
                tries = 0
                await self._consume(consumer)
            except (Unavailable, *BROKER_ERRORS) as error:
                log.warning("consumer_renewed", handler=self._follow.handler, error=repr(error))
            finally:
                await quietly_stop(consumer)
            await asyncio.sleep(backoff(tries))
            tries += 1

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        places = await assign_all(consumer, self._follow.topic.name)
        ends = await consumer.end_offsets(places)
        for place in places:
            if place in self._positions:
                consumer.seek(place, self._positions[place])
        while True:
            self._ready = self._ready or all([await consumer.position(place) >= ends[place] for place in places])
            found = await consumer.getmany(
                timeout_ms=POLL_MS if self._ready else 50, max_records=self._follow.max_batch
            )
            for place, records in found.items():
                await finish(self._worker.work([record_of(record) for record in records]))
                self._positions[place] = records[-1].offset + 1

    async def _pass_over(self, record: Record, error: Exception) -> None:
        log.error("followed_record_passed_over", topic=record.topic, offset=record.offset, error=str(error))


async def assign_all(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Take every partition of a topic, waiting until the topic is there."""
    while not (numbers := consumer.partitions_for_topic(topic)):
        await consumer._client.add_topic(topic)
        await consumer._client.force_metadata_update()
        numbers = consumer.partitions_for_topic(topic)
        if numbers:
            break
        await asyncio.sleep(0.2)
    places = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(places)
    return places
