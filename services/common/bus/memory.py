"""The bus in one process, for tests: the same contract as Kafka, no broker, no clock of its own.

A `MemoryBroker` holds the logs and the groups' offsets, as a broker would: a `MemoryBus` may be left and another one
entered on the same broker, and goes on where the first one stopped. Nothing a user runs uses it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from services.common.bus.api import Delivery, Event, Follow, Position, Record, Stream, Subscription, Topic
from services.common.bus.cloudevents import Headers, Raw, decode, partition_of
from services.common.bus.deadletter import Write
from services.common.bus.lifecycle import carry
from services.common.bus.memory_listeners import MemoryFollow, MemoryStream, MemorySubscription
from services.common.bus.producing import raw_of
from services.common.errors import Conflict

M = TypeVar("M", bound=Message)

CAMERA_PARTITIONS = 6
IDLE_S = 1.0
DRAIN_S = 9.5


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class MemoryBroker:
    """Logs by (topic, partition), committed offsets by (group, topic, partition), who listens, who may write."""

    clock: Callable[[], datetime] = _now
    logs: dict[Position, list[Record]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[tuple[str, str, int], int] = field(default_factory=lambda: defaultdict(int))
    epochs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    members: dict[str, list[object]] = field(default_factory=lambda: defaultdict(list))
    locks: dict[tuple[str, str, int], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    arrivals: list[Record] = field(default_factory=list)
    """Every record, in the order of arrival."""
    listening: set[asyncio.Event] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    """Partitions of topics that `proto/topics.yaml` does not declare; 1 where nothing is said."""

    def append(self, raw: Raw) -> None:
        """One record, at the end of its partition."""
        partition = raw.partition
        if partition is None:
            partition = partition_of(raw.key.decode(errors="replace"), self.partitions(raw.topic)) if raw.key else 0
        log = self.logs[raw.topic, partition]
        log.append(Record(raw.topic, partition, len(log), self.clock(), raw.key, raw.value, tuple(raw.headers)))
        self.arrivals.append(log[-1])
        self.wake()

    def partitions(self, name: str) -> int:
        """How many partitions a topic has here."""
        from irisloop.topics import TOPICS

        if name in self.counts:
            return self.counts[name]
        declared = next((topic.partitions for topic in TOPICS if topic.name == name), 1)
        return declared or CAMERA_PARTITIONS

    def wake(self) -> None:
        """Whoever listens looks again."""
        for event in self.listening:
            event.set()

    def join(self, group: str, member: object) -> None:
        """A listener that runs takes part in dividing the partitions."""
        self.members[group].append(member)
        self.wake()

    def leave(self, group: str, member: object) -> None:
        """It does no more."""
        self.members[group].remove(member)
        self.wake()

    def owns(self, group: str, member: object, number: int | None) -> bool:
        """Whether a member has that partition number (None: everything); without members whoever asks has it."""
        members = self.members[group]
        return not members or members[(number or 0) % len(members)] is member


class MemoryBus:
    """`Bus` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker | None = None, *, service: str = "test") -> None:
        """Buses on one broker hear each other."""
        self.broker = broker or MemoryBroker()
        self.service = service
        self._listeners: list[MemorySubscription | MemoryFollow | MemoryStream] = []

    async def __aenter__(self) -> Self:
        """Nothing to connect to."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to leave."""

    def subscribe(self, subscription: Subscription[Any]) -> None:
        """Listen as one of a group."""
        self._listeners.append(MemorySubscription(self.broker, self.service, subscription))

    def follow(self, follow: Follow[Any]) -> None:
        """Listen to everything from the beginning."""
        self._listeners.append(MemoryFollow(self.broker, self.service, follow))

    def stream(self, stream: Stream) -> None:
        """Listen, and write in the same transaction."""
        self._listeners.append(MemoryStream(self.broker, self.service, stream, self))

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """All are in the log on return. Raises `InvalidMessage` for one that is too large."""
        await self.publish_raw([raw_of(event, self.service) for event in events])

    async def publish_raw(self, records: Sequence[Raw]) -> None:
        """Records as they are."""
        for raw in records:
            self.broker.append(raw)

    @asynccontextmanager
    async def one_writer(self, name: str) -> AsyncIterator[Write]:
        """Write as the only one of that name; `Conflict` for whoever began before."""
        self.broker.epochs[name] += 1
        epoch = self.broker.epochs[name]

        async def write(raws: Sequence[Raw]) -> None:
            if self.broker.epochs[name] != epoch:
                raise Conflict(f"another {name} began meanwhile", reason="FENCED")
            await self.publish_raw(raws)

        yield write

    async def partitions(self, topic: Topic[Any]) -> int:
        """How many partitions the topic has."""
        return self.broker.partitions(topic.name)

    async def read(self, topic: Topic[Any], partition: int, *, last: int | None = None) -> Sequence[Record]:
        """The records of a partition."""
        records = self.broker.logs[topic.name, partition]
        return list(records if last is None else records[max(0, len(records) - last) :])

    async def read_named(self, name: str) -> Sequence[Record]:
        """Every record of a topic, partition by partition."""
        return [record for (topic, _), log in sorted(self.broker.logs.items()) if topic == name for record in log]

    def waiting_for(self) -> str:
        """What still keeps the bus from being ready."""
        return "; ".join(dict.fromkeys(words for one in self._listeners if (words := one.waiting_for())))

    async def run(self) -> None:
        """Listen until cancelled, then finish what is in hand."""
        await carry([listener.run(IDLE_S) for listener in self._listeners], DRAIN_S)

    async def settle(self) -> None:
        """Deliver until nothing is left to deliver, then a moment of silence; for tests that do not `run`."""
        while any([await listener.step() for listener in self._listeners]):
            pass
        for listener in self._listeners:
            await listener.idle()

    # ---- what a test sees and sends ----

    def send(
        self, topic: Topic[Any], value: bytes, *, key: bytes | None = None, headers: Headers | None = None
    ) -> None:
        """Append a record as a client of any make would."""
        self.broker.append(Raw(topic.name, key, value, headers or []))

    def events(self, topic: Topic[M]) -> list[Delivery[M]]:
        """Everything published on a topic, in the order of arrival."""
        return [decode(record, topic) for record in self.broker.arrivals if record.topic == topic.name]

    def dead_letters(self, topic: Topic[Any], service: str = "") -> list[Record]:
        """The dead letters that a service left of a topic."""
        name = f"{topic.name}.{service or self.service}.dlq"
        return [record for record in self.broker.arrivals if record.topic == name]
