"""What retention took before it was handled is said and counted, in both ways of consuming; the rest is handled."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.common.bus import Stream, Subscription
from services.common.metrics import BUS_LOST
from tests.contract.broker import Broker
from tests.contract.houses import AnyBus, Echo, Hearer, KafkaHouse, running, said, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.mark.parametrize("way", ["shared", "stream"])
async def test_what_retention_removed_unheard_is_counted_and_the_rest_is_heard(kafka: Broker, way: str) -> None:
    house = KafkaHouse(kafka)
    topic, out = await house.topic(1), await house.topic(1)
    handler = f"hear-{way}"
    hearer, echo = Hearer(), Echo(out)

    def listening() -> AnyBus:
        bus: Any = house.bus()
        if way == "shared":
            bus.subscribe(Subscription(topic, handler, hearer))
        else:
            bus.stream(Stream((topic,), handler, echo))
        return bus  # type: ignore[no-any-return]

    def heard() -> list[str]:
        return hearer.words if way == "shared" else echo.heard

    async with house.bus("writer") as writer:
        await writer.publish([said(topic, "first")])
        async with running(listening()):
            await until(lambda: heard() == ["first"])
        await writer.publish([said(topic, word) for word in ("second", "third", "fourth")])
        await _remove(kafka, topic.name, before=3)
        async with running(listening()):
            await until(lambda: heard() == ["first", "fourth"])
    assert BUS_LOST.labels(handler)._value.get() == 2


async def _remove(kafka: Broker, topic: str, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.settings().kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
    finally:
        await admin.close()
