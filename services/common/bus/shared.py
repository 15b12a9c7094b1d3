"""`shared` consumption: a group divides the partitions; offsets are committed after the effect.

One poll's partitions are handled concurrently, each in order; the next poll waits for them, so what is in memory is
bounded by the fetch sizes however slow the handler is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from services.common.bus.api import Record, Subscription
from services.common.bus.assignors import CoPartitioned
from services.common.bus.cloudevents import decode
from services.common.bus.connection import BROKER_ERRORS, make_consumer, record_of
from services.common.bus.deadletter import letter_headers
from services.common.bus.producing import Publisher, quietly_stop, start
from services.common.bus.work import Worker, backoff
from services.common.errors import Unavailable
from services.common.settings import CommonSettings
from services.common.telemetry import log

POLL_MS = 500


class SharedConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One subscription of one instance; renews its client whenever the broker leaves it broken."""

    def __init__(
        self, settings: CommonSettings, service: str, subscription: Subscription[Any], publisher: Publisher
    ) -> None:
        self._settings = settings
        self._service = service
        self._subscription = subscription
        self._publisher = publisher
        self._group = f"irisloop.{service}.{subscription.handler}"
        topic = subscription.topic
        decoder = subscription.decode or (lambda record: decode(record, topic))
        self._worker = Worker(service, subscription.handler, subscription.handle, decoder, self._dead_letter)
        self._joined = False
        self._busy = asyncio.Lock()
        self._done: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None

    def waiting_for(self) -> str:
        """Empty once the group has given this instance its partitions."""
        return self._worker.waiting if self._joined else f"Kafka to hand {self._subscription.handler} its partitions"

    async def run(self) -> None:
        """Consume until cancelled; what is in hand then is finished and committed."""
        tries = 0
        while True:
            consumer = self._make()
            try:
                await start(consumer)
                consumer.subscribe([self._subscription.topic.name], listener=self)
                tries = 0
                await self._consume(consumer)
            except (Unavailable, *BROKER_ERRORS) as error:
                log.warning("consumer_renewed", handler=self._subscription.handler, error=repr(error))
            finally:
                self._joined = False
                await quietly_stop(consumer)
            await asyncio.sleep(backoff(tries))
            tries += 1

    def _make(self) -> AIOKafkaConsumer:
        self._consumer = make_consumer(
            self._settings.kafka,
            f"{self._group}.{self._settings.replica}",
            [self._subscription.topic],
            group_id=self._group,
            group_instance_id=f"{self._group}.{self._settings.replica}",
            partition_assignment_strategy=(CoPartitioned,),
        )
        return self._consumer

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=self._subscription.max_batch)
            if found:
                await finish(self._take(consumer, found))

    async def _take(self, consumer: AIOKafkaConsumer, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        async with self._busy:
            records = [[record_of(one) for one in batch] for batch in found.values()]
            await asyncio.gather(*(self._worker.work(batch) for batch in records))
            self._done = {place: batch[-1].offset + 1 for place, batch in found.items()}
            await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """A commit that comes too late for a partition that moved on is no loss: handlers are idempotent."""
        done, self._done = self._done, {}
        mine = consumer.assignment()
        done = {place: offset for place, offset in done.items() if place in mine}
        try:
            if done:
                await consumer.commit(done)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("commit_too_late", handler=self._subscription.handler, error=repr(error))

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Wait for the batch in hand, whose offsets are committed with it, before the partitions go."""
        if revoked:
            async with self._busy:
                log.info("partitions_released", handler=self._subscription.handler, count=len(revoked))

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """The group has decided."""
        self._joined = True
        log.info("partitions_taken", handler=self._subscription.handler, count=len(assigned))

    async def _dead_letter(self, record: Record, error: Exception) -> None:
        headers = letter_headers(record, self._service, self._subscription.handler, error)
        name = f"{record.topic}.{self._service}.dlq"
        tries = 0
        while True:
            try:
                await self._publisher.publish_raw([(name, record.key, record.value, headers)])
                return
            except Unavailable:
                await asyncio.sleep(backoff(tries))
                tries += 1


async def finish(work: Any) -> None:
    """Await `work` to its end also when the caller is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
