"""Publishing: one idempotent producer a process, built anew when the broker leaves it in a state that does not pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder

from services.common.bus.api import Event
from services.common.bus.cloudevents import Raw, headers_of, partition_of
from services.common.bus.connection import BROKER_ERRORS, ENVELOPE_BYTES, close, hear_out, make_producer, start
from services.common.bus.deadletter import Write
from services.common.errors import Conflict, InvalidMessage, Unavailable
from services.common.metrics import BUS_PUBLISHED, BUS_RENEWALS
from services.common.settings import KafkaSettings
from services.common.telemetry import log

SLOW_S: Final = 3.0
"""An acknowledgement that takes longer is said by `waiting_for`."""
CONNECT_S: Final = 10.0


def raw_of(event: Event[Any], service: str) -> Raw:
    """An event as it travels. Raises `InvalidMessage` when it is larger than its topic takes."""
    value = event.value.SerializeToString()
    if len(value) > event.topic.max_message_bytes + ENVELOPE_BYTES // 32:
        raise InvalidMessage(
            f"an event of {len(value)} bytes is larger than {event.topic.name} takes ({event.topic.max_message_bytes})",
            field="value",
            reason="TOO_LARGE",
        )
    return Raw(event.topic.name, event.key.encode(), value, headers_of(event, f"/irisloop/{service}"), event.partition)


async def send_all(producer: AIOKafkaProducer, raws: Iterable[Raw]) -> list[asyncio.Future[Any]]:
    """Hand records to a producer, in order for each partition; the futures are done when the broker has them.

    Batches are built here: the client's own way, a future and a look at the metadata for each record, takes ten times
    as long.
    """
    futures: list[asyncio.Future[Any]] = []
    counts: dict[str, int] = {}
    open_batches: dict[tuple[str, int], BatchBuilder] = {}
    try:
        for raw in raws:
            place = raw.topic, await _partition(producer, raw, counts)
            batch = open_batches.get(place)
            if batch is None or not _added(batch, raw):
                if batch is not None:
                    futures.append(await _send(producer, batch, place))
                batch = open_batches[place] = producer.create_batch()
                _added(batch, raw)
        for place, batch in open_batches.items():
            futures.append(await _send(producer, batch, place))
    except BaseException:
        for future in futures:
            future.add_done_callback(hear_out)
        raise
    return futures


def _added(batch: BatchBuilder, raw: Raw) -> bool:
    """Whether there was room; in an empty batch there is for any record."""
    return batch.append(timestamp=None, key=raw.key, value=raw.value, headers=raw.headers) is not None


async def _partition(producer: AIOKafkaProducer, raw: Raw, counts: dict[str, int]) -> int:
    if raw.partition is not None:
        return raw.partition
    if not raw.key:
        return 0
    count = counts.get(raw.topic)
    if count is None:
        count = counts[raw.topic] = len(await producer.partitions_for(raw.topic))
    return partition_of(raw.key.decode(errors="replace"), count)


async def _send(producer: AIOKafkaProducer, batch: BatchBuilder, place: tuple[str, int]) -> asyncio.Future[Any]:
    topic, partition = place
    batch.close()
    while True:
        try:
            future: asyncio.Future[Any] = await producer.send_batch(batch, topic, partition=partition)
        except KafkaTimeoutError:
            continue  # it was not taken: the buffer is full while the broker is away
        return future


class Publisher:
    """Sends events and raw records, and returns when all are acknowledged, however long the broker is away."""

    def __init__(self, settings: KafkaSettings, service: str) -> None:
        """Nothing is connected yet."""
        self._settings = settings
        self._service = service
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._pending: dict[object, float] = {}
        self._misses = 0

    def waiting_for(self) -> str:
        """Empty while the broker answers and takes messages."""
        if self._producer is None or self._misses > 1:
            return f"Kafka at {self._settings.bootstrap_servers}"
        slow = any(time.monotonic() - since > SLOW_S for since in self._pending.values())
        return f"Kafka at {self._settings.bootstrap_servers} to take messages" if slow else ""

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        await self._started()

    async def probe(self) -> None:
        """See whether the broker answers; consumers alone would wait for it without a word."""
        answers = False
        with suppress(Unavailable, *BROKER_ERRORS):
            producer = await self._started()
            async with asyncio.timeout(CONNECT_S):
                answers = bool(await producer.client.force_metadata_update())
        self._misses = 0 if answers else self._misses + 1

    async def stop(self) -> None:
        """Send what is under way and disconnect."""
        async with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            await close(producer)

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises `Unavailable`."""
        producer = await self._started()
        try:
            return len(await producer.partitions_for(topic))
        except BROKER_ERRORS as error:
            raise Unavailable(f"Kafka does not know {topic}: {error!r}", reason="KAFKA_AWAY") from error

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """All of them, acknowledged. Raises `Unavailable`; what was sent before may come twice, by the same ce_id."""
        await self.publish_raw([raw_of(event, self._service) for event in events])
        BUS_PUBLISHED.inc(len(events))

    async def publish_raw(self, raws: Sequence[Raw]) -> None:
        """Records as they are. Raises `Unavailable`."""
        if not raws:
            return
        token = object()
        self._pending[token] = time.monotonic()
        try:
            producer = await self._started()
            await self._acknowledged(producer, raws)
        finally:
            del self._pending[token]

    async def _acknowledged(self, producer: AIOKafkaProducer, raws: Sequence[Raw]) -> None:
        failure: BaseException | None = None
        try:
            futures = await send_all(producer, raws)
            results = await asyncio.gather(*futures, return_exceptions=True)
            failure = next((result for result in results if isinstance(result, BaseException)), None)
        except BROKER_ERRORS as error:
            failure = error
        if failure is not None:
            await self._give_up(producer, failure)
            raise Unavailable(f"Kafka does not take messages: {failure!r}", reason="KAFKA_AWAY") from failure

    async def _started(self) -> AIOKafkaProducer:
        producer = self._producer
        if producer is not None:
            return producer
        async with self._lock:
            if self._producer is None:
                producer = make_producer(self._settings, f"irisloop-{self._service}")
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await start(producer)
                except TimeoutError as error:
                    raise Unavailable(
                        f"Kafka at {self._settings.bootstrap_servers} does not answer", reason="KAFKA_AWAY"
                    ) from error
                self._producer = producer
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """The next publish connects anew: a failed batch leaves a gap that the broker would refuse for ever."""
        if self._producer is producer:
            self._producer = None
            BUS_RENEWALS.labels("producer").inc()
            log.warning("producer_renewed", error=repr(error))
            await close(producer, patience_s=0.0)


@asynccontextmanager
async def one_writer(settings: KafkaSettings, name: str) -> AsyncIterator[Write]:
    """Write records in transactions, as the only one of that name: whoever began before is fenced.

    Raises `Conflict` when another one began meanwhile, `Unavailable` when the broker is away.
    """
    producer = make_producer(settings, name, transactional_id=name, retry_backoff_ms=5)
    async with asyncio.timeout(CONNECT_S):
        await start(producer)

    async def write(raws: Sequence[Raw]) -> None:
        async with producer.transaction():
            await asyncio.gather(*await send_all(producer, raws))

    try:
        yield write
    except ProducerFenced as error:
        raise Conflict(f"another {name} began meanwhile", reason="FENCED") from error
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka does not take messages: {error!r}", reason="KAFKA_AWAY") from error
    finally:
        await close(producer)
