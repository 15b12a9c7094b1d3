"""`topics apply` on a real broker: what is declared is made and kept, what operators set besides stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from services.common.bus.topics import Applied, apply, wanted_topics
from services.common.errors import Conflict
from tests.contract.broker import Broker
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

T = TypeVar("T")
FRAMES = "irisloop.ingest.frame.captured.v1"


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[AIOKafkaAdminClient]:
    """An operator at a broker of their own."""
    broker = Broker(tmp_path / "kafka")
    broker.start()
    operator = AIOKafkaAdminClient(bootstrap_servers=broker.settings().kafka.bootstrap_servers)
    operator.settings = broker.settings().kafka
    await operator.start()
    try:
        yield operator
    finally:
        await operator.close()
        broker.kill()


async def _own_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (found,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for entry in found.resources[0][4] if entry[3] == 1}


async def _set(admin: AIOKafkaAdminClient, topic: str, settings: Mapping[str, str]) -> None:
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


async def _until(ask: Callable[[], Awaitable[T]], expected: Callable[[T], bool]) -> T:
    """The broker answers from a copy of its metadata that comes a moment later; fails after a bound."""
    async with asyncio.timeout(PATIENCE_S):
        while not expected(answer := await ask()):
            await asyncio.sleep(0.05)
    return answer


async def test_the_second_time_nothing_is_left_to_do(admin: AIOKafkaAdminClient) -> None:
    first = await apply(admin.settings)
    wanted = {topic.name for topic in wanted_topics()}
    assert sorted(first.created) == sorted(wanted)
    await _until(admin.list_topics, wanted.issubset)
    assert await apply(admin.settings) == Applied([], [], [])


async def test_declared_settings_come_back_and_an_operators_own_stay(admin: AIOKafkaAdminClient) -> None:
    await apply(admin.settings)
    (frames,) = (topic for topic in wanted_topics() if topic.name == FRAMES)
    declared = await _until(lambda: _own_settings(admin, FRAMES), lambda own: frames.config.items() <= own.items())
    await _set(admin, FRAMES, {**declared, "retention.ms": "1000", "segment.bytes": "1048576"})
    await _until(lambda: _own_settings(admin, FRAMES), lambda own: own["retention.ms"] == "1000")
    assert (await apply(admin.settings)).changed == [FRAMES]
    wanted = {**declared, "segment.bytes": "1048576"}
    await _until(lambda: _own_settings(admin, FRAMES), lambda own: own == wanted)


async def test_another_number_of_partitions_is_said_and_left(admin: AIOKafkaAdminClient) -> None:
    await apply(admin.settings)
    await admin.create_partitions({FRAMES: NewPartitions(64)})
    applied = await _until(lambda: apply(admin.settings), lambda applied: bool(applied.warnings))
    (warning,) = applied.warnings
    assert warning.startswith(f"{FRAMES} has 64 partitions")


async def test_a_topic_that_the_broker_refuses_is_named(admin: AIOKafkaAdminClient) -> None:
    await admin.create_topics([NewTopic("other", 1, 1)])
    with pytest.raises(Conflict, match=FRAMES):
        await apply(admin.settings, replication=3)
