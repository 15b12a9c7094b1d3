"""`every-instance` consumption: all partitions, no group, read to the end before ready, then followed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.bus.api import Follow, Record
from services.common.bus.cloudevents import decode
from services.common.bus.connection import (
    BROKER_ERRORS,
    check_alive,
    close,
    make_consumer,
    record_of,
    start,
    wait_for_topics,
)
from services.common.bus.shared import POLL_MS, STOP_S
from services.common.bus.work import Stopped, Worker, backoff, is_said
from services.common.errors import Unavailable
from services.common.metrics import BUS_RENEWALS
from services.common.settings import CommonSettings
from services.common.telemetry import log

CATCH_UP_MS: Final = 50
LONG_POLL_MS: Final = 400
"""The broker answers sooner when there is something; asking more often costs both sides for topics that rest."""


class FollowedTopic:
    """One topic as one instance sees it; a record that cannot be taken is logged and passed over."""

    def __init__(self, settings: CommonSettings, service: str, follow: Follow[Any]) -> None:
        """Nothing is connected yet."""
        self._settings = settings
        self._service = service
        self._follow = follow
        topic = follow.topic
        self._worker = Worker(
            service, follow.handler, follow.handle, lambda record: decode(record, topic), self._pass_over
        )
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] | None = None
        self._missing = f"{follow.topic.name} to be read to its end"

    def waiting_for(self) -> str:
        """Empty once everything that was there at the start has been handled."""
        return self._missing or self._worker.waiting

    def _say(self, words: str) -> None:
        self._missing = words or f"{self._follow.topic.name} to be read to its end"

    async def run(self) -> None:
        """Follow until cancelled, through every outage of the broker."""
        tries = 0
        while True:
            try:
                await self._session()
            except (Unavailable, *BROKER_ERRORS) as error:
                BUS_RENEWALS.labels("every-instance").inc()
                if is_said(tries):
                    log.warning("consumer_renewed", handler=self._follow.handler, tries=tries, error=repr(error))
            tries = 0 if not self._missing else tries + 1
            await asyncio.sleep(backoff(tries))

    async def _session(self) -> None:
        """One client's life. Raises what ended it."""
        name = f"irisloop.{self._service}.{self._follow.handler}"
        consumer = make_consumer(self._settings.kafka, name, [self._follow.topic], fetch_max_wait_ms=LONG_POLL_MS)
        await start(consumer)
        work: asyncio.Task[None] | None = None
        try:
            places = await self._assign(consumer)
            while True:
                await self._note_progress(consumer, places)
                found = await consumer.getmany(
                    timeout_ms=CATCH_UP_MS if self._missing else POLL_MS, max_records=self._follow.max_batch
                )
                check_alive(consumer)
                work = asyncio.create_task(self._take(found))
                await asyncio.shield(work)
        except asyncio.CancelledError:
            self._worker.stopping.set()
            if work is not None:
                await asyncio.wait([work], timeout=STOP_S)
            raise
        finally:
            if work is not None and not work.done():
                work.cancel()
            await close(consumer)

    async def _assign(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        places = await assign_all(consumer, self._follow.topic.name, self._say)
        if self._ends is None:
            self._ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        for place in places:
            consumer.seek(place, self._positions.get(place, begins[place]))
        return places

    async def _note_progress(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        if self._missing and self._ends is not None:
            reached = [await consumer.position(place) >= self._ends.get(place, 0) for place in places]
            if all(reached):
                self._missing = ""
                log.info("topic_read_to_its_end", topic=self._follow.topic.name, handler=self._follow.handler)

    async def _take(self, found: dict[TopicPartition, list[Any]]) -> None:
        try:
            for place, records in found.items():
                await self._worker.work([record_of(record) for record in records])
                self._positions[place] = records[-1].offset + 1
        except Stopped:
            return

    async def _pass_over(self, record: Record, error: Exception) -> None:
        log.error("followed_record_passed_over", topic=record.topic, offset=record.offset, error=str(error))


async def assign_all(consumer: AIOKafkaConsumer, topic: str, say: Any = lambda words: None) -> list[TopicPartition]:
    """Take every partition of a topic, waiting until the topic is there."""
    await wait_for_topics(consumer, [topic], say)
    while not (numbers := consumer.partitions_for_topic(topic)):
        await consumer._client.add_topic(topic)
        await asyncio.sleep(0.05)
    places = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(places)
    return places
