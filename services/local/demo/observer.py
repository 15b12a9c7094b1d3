"""Reads the topics as any consumer outside could: read_committed, from the beginning, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from irisloop.topics import (
    ALERT_RAISED,
    ALIAS_MOVED,
    ASSET_STORED,
    DATASET_VERSION_CREATED,
    DRIFT_DETECTED,
    FRAME_REJECTED,
    PREDICTION_MADE,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
    RUN_FINISHED,
    RUN_PROGRESSED,
    RUN_WAITING,
    VERSION_JUDGED,
)

from services.common.bus import Topic
from services.local.demo.journal import Journal

READ: Final[tuple[Topic[Any], ...]] = (
    ASSET_STORED,
    FRAME_REJECTED,
    PREDICTION_MADE,
    DATASET_VERSION_CREATED,
    RUN_WAITING,
    RUN_PROGRESSED,
    RUN_FINISHED,
    VERSION_JUDGED,
    ALIAS_MOVED,
    DRIFT_DETECTED,
    ALERT_RAISED,
    RETRAIN_REQUESTED,
    RETRAIN_DECLINED,
)


@dataclass(slots=True)
class Observer:
    """Feeds the journal and wakes whoever waits for something to have been seen."""

    bootstrap: str
    journal: Journal
    seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        """Read until cancelled. Assets are noted before the predictions that name them, whatever arrives first."""
        topics = {topic.name: topic for topic in READ}
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest",
            enable_auto_commit=False, fetch_max_wait_ms=100,
        )  # fmt: skip
        late: list[tuple[Any, str]] = []
        async with consumer:
            await self._assign(consumer, topics)
            while True:
                batches = await consumer.getmany(timeout_ms=200)
                late = await self._note([record for records in batches.values() for record in records], topics, late)

    async def _assign(self, consumer: AIOKafkaConsumer, topics: dict[str, Topic[Any]]) -> None:
        places = []
        for name in topics:
            while not (partitions := consumer.partitions_for_topic(name)):
                await consumer._client.force_metadata_update()
                consumer._client.add_topic(name)
                await asyncio.sleep(0.1)
            places += [TopicPartition(name, partition) for partition in sorted(partitions)]
        consumer.assign(places)

    async def _note(
        self, records: Sequence[Any], topics: dict[str, Topic[Any]], late: list[tuple[Any, str]]
    ) -> list[tuple[Any, str]]:
        """Note what can be noted; returns predictions whose asset was not seen yet, to be tried again."""
        for record in sorted(records, key=lambda found: found.topic != ASSET_STORED.name):
            message = topics[record.topic].message.FromString(record.value)
            ce_id = dict(record.headers).get("ce_id", b"").decode()
            if record.topic == PREDICTION_MADE.name:
                late.append((message, ce_id))
            else:
                self.journal.note(message, ce_id)
        again = []
        for message, ce_id in late:
            if message.prediction.asset_id and message.prediction.asset_id not in self.journal.truth.asset:
                again.append((message, ce_id))
            else:
                self.journal.note(message, ce_id)
        async with self.seen:
            self.seen.notify_all()
        return again[-20_000:]

    async def wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Return once the journal meets the condition; raises `TimeoutError` that names what did not come."""
        try:
            async with asyncio.timeout(seconds), self.seen:
                await self.seen.wait_for(condition)
        except TimeoutError:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s") from None
