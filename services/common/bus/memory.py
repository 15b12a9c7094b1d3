"""The bus in one process, for tests: the same contract as Kafka, no broker, no clock of its own.

A `MemoryBroker` holds the logs and the groups' offsets, as a broker would: a `MemoryBus` may be left and another one
entered on the same broker, and goes on where the first one stopped.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from services.common.bus.api import Delivery, Event, Follow, Outcome, Position, Record, Stream, Subscription, Topic
from services.common.bus.cloudevents import Headers, decode, headers_of, partition_of
from services.common.bus.deadletter import letter_headers
from services.common.bus.work import TRIES, Worker, backoff, decode_all, is_for
from services.common.errors import IrisloopError, PoisonedDelivery, Transient
from services.common.telemetry import bind_trace

M = TypeVar("M", bound=Message)

CAMERA_PARTITIONS = 6
IDLE_S = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class MemoryBroker:
    """Logs by (topic, partition), committed offsets by (group, topic, partition)."""

    clock: Callable[[], datetime] = _now
    logs: dict[Position, list[Record]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    epochs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers) -> None:
        """One record, at the end of its partition."""
        log = self.logs[topic, partition]
        log.append(Record(topic, partition, len(log), self.clock(), key, value, tuple(headers)))
        self.changed.set()


def partitions_of(topic: Topic[Any]) -> int:
    """How many partitions it has in memory."""
    return topic.partitions or CAMERA_PARTITIONS


class MemoryBus:
    """`Bus` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker | None = None, *, service: str = "test") -> None:
        self.broker = broker or MemoryBroker()
        self.service = service
        self._subscriptions: list[Subscription[Any]] = []
        self._follows: list[Follow[Any]] = []
        self._streams: list[Stream] = []
        self._followed: dict[tuple[int, int], int] = defaultdict(int)
        self._restored: dict[tuple[int, int], int] = {}
        self._poisoned: dict[tuple[str, int, int], Exception] = {}
        self._positions: dict[tuple[str, Position], int] = {}
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def subscribe(self, subscription: Subscription[Any]) -> None:
        self._subscriptions.append(subscription)
        topic, handler = subscription.topic, subscription.handler
        decoder = subscription.decode or (lambda record: decode(record, topic))

        async def keep(record: Record, error: Exception) -> None:
            self._dead_letter(record, handler, error)

        self._workers.append(Worker(self.service, handler, subscription.handle, decoder, keep))

    def follow(self, follow: Follow[Any]) -> None:
        self._follows.append(follow)

    def stream(self, stream: Stream) -> None:
        self._streams.append(stream)

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        for event in events:
            self._append(event)

    async def read(self, topic: Topic[Any], partition: int, *, last: int | None = None) -> Sequence[Record]:
        records = self.broker.logs[topic.name, partition]
        return list(records if last is None else records[max(0, len(records) - last) :])

    def waiting_for(self) -> str:
        return "; ".join(worker.waiting for worker in self._workers if worker.waiting)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            self.broker.changed.clear()
            if not await self._round():
                await self._idle()
                try:
                    await asyncio.wait_for(self.broker.changed.wait(), IDLE_S)
                except TimeoutError:
                    continue

    async def settle(self) -> None:
        """Deliver until nothing is left to deliver; for tests that do not `run`."""
        while await self._round():
            pass
        await self._idle()

    def send(
        self, topic: Topic[Any], value: bytes, *, key: bytes | None = None, headers: Headers | None = None
    ) -> None:
        """Append a record as a client of any make would."""
        partition = partition_of((key or b"").decode(errors="replace"), partitions_of(topic))
        self.broker.append(topic.name, partition, key, value, headers or [])

    def events(self, topic: Topic[M]) -> list[Delivery[M]]:
        """Everything published on a topic, in the order of arrival."""
        found = [record for (name, _), log in self.broker.logs.items() if name == topic.name for record in log]
        return [decode(record, topic) for record in sorted(found, key=lambda record: record.timestamp)]

    def dead_letters(self, topic: Topic[Any], service: str = "") -> list[Record]:
        """The dead letters that a service left of a topic."""
        return list(self.broker.logs[f"{topic.name}.{service or self.service}.dlq", 0])

    def _append(self, event: Event[Any]) -> None:
        partitions = partitions_of(event.topic)
        partition = partition_of(event.key, partitions) if event.partition is None else event.partition
        headers = headers_of(event, f"/irisloop/{self.service}")
        self.broker.append(event.topic.name, partition, event.key.encode(), event.value.SerializeToString(), headers)

    def _dead_letter(self, record: Record, handler: str, error: Exception) -> None:
        headers = letter_headers(record, self.service, handler, error)
        self.broker.append(f"{record.topic}.{self.service}.dlq", 0, record.key, record.value, headers)

    async def _round(self) -> bool:
        """One batch of each partition of each listener; whether there was any."""
        found = [
            await self._subscribed(worker, sub) for worker, sub in zip(self._workers, self._subscriptions, strict=True)
        ]
        found += [await self._follow(place, follow) for place, follow in enumerate(self._follows)]
        found += [await self._step(place, stream) for place, stream in enumerate(self._streams)]
        return any(found)

    def _fresh(self, topic: Topic[Any], partition: int, handler: str, most: int) -> list[Record]:
        offset = self.broker.committed[self._group(handler), topic.name, partition]
        return self.broker.logs[topic.name, partition][offset : offset + most]

    def _group(self, handler: str) -> str:
        return f"irisloop.{self.service}.{handler}"

    def _commit(self, handler: str, position: Position, offset: int) -> None:
        self.broker.committed[(self._group(handler), *position)] = offset

    async def _subscribed(self, worker: Worker, subscription: Subscription[Any]) -> bool:
        topic, handler = subscription.topic, subscription.handler

        async def one(partition: int) -> bool:
            records = self._fresh(topic, partition, handler, subscription.max_batch)
            if records:
                await worker.work(records)
                self._commit(handler, (topic.name, partition), records[-1].offset + 1)
            return bool(records)

        return any(await asyncio.gather(*(one(partition) for partition in range(partitions_of(topic)))))

    async def _follow(self, place: int, follow: Follow[Any]) -> bool:
        any_new = False
        for partition in range(partitions_of(follow.topic)):
            offset = self._followed[place, partition]
            records = self.broker.logs[follow.topic.name, partition][offset : offset + follow.max_batch]
            if records:
                any_new = True
                deliveries, _ = decode_all(records, lambda record: decode(record, follow.topic))
                if deliveries:
                    await follow.handle(deliveries)
                self._followed[place, partition] = records[-1].offset + 1
        return any_new

    def _units(self, stream: Stream) -> dict[int, list[Position]]:
        every = [(topic.name, number) for topic in stream.topics for number in range(partitions_of(topic))]
        if stream.scope == "all":
            return {0: every}
        units: dict[int, list[Position]] = defaultdict(list)
        for name, number in every:
            units[number].append((name, number))
        return units

    async def _step(self, place: int, stream: Stream) -> bool:
        any_new = False
        for unit, positions in self._units(stream).items():
            await self._own(place, stream, unit)
            records = [record for position in positions for record in self._fresh_at(stream, position)]
            if records:
                any_new = True
                await self._transact(place, stream, unit, records)
        return any_new

    def _fresh_at(self, stream: Stream, position: Position) -> list[Record]:
        """Records after the committed offset that were not handed in since the unit was restored."""
        committed = self.broker.committed[(self._group(stream.handler), *position)]
        offset = max(committed, self._positions.get((stream.handler, position), 0))
        return self.broker.logs[position][offset : offset + stream.max_batch]

    async def _own(self, place: int, stream: Stream, unit: int) -> None:
        """Restore a unit that is new to this bus; whoever held it before is fenced by a higher epoch."""
        if (place, unit) not in self._restored:
            await self._restore(place, stream, unit)

    async def _restore(self, place: int, stream: Stream, unit: int) -> None:
        name = f"{self.service}.{stream.handler}.{unit}"
        self.broker.epochs[name] += 1
        self._restored[place, unit] = self.broker.epochs[name]
        for position in self._units(stream)[unit]:
            self._positions.pop((stream.handler, position), None)
        await stream.processor.restore(unit, self)

    async def _transact(self, place: int, stream: Stream, unit: int, records: list[Record]) -> None:
        """One step until it works: its events and offsets become visible together."""
        tries = 0
        while True:
            try:
                outcome, refused = await self._processed(stream, unit, records)
            except PoisonedDelivery as error:
                await self._poison(place, stream, unit, records, error)
                continue
            except Exception as error:
                await self._restore(place, stream, unit)
                if not isinstance(error, Transient) and (tries := tries + 1) >= TRIES:
                    if len(records) == 1:
                        await self._poison(place, stream, unit, records, PoisonedDelivery(0, repr(error)))
                    else:
                        records = records[:1]
                    tries = 0
                await asyncio.sleep(min(0.01, backoff(0)))
                continue
            self._apply(place, stream, unit, records, outcome, refused)
            return

    async def _poison(
        self, place: int, stream: Stream, unit: int, records: list[Record], error: PoisonedDelivery
    ) -> None:
        clean = [r for r in records if (r.topic, r.partition, r.offset) not in self._poisoned]
        record = clean[error.index]
        self._poisoned[record.topic, record.partition, record.offset] = error
        await self._restore(place, stream, unit)

    async def _processed(
        self, stream: Stream, unit: int, records: list[Record]
    ) -> tuple[Outcome, list[tuple[Record, Exception]]]:
        topics = {topic.name: topic for topic in stream.topics}
        deliveries: list[Delivery[Any]] = []
        refused: list[tuple[Record, Exception]] = []
        for record in records:
            if not is_for(record, self.service, stream.handler):
                continue
            poison = self._poisoned.get((record.topic, record.partition, record.offset))
            if poison is not None:
                refused.append((record, poison))
                continue
            try:
                decoder = stream.decode.get(record.topic)
                deliveries.append(decoder(record) if decoder else decode(record, topics[record.topic]))
            except IrisloopError as error:
                refused.append((record, error))
        if not deliveries:
            return Outcome(()), refused
        with bind_trace(deliveries[0].traceparent):
            return await stream.processor.process(unit, deliveries), refused

    def _apply(
        self,
        place: int,
        stream: Stream,
        unit: int,
        records: Sequence[Record],
        outcome: Outcome,
        refused: Sequence[tuple[Record, Exception]],
    ) -> None:
        name = f"{self.service}.{stream.handler}.{unit}"
        if self.broker.epochs[name] != self._restored[place, unit]:
            del self._restored[place, unit]
            return
        for event in outcome.events:
            self._append(event)
        for record, error in refused:
            self._dead_letter(record, stream.handler, error)
        done: dict[Position, int] = {}
        for record in records:
            done[record.topic, record.partition] = record.offset + 1
            self._positions[stream.handler, (record.topic, record.partition)] = record.offset + 1
        for position, offset in (done if outcome.offsets is None else outcome.offsets).items():
            self._commit(stream.handler, position, offset)

    async def _idle(self) -> None:
        for place, stream in enumerate(self._streams):
            for unit in self._units(stream):
                await self._own(place, stream, unit)
                outcome = await stream.processor.idle(unit)
                if outcome is not None:
                    self._apply(place, stream, unit, (), outcome, ())
