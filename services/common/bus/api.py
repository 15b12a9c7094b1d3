"""The words in which services speak to the bus: topics, events, deliveries, and the three ways to listen.

`KafkaBus` and `MemoryBus` implement `Bus`; one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from google.protobuf.message import Message

PROTOBUF: Final = "application/protobuf"
ORIGIN_TIME: Final = "irisloop-origin-time"
"""Header of a dead letter and of its replay: the broker's time of the original."""

M = TypeVar("M", bound=Message)


Mode: TypeAlias = Literal["shared", "every-instance", "stream"]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who listens to a topic: the group is `irisloop.<service>.<handler>`; `every-instance` has no group."""

    service: str
    handler: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Topic(Generic[M]):
    """One line of `proto/topics.yaml`; the constants stand in `irisloop.topics`.

    `retention_ms` and `retention_bytes` are -1 for unlimited (bytes count per partition); `max_message_bytes` is the
    largest record the topic takes; `key` is the path of the message's field that is the record's key; `partitions` is 0
    where the deployment decides (topics keyed by camera); `log_append_time` has the broker stamp arrival, whatever the
    producer says.
    """

    name: str
    message: type[M]
    key: str
    producer: str
    consumers: tuple[Consumer, ...]
    partitions: int
    retention_ms: int
    retention_bytes: int
    compacted: bool
    max_message_bytes: int
    log_append_time: bool


@dataclass(frozen=True, slots=True)
class Event(Generic[M]):
    """A fact to publish.

    `ce_id` identifies the fact: the same fact said again bears the same id. `ce_time` is the time of its cause (aware,
    UTC). `partition` is chosen by the key (murmur2 of the key without a leading `camera/`) when None. `traceparent`
    (W3C) is inherited from the delivery being handled when empty.
    """

    topic: Topic[M]
    key: str
    value: M
    ce_id: str
    ce_time: datetime
    traceparent: str = ""
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the broker holds it, undecoded; `timestamp` is the broker's, aware, UTC."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> bytes | None:
        """The first header of that name, or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def first_seen(self) -> datetime:
        """The broker's time of the record; of a replayed dead letter, that of its origin."""
        origin = self.header(ORIGIN_TIME)
        with suppress(ValueError):  # anybody may send a header of that name
            if origin and (at := datetime.fromisoformat(origin.decode())).tzinfo is not None:
                return at
        return self.timestamp


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """A decoded event and where it came from."""

    record: Record
    key: str
    value: M
    ce_id: str
    ce_time: datetime
    ce_source: str
    traceparent: str


BatchHandler: TypeAlias = Callable[[Sequence[Delivery[M]]], Awaitable[None]]
"""Takes the decoded records of one partition, in order; batches of different partitions run concurrently.

It returns when the effect is durable: offsets are committed after it. Raising `PoisonedDelivery` dead-letters that one
delivery and hands the others in again; `Transient` retries the whole batch with back-off; any other error retries a
few times, then each delivery alone, and dead-letters the ones that still fail. So a handler must be idempotent.
"""

Decoder: TypeAlias = Callable[[Record], Delivery[M]]
"""Turns a record into a delivery, or raises `InvalidMessage` (the record becomes a dead letter)."""


@dataclass(frozen=True, slots=True)
class Subscription(Generic[M]):
    """`shared`: the instances of a service divide the partitions among them; group `irisloop.<service>.<handler>`.

    `linger_ms`: how long the broker may hold records back to make a batch of them, for handlers nobody waits for.

    `gap_advice`: what a person can do, in a sentence, when retention has removed records that were not read. Then a
    partition with such a gap is not read on, and the bus is not ready; without advice the gap is passed over, said and
    counted.
    """

    topic: Topic[M]
    handler: str
    handle: BatchHandler[M]
    decode: Decoder[M] | None = None
    max_batch: int = 500
    linger_ms: int = 0
    gap_advice: str = ""


@dataclass(frozen=True, slots=True)
class Follow(Generic[M]):
    """`every-instance`: each instance reads all partitions, from the beginning, without a group.

    The bus is not ready before every record present at the start has been handled.
    """

    topic: Topic[M]
    handler: str
    handle: BatchHandler[M]
    max_batch: int = 500


Position: TypeAlias = tuple[str, int]
"""A topic's name and a partition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step of a stream produced.

    `events` and the consumed offsets become visible in one transaction, or not at all. `offsets` holds the next offset
    to read for each position; None means everything handed in is done.
    """

    events: Sequence[Event[Any]]
    offsets: Mapping[Position, int] | None = None


class StreamProcessor(Protocol):
    """The state and the step of a transactional read-process-write.

    `unit` is the partition number for `scope="partition"` and 0 for `scope="all"`. Calls for one unit never overlap.
    """

    async def restore(self, unit: int, bus: Bus) -> Mapping[Position, int] | None:
        """Called on assignment, after older owners are fenced: rebuild the unit's state from what is committed.

        Returns the offsets up to which that state has heard each position, where it knows: what of them nobody has
        committed is held against what the topics still have.
        """

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        """Take a batch (each partition's records in order); on an error, or when its transaction aborts, the unit is
        restored and the same records come again."""

    async def idle(self, unit: int) -> Outcome | None:
        """Called about once a second while nothing arrives; None when there is nothing to write."""

    async def release(self, unit: int) -> None:
        """The unit went to another instance: forget its state."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Transactional read-process-write, one `transactional.id = <service>.<handler>.<unit>` a unit.

    `scope="partition"`: instances divide the partition numbers; all `topics` are co-partitioned. `scope="all"`: one
    active instance reads every partition of every topic; a later instance fences the earlier one. `gap_advice` as for a
    `Subscription`; a gap in one position keeps its whole unit from working.
    """

    topics: tuple[Topic[Any], ...]
    handler: str
    processor: StreamProcessor
    scope: Literal["partition", "all"] = "partition"
    max_batch: int = 500
    linger_ms: int = 0
    gap_advice: str = ""
    decode: Mapping[str, Decoder[Any]] = field(default_factory=dict)


class Bus(Protocol):
    """A bus as a service sees it. Listeners are declared before `run`; `publish` works from `__aenter__` on."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def subscribe(self, subscription: Subscription[Any]) -> None: ...

    def follow(self, follow: Follow[Any]) -> None: ...

    def stream(self, stream: Stream) -> None: ...

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """Return when all are acknowledged by the broker, in order for each key. Raises `Unavailable`."""

    async def read(self, topic: Topic[Any], partition: int, *, last: int | None = None) -> Sequence[Record]:
        """The committed records of a partition from its beginning, or its `last` so many, up to the end at the call."""

    async def run(self) -> None:
        """Listen until cancelled: then finish what is in hand, commit, and leave the groups."""

    def waiting_for(self) -> str:
        """What still keeps the bus from being ready, in words; empty when it is ready."""
