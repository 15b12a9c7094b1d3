"""Publishing: one idempotent producer a process, built anew when the broker leaves it in a state that does not pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.common.bus.api import Event
from services.common.bus.cloudevents import Headers, headers_of, partition_of
from services.common.bus.connection import BROKER_ERRORS, make_producer
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings
from services.common.telemetry import log

Raw = tuple[str, bytes | None, bytes, Headers]
"""Topic, key, value, headers."""


class Publisher:
    """Sends events and raw records, and returns when all are acknowledged."""

    def __init__(self, settings: KafkaSettings, service: str) -> None:
        self._settings = settings
        self._service = service
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        await self._started()

    async def stop(self) -> None:
        """Send what is under way and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """All of them, acknowledged. Raises `Unavailable`; what was sent before may come twice, by the same ce_id."""
        producer = await self._started()
        await self._send(producer, [await encoded(producer, event, self._service) for event in events])

    async def publish_raw(self, records: Sequence[Raw]) -> None:
        """Records as they are, into the partition that their key hashes to (the first without a key)."""
        producer = await self._started()
        parts = []
        for topic, key, value, headers in records:
            count = len(await producer.partitions_for(topic))
            partition = partition_of(key.decode(errors="replace"), count) if key else 0
            parts.append((topic, partition, key, value, headers))
        await self._send(producer, parts)

    async def _send(self, producer: AIOKafkaProducer, parts: Sequence[tuple[Any, ...]]) -> None:
        try:
            waits = [
                await producer.send(topic, value, key=key, partition=partition, headers=headers)
                for topic, partition, key, value, headers in parts
            ]
            results = await asyncio.gather(*waits, return_exceptions=True)
        except BROKER_ERRORS as error:
            await self._give_up(producer, error)
            raise Unavailable(f"Kafka does not take messages: {error!r}", reason="KAFKA_AWAY") from error
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is not None:
            await self._give_up(producer, failed)
            raise Unavailable(f"Kafka does not take messages: {failed!r}", reason="KAFKA_AWAY") from failed

    async def _started(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = make_producer(self._settings, f"irisloop-{self._service}", linger_ms=1)
                await start(producer)
                self._producer = producer
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """The next publish connects anew: after some errors this producer would refuse for ever."""
        log.warning("producer_renewed", error=repr(error))
        if self._producer is producer:
            self._producer = None
        await quietly_stop(producer)


async def encoded(producer: AIOKafkaProducer, event: Event[Any], service: str) -> tuple[Any, ...]:
    """(topic, partition, key, value, headers) of an event."""
    partition = event.partition
    if partition is None:
        try:
            partition = partition_of(event.key, len(await producer.partitions_for(event.topic.name)))
        except BROKER_ERRORS as error:
            raise Unavailable(f"Kafka does not answer: {error!r}", reason="KAFKA_AWAY") from error
    headers = headers_of(event, f"/irisloop/{service}")
    return event.topic.name, partition, event.key.encode(), event.value.SerializeToString(), headers


async def start(client: Any) -> None:
    """Start a producer or consumer. Raises `Unavailable`, leaving nothing open."""
    try:
        await client.start()
    except BROKER_ERRORS as error:
        await quietly_stop(client)
        raise Unavailable(f"Kafka does not answer: {error}", reason="KAFKA_AWAY") from error
    except BaseException:
        await quietly_stop(client)
        raise


async def quietly_stop(client: Any) -> None:
    """Close what may be broken already."""
    try:
        await asyncio.wait_for(client.stop(), 5.0)
    except (KafkaError, OSError, TimeoutError, RuntimeError) as error:
        log.info("client_closed_badly", error=repr(error))
