"""How far each consumer group is behind, read from the broker; nobody has to be asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from aiokafka import TopicPartition

from services.common.bus.api import Consumer
from services.common.settings import CommonSettings

TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One group on one topic; `lag` is the sum over partitions of end minus committed offset."""

    service: str
    handler: str
    topic: str
    lag: int


def group_of(service: str, handler: str) -> str:
    """Kafka's name of the consumer group."""
    return f"irisloop.{service}.{handler}"


def _handlers(consumer: Consumer, groups: Iterable[str]) -> list[str]:
    """Itself; of a family, as `tell-*`, those that there are."""
    if not consumer.handler.endswith("*"):
        return [consumer.handler]
    before = group_of(consumer.service, "")
    start = before + consumer.handler[:-1]
    return sorted(group.removeprefix(before) for group in groups if group.startswith(start))


class LagReader(AbstractAsyncContextManager["LagReader"]):
    """Reads committed and end offsets; connects at the first question and again after a broker's restart."""

    def __init__(self, bootstrap_servers: str, settings: CommonSettings) -> None:
        """`settings` say how to reach the broker, `bootstrap_servers` where."""
        self._kafka = settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
        self._admin: Any = None
        self._consumer: Any = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._close()

    async def by_service(self) -> dict[str, int]:
        """Messages that each service has not handled yet; {} when the broker does not answer."""
        sums: dict[str, int] = defaultdict(int)
        for group in await self.by_group():
            sums[group.service] += group.lag
        return dict(sums)

    async def by_group(self) -> list[GroupLag]:
        """Every group on every topic that it consumes; [] when the broker does not answer."""
        from aiokafka.errors import KafkaError

        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._connect()
                return await self._read()
        except (KafkaError, OSError):
            await self._close()
            return []

    async def _read(self) -> list[GroupLag]:
        from irisloop.topics import TOPICS

        listed = await self._admin.describe_topics([topic.name for topic in TOPICS])
        partitions = {
            one["topic"]: [TopicPartition(one["topic"], number["partition"]) for number in one["partitions"]]
            for one in listed
        }
        everything = [partition for several in partitions.values() for partition in several]
        ends = await self._consumer.end_offsets(everything)
        begins = await self._consumer.beginning_offsets(everything)
        committed: dict[str, dict[TopicPartition, int]] = {}
        rows = []
        consumers = [(topic, one) for topic in TOPICS for one in topic.consumers if one.mode != "every-instance"]
        groups = {name for name, _ in await self._admin.list_consumer_groups()}
        for topic, consumer in consumers:
            for handler in _handlers(consumer, groups):
                group = group_of(consumer.service, handler)
                offsets = committed[group] if group in committed else await self._committed(group)
                committed[group] = offsets
                lag = sum(ends[p] - max(offsets.get(p, 0), begins[p]) for p in partitions.get(topic.name, ()))
                rows.append(GroupLag(consumer.service, handler, topic.name, max(0, lag)))
        return rows

    async def _committed(self, group: str) -> dict[TopicPartition, int]:
        found = await self._admin.list_consumer_group_offsets(group)
        return {partition: place.offset for partition, place in found.items()}

    async def _connect(self) -> None:
        if self._consumer is not None:
            return
        from aiokafka import AIOKafkaConsumer
        from aiokafka.admin import AIOKafkaAdminClient

        from services.common.bus.connection import common_options

        options = common_options(self._kafka, "irisloop-lag")
        self._admin = AIOKafkaAdminClient(**options)
        await self._admin.start()
        self._consumer = AIOKafkaConsumer(**options)
        await self._consumer.start()

    async def _close(self) -> None:
        clients, self._admin, self._consumer = (self._admin, self._consumer), None, None
        admin, consumer = clients
        with suppress(Exception):  # a client of a dead broker may fail to say good-bye
            if admin is not None:
                await admin.close()
        with suppress(Exception):
            if consumer is not None:
                await consumer.stop()
