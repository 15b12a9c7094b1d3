"""Transactional read-process-write: outputs, dead letters and offsets of a step become visible together.

One producer a unit with `transactional.id = <service>.<handler>.<unit>`: starting it fences whoever held the unit
before and ends what that one left open, so committed offsets are asked for only afterwards. Any error aborts the
transaction, restores the unit from what is committed, and reads on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ProducerFenced

from services.common.bus.api import Delivery, Outcome, Record, Stream
from services.common.bus.assignors import CoPartitioned, OneOwner
from services.common.bus.cloudevents import decode
from services.common.bus.connection import BROKER_ERRORS, make_consumer, make_producer, record_of
from services.common.bus.deadletter import letter_headers
from services.common.bus.producing import encoded, quietly_stop, start
from services.common.bus.shared import finish
from services.common.bus.work import TRIES, backoff, is_for
from services.common.errors import IrisloopError, PoisonedDelivery, Transient, Unavailable
from services.common.settings import CommonSettings
from services.common.telemetry import bind_trace, log

if TYPE_CHECKING:
    from services.common.bus.kafka import KafkaBus

IDLE_MS = 1_000


@dataclass(slots=True)
class Unit:
    """What belongs together: a partition number, or everything; with its producer and its share of bad luck."""

    number: int
    places: frozenset[TopicPartition]
    producer: AIOKafkaProducer
    failures: int = 0
    one_by_one: bool = False
    poisoned: dict[tuple[str, int, int], Exception] = field(default_factory=dict)


class StreamRunner(ConsumerRebalanceListener):  # type: ignore[misc]
    """One stream of one instance."""

    def __init__(self, settings: CommonSettings, service: str, stream: Stream, bus: KafkaBus) -> None:
        self._settings = settings
        self._service = service
        self._stream = stream
        self._bus = bus
        self._group = f"irisloop.{service}.{stream.handler}"
        self._topics = {topic.name: topic for topic in stream.topics}
        self._units: dict[int, Unit] = {}
        self._busy = asyncio.Lock()
        self._assigned = False
        self._stale = True
        self._ready = False
        self._waiting = ""

    def waiting_for(self) -> str:
        """Empty once the units that the group gave to this instance are restored."""
        if not self._ready:
            return f"Kafka to hand {self._stream.handler} its partitions"
        return self._waiting

    async def run(self) -> None:
        """Process until cancelled; the step in hand then is finished."""
        tries = 0
        while True:
            consumer = self._make()
            try:
                await start(consumer)
                consumer.subscribe(list(self._topics), listener=self)
                tries = 0
                await self._consume(consumer)
            except (Unavailable, *BROKER_ERRORS) as error:
                log.warning("stream_renewed", handler=self._stream.handler, error=repr(error))
            finally:
                self._assigned, self._stale, self._ready = False, True, False
                await self._release_all()
                await quietly_stop(consumer)
            await asyncio.sleep(backoff(tries))
            tries += 1

    def _make(self) -> AIOKafkaConsumer:
        return make_consumer(
            self._settings.kafka,
            f"{self._group}.{self._settings.replica}",
            self._stream.topics,
            group_id=self._group,
            group_instance_id=f"{self._group}.{self._settings.replica}",
            partition_assignment_strategy=(CoPartitioned if self._stream.scope == "partition" else OneOwner,),
            fetch_max_wait_ms=20,
        )

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Wait for the step in hand; the units are given up in the loop, or fenced by their next owner."""
        async with self._busy:
            self._stale = True

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """The loop takes the new units over before it reads on."""
        self._assigned, self._stale = True, True

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            if self._stale and self._assigned:
                await self._take_over(consumer)
            most = 1 if any(unit.one_by_one for unit in self._units.values()) else self._stream.max_batch
            found = await consumer.getmany(timeout_ms=IDLE_MS, max_records=most)
            if self._stale:
                continue
            await finish(self._step_all(consumer, found))

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """Fence, restore and position every unit of the new assignment."""
        async with self._busy:
            self._stale = False
            await self._release_all()
            for number, places in self._divided(consumer.assignment()).items():
                unit = Unit(number, frozenset(places), self._producer(number))
                self._units[number] = unit
                await start(unit.producer)
                await self._restore(consumer, unit)
            self._ready = True
            log.info("units_taken", handler=self._stream.handler, units=sorted(self._units))

    def _divided(self, places: Sequence[TopicPartition]) -> dict[int, set[TopicPartition]]:
        units: dict[int, set[TopicPartition]] = {}
        for place in places:
            units.setdefault(place.partition if self._stream.scope == "partition" else 0, set()).add(place)
        return units

    def _producer(self, unit: int) -> AIOKafkaProducer:
        name = f"{self._service}.{self._stream.handler}.{unit}"
        return make_producer(
            self._settings.kafka, name, transactional_id=name, retry_backoff_ms=5, transaction_timeout_ms=30_000
        )

    async def _restore(self, consumer: AIOKafkaConsumer, unit: Unit) -> None:
        for place in unit.places:
            offset = await consumer.committed(place)
            if offset is None:
                await consumer.seek_to_beginning(place)
            else:
                consumer.seek(place, offset)
        await self._stream.processor.restore(unit.number, self._bus)

    async def _release_all(self) -> None:
        units, self._units = self._units, {}
        for unit in units.values():
            await self._stream.processor.release(unit.number)
            await quietly_stop(unit.producer)

    async def _step_all(self, consumer: AIOKafkaConsumer, found: dict[TopicPartition, list[Any]]) -> None:
        async with self._busy:
            mine = consumer.assignment()
            steps = []
            for unit in self._units.values():
                records = [record_of(one) for place in sorted(unit.places & set(found)) for one in found[place]]
                if unit.places <= set(mine):
                    steps.append(self._step(consumer, unit, records))
            await asyncio.gather(*steps)

    async def _step(self, consumer: AIOKafkaConsumer, unit: Unit, records: list[Record]) -> None:
        try:
            if records:
                await self._transact(unit, records)
            elif (outcome := await self._stream.processor.idle(unit.number)) is not None:
                await self._commit(unit, outcome, {}, [])
            unit.failures, unit.one_by_one, self._waiting = 0, False, ""
        except ProducerFenced:
            log.warning("unit_fenced", handler=self._stream.handler, unit=unit.number)
            self._stale = True
        except Exception as error:
            await self._recover(consumer, unit, records, error)

    async def _transact(self, unit: Unit, records: list[Record]) -> None:
        deliveries, refused = self._decoded(unit, records)
        outcome = Outcome(())
        if deliveries:
            with bind_trace(deliveries[0].traceparent):
                outcome = await self._stream.processor.process(unit.number, deliveries)
        done = {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
        await self._commit(unit, outcome, done, refused)

    def _decoded(self, unit: Unit, records: list[Record]) -> tuple[list[Delivery[Any]], list[tuple[Record, Exception]]]:
        deliveries: list[Delivery[Any]] = []
        refused: list[tuple[Record, Exception]] = []
        for record in records:
            poison = unit.poisoned.get((record.topic, record.partition, record.offset))
            if poison is not None:
                refused.append((record, poison))
            elif is_for(record, self._service, self._stream.handler):
                try:
                    decoder = self._stream.decode.get(record.topic)
                    deliveries.append(decoder(record) if decoder else decode(record, self._topics[record.topic]))
                except IrisloopError as error:
                    refused.append((record, error))
        return deliveries, refused

    async def _commit(
        self,
        unit: Unit,
        outcome: Outcome,
        done: dict[TopicPartition, int],
        refused: Sequence[tuple[Record, Exception]],
    ) -> None:
        if outcome.offsets is not None:
            done = {TopicPartition(*position): offset for position, offset in outcome.offsets.items()}
        producer = unit.producer
        async with producer.transaction():
            waits = []
            for event in outcome.events:
                topic, partition, key, value, headers = await encoded(producer, event, self._service)
                waits.append(await producer.send(topic, value, key=key, partition=partition, headers=headers))
            for record, error in refused:
                headers = letter_headers(record, self._service, self._stream.handler, error)
                name = f"{record.topic}.{self._service}.dlq"
                log.warning("record_dead_lettered", handler=self._stream.handler, topic=record.topic, error=str(error))
                waits.append(await producer.send(name, record.value, key=record.key, headers=headers))
            await asyncio.gather(*waits)
            if done:
                await producer.send_offsets_to_transaction(done, self._group)

    async def _recover(self, consumer: AIOKafkaConsumer, unit: Unit, records: list[Record], error: Exception) -> None:
        """Nothing of the step is visible: note whose fault it was, then start over from what is committed."""
        log.warning(
            "step_undone",
            handler=self._stream.handler,
            unit=unit.number,
            error=repr(error),
            exc_info=None if isinstance(error, (IrisloopError, *BROKER_ERRORS)) else error,
        )
        if isinstance(error, PoisonedDelivery):
            self._poison(unit, records, error)
        elif isinstance(error, Transient):
            self._waiting = f"{self._stream.handler}: {error}"
        elif isinstance(error, BROKER_ERRORS):
            raise Unavailable(f"Kafka does not take the step: {error!r}") from error
        else:
            unit.failures += 1
            if unit.one_by_one and len(records) == 1 and unit.failures > TRIES:
                unit.poisoned[records[0].topic, records[0].partition, records[0].offset] = error
            unit.one_by_one = True
        await asyncio.sleep(backoff(min(unit.failures, 4)))
        await self._restore(consumer, unit)

    def _poison(self, unit: Unit, records: list[Record], error: PoisonedDelivery) -> None:
        deliveries, _ = self._decoded(unit, records)
        record = deliveries[error.index].record
        unit.poisoned[record.topic, record.partition, record.offset] = error
