"""Where the bus's contract is run: in memory, and on a real Kafka; each with topics of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from google.protobuf.wrappers_pb2 import StringValue

from services.common.bus import (
    Bus,
    Delivery,
    Event,
    KafkaBus,
    MemoryBroker,
    MemoryBus,
    Outcome,
    Position,
    Record,
    Topic,
)
from services.common.bus.cloudevents import Raw
from tests.contract.broker import Broker
from tests.waiting import until

AT = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)


class AnyBus(Bus, Protocol):
    """A bus with what the dead letters' commands need."""

    async def read_named(self, name: str) -> Sequence[Record]: ...

    async def publish_raw(self, records: Sequence[Raw]) -> None: ...

    async def partitions(self, topic: Topic[Any]) -> int: ...

    def one_writer(self, name: str) -> Any: ...


def make_topic(partitions: int, *, compacted: bool = False) -> Topic[StringValue]:
    """A topic that no other test has."""
    return Topic(
        name=f"irisloop.test.thing-{uuid.uuid4().hex[:8]}.said.v1",
        message=StringValue,
        key="value",
        producer="test",
        consumers=(),
        partitions=partitions,
        retention_ms=-1,
        retention_bytes=-1,
        compacted=compacted,
        max_message_bytes=1 << 20,
        log_append_time=False,
    )


class House(Protocol):
    """A place to run the contract."""

    async def topic(self, partitions: int = 3) -> Topic[StringValue]:
        """A new topic, with dead-letter topics of the services `one` and `two`."""

    def bus(self, service: str = "one", replica: int = 0) -> AnyBus:
        """A bus of an instance."""


class MemoryHouse:
    """In memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    async def topic(self, partitions: int = 3) -> Topic[StringValue]:
        topic = make_topic(partitions)
        self.broker.counts[topic.name] = partitions
        return topic

    def bus(self, service: str = "one", replica: int = 0) -> AnyBus:
        return MemoryBus(self.broker, service=service)


class KafkaHouse:
    """On a real broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def topic(self, partitions: int = 3) -> Topic[StringValue]:
        topic = make_topic(partitions)
        names = {topic.name: partitions, f"{topic.name}.one.dlq": 1, f"{topic.name}.two.dlq": 1}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.settings().kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, count, 1) for name, count in names.items()])
        finally:
            await admin.close()
        return topic

    def bus(self, service: str = "one", replica: int = 0) -> AnyBus:
        return KafkaBus(self.broker.settings(replica), service)


def said(topic: Topic[StringValue], words: str, key: str = "", ce_id: str = "", partition: int | None = None) -> Any:
    """An event."""
    return Event(topic, key or words, StringValue(value=words), ce_id or f"id-{words}", AT, partition=partition)


@asynccontextmanager
async def running(*buses: AnyBus, ready: bool = True) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Enter the buses and run them; cancelled at the end, as a service's stop does."""
    tasks: list[asyncio.Task[None]] = []
    for bus in buses:
        await bus.__aenter__()
        tasks.append(asyncio.create_task(bus.run()))
    try:
        if ready:
            await asyncio.sleep(0)
            await until(lambda: not any(bus.waiting_for() for bus in buses) or any(task.done() for task in tasks))
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for bus in buses:
            await bus.__aexit__(None, None, None)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results


class Hearer:
    """A handler that remembers, and fails as it is told."""

    def __init__(self, fail: Callable[[Sequence[Delivery[StringValue]]], Coroutine[Any, Any, None]] | None = None):
        self.batches: list[list[str]] = []
        self.deliveries: list[Delivery[StringValue]] = []
        self._fail = fail

    async def __call__(self, batch: Sequence[Delivery[StringValue]]) -> None:
        if self._fail is not None:
            await self._fail(batch)
        self.batches.append([one.value.value for one in batch])
        self.deliveries += batch

    @property
    def words(self) -> list[str]:
        """What was heard, in order."""
        return [one.value.value for one in self.deliveries]


class Echo:
    """A stream that says what it hears on another topic, in the same partition, and counts it in its state.

    Its state is what it finds in its output when it is restored, so an output that is lost or doubled shows.
    """

    def __init__(self, out: Topic[StringValue], held: bool = False) -> None:
        self.out = out
        self.held = held
        self.restored: list[tuple[int, int]] = []
        self.released: list[int] = []
        self.heard: list[str] = []
        self.fail: Callable[[Sequence[Delivery[Any]]], None] = lambda batch: None

    async def restore(self, unit: int, bus: Bus) -> Mapping[Position, int] | None:
        self.restored.append((unit, len(await bus.read(self.out, unit))))
        return None

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        self.fail(batch)
        self.heard += [one.value.value for one in batch]
        events = [
            Event(self.out, one.key, one.value, f"echo-{one.ce_id}", one.ce_time, partition=one.record.partition)
            for one in batch
        ]
        return Outcome([], {}) if self.held else Outcome(events)

    async def idle(self, unit: int) -> Outcome | None:
        return None

    async def release(self, unit: int) -> None:
        self.released.append(unit)


async def texts(bus: AnyBus, topic: Topic[StringValue]) -> list[str]:
    """Every committed word of a topic."""
    return [StringValue.FromString(record.value).value for record in await bus.read_named(topic.name)]


async def letters_of(bus: AnyBus, topic: Topic[StringValue], service: str = "one") -> list[Record]:
    """The dead letters of a service."""
    return list(await bus.read_named(f"{topic.name}.{service}.dlq"))
