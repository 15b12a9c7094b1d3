"""`Bus` on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Self

from services.common.bus.api import Event, Follow, Record, Stream, Subscription, Topic
from services.common.bus.cloudevents import Raw
from services.common.bus.connection import silence_noise
from services.common.bus.deadletter import Write
from services.common.bus.followed import FollowedTopic
from services.common.bus.lifecycle import carry
from services.common.bus.producing import Publisher, one_writer
from services.common.bus.reading import read_topic
from services.common.bus.shared import SharedConsumer
from services.common.bus.streamed import StreamRunner
from services.common.errors import Unavailable
from services.common.settings import CommonSettings
from services.common.telemetry import log

DRAIN_S: Final = 9.5
PROBE_S: Final = 2.0


class KafkaBus:
    """The bus of one service instance."""

    def __init__(self, settings: CommonSettings, service: str) -> None:
        """Nothing is connected before it is entered."""
        self._settings = settings
        self._service = service
        self._publisher = Publisher(settings.kafka, service)
        self._listeners: list[SharedConsumer | FollowedTopic | StreamRunner] = []
        silence_noise()

    async def __aenter__(self) -> Self:
        """Connect, if the broker answers; if not, `run` and `publish` keep trying and `waiting_for` says so."""
        try:
            await self._publisher.start()
        except Unavailable as error:
            log.warning("kafka_away", error=str(error))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Send what is under way and disconnect."""
        await self._publisher.stop()

    def subscribe(self, subscription: Subscription[Any]) -> None:
        """Listen as one of a group."""
        self._listeners.append(SharedConsumer(self._settings, self._service, subscription, self._publisher))

    def follow(self, follow: Follow[Any]) -> None:
        """Listen to everything from the beginning."""
        self._listeners.append(FollowedTopic(self._settings, self._service, follow))

    def stream(self, stream: Stream) -> None:
        """Listen, and write in the same transaction."""
        self._listeners.append(StreamRunner(self._settings, self._service, stream, self))

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        """Return when the broker has them all. Raises `Unavailable`."""
        await self._publisher.publish(events)

    async def publish_raw(self, records: Sequence[Raw]) -> None:
        """Records as they are; for dead letters."""
        await self._publisher.publish_raw(records)

    def one_writer(self, name: str) -> AbstractAsyncContextManager[Write]:
        """Write records in transactions, as the only one of that name."""
        return one_writer(self._settings.kafka, name)

    async def partitions(self, topic: Topic[Any]) -> int:
        """How many partitions the topic has here. Raises `Unavailable`."""
        return await self._publisher.partitions(topic.name)

    async def read(self, topic: Topic[Any], partition: int, *, last: int | None = None) -> Sequence[Record]:
        """The committed records of a partition. Raises `Unavailable`."""
        return await read_topic(self._settings.kafka, self._service, topic.name, partition, last)

    async def read_named(self, name: str) -> Sequence[Record]:
        """Every committed record of a topic, partition by partition; none when there is no such topic."""
        return await read_topic(self._settings.kafka, self._service, name, None, None)

    async def run(self) -> None:
        """Listen until cancelled: then finish what is in hand, commit, and leave the groups."""
        await carry([self._keep_connected(), *(listener.run() for listener in self._listeners)], DRAIN_S)

    def waiting_for(self) -> str:
        """What still keeps the bus from being ready."""
        reasons = (one.waiting_for() for one in (self._publisher, *self._listeners))
        return "; ".join(dict.fromkeys(reason for reason in reasons if reason))

    async def _keep_connected(self) -> None:
        while True:
            await self._publisher.probe()
            await asyncio.sleep(PROBE_S)
