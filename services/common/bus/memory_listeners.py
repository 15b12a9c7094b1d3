"""The three ways to listen, in memory: each step takes what is there, as Kafka's listeners would."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from services.common.bus.api import Delivery, Follow, Outcome, Position, Record, Stream, Subscription
from services.common.bus.cloudevents import Raw, decode
from services.common.bus.deadletter import letter_of
from services.common.bus.producing import raw_of
from services.common.bus.suspects import Progress, Suspects
from services.common.bus.work import Stopped, Worker, happens, in_hand, note_refusal, rest
from services.common.errors import IrisloopError
from services.common.telemetry import log

if TYPE_CHECKING:
    from services.common.bus.memory import MemoryBroker, MemoryBus

RETRY_S: Final = 0.01
_BROKER_TIME: Final = attrgetter("timestamp")


class Listener(ABC):
    """What the three have in common: woken by the broker, ended between two steps."""

    def __init__(self, broker: MemoryBroker, service: str, handler: str) -> None:
        """The listener takes part once it runs."""
        self.broker = broker
        self.service = service
        self.handler = handler
        self.group = f"irisloop.{service}.{handler}"
        self.stopping = asyncio.Event()

    @abstractmethod
    async def step(self) -> bool:
        """Take what is there; whether there was any."""

    async def idle(self) -> None:
        """Nothing arrived: most listeners do nothing then."""
        return

    async def leave(self) -> None:
        """Give up what the listener held: most hold nothing."""
        return

    async def run(self, idle_s: float) -> None:
        """Step until cancelled; the step in hand is finished."""
        woken = asyncio.Event()
        self.stopping.clear()
        self.broker.listening.add(woken)
        self.broker.join(self.group, self)
        try:
            while True:
                woken.clear()
                if await self._finish(self.step()):
                    continue
                if not await happens(woken, idle_s):
                    await self._finish(self.idle())
        except Stopped:
            return
        finally:
            self.broker.listening.discard(woken)
            self.broker.leave(self.group, self)
            await self.leave()

    async def _finish(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.stopping.set()
            await asyncio.wait([task])
            raise


class MemorySubscription(Listener):
    """`shared`: the listeners of a group that run divide the partitions."""

    def __init__(self, broker: MemoryBroker, service: str, subscription: Subscription[Any]) -> None:
        """One worker a partition."""
        super().__init__(broker, service, subscription.handler)
        self._subscription = subscription
        self._partitions = range(broker.partitions(subscription.topic.name))
        self._workers = [self._worker() for _ in self._partitions]

    def _worker(self) -> Worker:
        subscription, topic = self._subscription, self._subscription.topic
        decoder = subscription.decode or (lambda record: decode(record, topic))

        async def keep(record: Record, error: Exception) -> None:
            self.broker.append(letter_of(record, self.service, self.handler, error))

        return Worker(self.service, self.handler, subscription.handle, decoder, keep, self.stopping)

    def waiting_for(self) -> str:
        """Empty while no batch waits for a next try."""
        return next((worker.waiting for worker in self._workers if worker.waiting), "")

    async def step(self) -> bool:
        """A batch of each partition, side by side."""
        return any(await asyncio.gather(*(self._one(partition) for partition in self._partitions)))

    async def _one(self, partition: int) -> bool:
        topic = self._subscription.topic.name
        async with self.broker.locks[self.group, topic, partition]:
            if not self.broker.owns(self.group, self, partition):
                return False
            offset = self.broker.committed[self.group, topic, partition]
            records = self.broker.logs[topic, partition][offset : offset + self._subscription.max_batch]
            if records:
                await self._workers[partition].work(records)
                self.broker.committed[self.group, topic, partition] = records[-1].offset + 1
            return bool(records)


class MemoryFollow(Listener):
    """`every-instance`: everything, from the beginning, for this listener alone."""

    def __init__(self, broker: MemoryBroker, service: str, follow: Follow[Any]) -> None:
        """What is there now has to be handled before it is ready."""
        super().__init__(broker, service, f"{follow.handler}#{id(self)}")
        self._follow = follow
        self._positions: dict[int, int] = defaultdict(int)
        self._ends: dict[int, int] | None = None
        topic = follow.topic
        self._worker = Worker(
            service, follow.handler, follow.handle, lambda record: decode(record, topic), self._pass_over, self.stopping
        )

    async def _pass_over(self, record: Record, error: Exception) -> None:
        log.error("followed_record_passed_over", topic=record.topic, offset=record.offset, error=str(error))

    def waiting_for(self) -> str:
        """Empty once everything that was there at the start has been handled."""
        behind = self._ends is None or any(self._positions[number] < end for number, end in self._ends.items())
        return f"{self._follow.topic.name} to be read to its end" if behind else self._worker.waiting

    async def step(self) -> bool:
        """A batch of each partition."""
        topic, found = self._follow.topic.name, False
        numbers = range(self.broker.partitions(topic))
        if self._ends is None:
            self._ends = {number: len(self.broker.logs[topic, number]) for number in numbers}
        for number in numbers:
            offset = self._positions[number]
            records = self.broker.logs[topic, number][offset : offset + self._follow.max_batch]
            if records:
                found = True
                await self._worker.work(records)
                self._positions[number] = records[-1].offset + 1
        return found


class MemoryStream(Listener):
    """`stream`: what a step says, its dead letters and its offsets appear in one moment, or not at all."""

    def __init__(self, broker: MemoryBroker, service: str, stream: Stream, bus: MemoryBus) -> None:
        """`bus` is what a processor restores itself from."""
        super().__init__(broker, service, stream.handler)
        self._stream = stream
        self._bus = bus
        self._topics = {topic.name: topic for topic in stream.topics}
        self._units = self._divided()
        self._held: dict[int, tuple[int, Progress, dict[Position, int]]] = {}
        self._suspects: dict[int, Suspects] = defaultdict(Suspects)
        self._trouble = ""

    def _divided(self) -> dict[int, list[Position]]:
        every = [(name, number) for name in self._topics for number in range(self.broker.partitions(name))]
        units: dict[int, list[Position]] = defaultdict(list)
        for name, number in every:
            units[number if self._stream.scope == "partition" else 0].append((name, number))
        return units

    def waiting_for(self) -> str:
        """Empty once the units of this listener are restored."""
        if any(self._mine(unit) and unit not in self._held for unit in self._units):
            return self._trouble or f"{self.handler} to be restored"
        return self._trouble

    def _mine(self, unit: int) -> bool:
        return self.broker.owns(self.group, self, unit if self._stream.scope == "partition" else None)

    async def step(self) -> bool:
        """A batch of each unit."""
        found = [await self._one(unit) for unit in self._units]
        return any(found)

    async def idle(self) -> None:
        """Nothing arrived: each unit may have something to write."""
        for unit in self._units:
            async with self._lock(unit):
                if await self._own(unit):
                    await self._tried(unit, [], idle=True)

    async def leave(self) -> None:
        """The units go to whoever is left."""
        for unit in list(self._held):
            await self._release(unit)

    def _lock(self, unit: int) -> asyncio.Lock:
        return self.broker.locks[self.group, "unit", unit]

    async def _one(self, unit: int) -> bool:
        async with self._lock(unit):
            if not await self._own(unit):
                return False
            _, _, places = self._held[unit]
            most = self._suspects[unit].limit(self._stream.max_batch)
            logs = [self.broker.logs[position][offset : offset + most] for position, offset in places.items()]
            records = list(islice(merge(*logs, key=_BROKER_TIME), most))
            return await self._tried(unit, records) if records else False

    async def _own(self, unit: int) -> bool:
        """Whether the unit is this listener's; restored when it is new, released when it is gone."""
        name = f"{self.service}.{self.handler}.{unit}"
        if unit in self._held and (not self._mine(unit) or self._held[unit][0] != self.broker.epochs[name]):
            await self._release(unit)
            return False
        if not self._mine(unit):
            return False
        if unit not in self._held:
            self.broker.epochs[name] += 1
            places = {p: self.broker.committed[(self.group, *p)] for p in self._units[unit]}
            await self._stream.processor.restore(unit, self._bus)
            self._held[unit] = (self.broker.epochs[name], Progress(), places)
            self._trouble = ""
        return True

    async def _release(self, unit: int) -> None:
        del self._held[unit]
        await self._stream.processor.release(unit)

    async def _tried(self, unit: int, records: Sequence[Record], *, idle: bool = False) -> bool:
        deliveries: list[Delivery[Any]] = []
        try:
            if idle:
                outcome = await self._stream.processor.idle(unit)
                if outcome is not None:
                    self._commit(unit, records, outcome, [raw_of(event, self.service) for event in outcome.events])
                return True
            deliveries, refused = self._suspects[unit].sort(records, self._decode, self.service, self.handler)
            outcome, raws = await self._process(unit, deliveries)
            for record, error in refused:
                note_refusal(record, self.handler, error)
                raws.append(letter_of(record, self.service, self.handler, error))
            self._commit(unit, records, outcome, raws)
            self._suspects[unit].passed(records, refused)
        except Exception as error:
            await self._undone(unit, deliveries, error)
        return True

    async def _undone(self, unit: int, deliveries: Sequence[Delivery[Any]], error: Exception) -> None:
        """Nothing of the step is visible: the unit is restored before the same records come again."""
        broken = None if isinstance(error, IrisloopError) else error
        log.warning("step_undone", handler=self.handler, unit=unit, error=repr(error), exc_info=broken)
        self._suspects[unit].blame(deliveries, error)
        self._held.pop(unit, None)
        self._trouble = f"{self.handler}: {error}"
        await rest(RETRY_S, self.stopping)

    def _decode(self, record: Record) -> Delivery[Any]:
        decoder = self._stream.decode.get(record.topic)
        return decoder(record) if decoder is not None else decode(record, self._topics[record.topic])

    async def _process(self, unit: int, deliveries: Sequence[Delivery[Any]]) -> tuple[Outcome, list[Raw]]:
        if not deliveries:
            return Outcome((), {} if self._held[unit][1].held else None), []
        with in_hand(self.service, self.handler, deliveries) as traced:
            outcome = await self._stream.processor.process(unit, traced)
            return outcome, [raw_of(event, self.service) for event in outcome.events]

    def _commit(self, unit: int, records: Sequence[Record], outcome: Outcome, raws: Sequence[Raw]) -> None:
        """In one moment; not at all when a later owner has fenced this one."""
        epoch, progress, places = self._held[unit]
        if self.broker.epochs[f"{self.service}.{self.handler}.{unit}"] != epoch:
            return
        progress.note(records)
        for record in records:
            places[record.topic, record.partition] = record.offset + 1
        for position, offset in progress.settle(outcome).items():
            self.broker.committed[(self.group, *position)] = offset
        for raw in raws:
            self.broker.append(raw)
