"""What retention took before it was handled is said and counted, in both ways of consuming, and the rest is handled; a
listener with advice goes on only when somebody has moved its offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.common.bus import Bus, Delivery, Outcome, Position, Stream, Subscription, Topic
from services.common.bus.handover import take_over
from services.common.metrics import BUS_LOST, BUS_REFUSED
from tests.contract.broker import Broker
from tests.contract.houses import AnyBus, Echo, Hearer, KafkaHouse, running, said
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


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


ADVICE = "Ask somebody."


class Patient(Echo):
    """An echo whose work waits until it may go on; `reached` is what its state has heard."""

    def __init__(self, out: Topic[Any], reached: Mapping[Position, int] | None = None) -> None:
        super().__init__(out)
        self.may_go_on = asyncio.Event()
        self.reached = reached

    async def restore(self, unit: int, bus: Bus) -> Mapping[Position, int] | None:
        await super().restore(unit, bus)
        return self.reached

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        await self.may_go_on.wait()
        return await super().process(unit, batch)


class Ear:
    """A listener with advice, of either way, one record at a time."""

    def __init__(self, house: KafkaHouse, way: str, topic: Topic[Any], out: Topic[Any]) -> None:
        self.handler = f"heed-{way}-{topic.name[-11:-8]}"
        self._house, self._way, self._topic = house, way, topic
        self._echo = Patient(out)
        self._hearer = Hearer(self._wait)

    def let_go(self) -> None:
        self._echo.may_go_on.set()

    async def _wait(self, batch: Sequence[Delivery[Any]]) -> None:
        await self._echo.may_go_on.wait()

    def bus(self) -> AnyBus:
        bus: Any = self._house.bus()
        if self._way == "shared":
            bus.subscribe(Subscription(self._topic, self.handler, self._hearer, max_batch=1, gap_advice=ADVICE))
        else:
            bus.stream(Stream((self._topic,), self.handler, self._echo, max_batch=1, gap_advice=ADVICE))
        return bus  # type: ignore[no-any-return]

    @property
    def heard(self) -> list[str]:
        return [word.strip() for word in (self._hearer.words if self._way == "shared" else self._echo.heard)]

    @property
    def refused(self) -> float:
        return float(BUS_REFUSED.labels(self.handler)._value.get())


@pytest.mark.parametrize("way", ["shared", "stream"])
async def test_a_listener_with_advice_refuses_a_gap_until_its_offset_was_moved(kafka: Broker, way: str) -> None:
    house = KafkaHouse(kafka)
    topic = await house.topic(1)
    ear = Ear(house, way, topic, await house.topic(1))
    ear.let_go()
    async with house.bus("writer") as writer:
        await writer.publish([said(topic, "first")])
        async with running(ear.bus()):
            await until(lambda: ear.heard == ["first"])
        await writer.publish([said(topic, word) for word in ("second", "third", "fourth")])
        await _remove(kafka, topic.name, before=3)
        bus = ear.bus()
        async with running(bus, ready=False):
            await until(lambda: ADVICE in bus.waiting_for())
            assert (
                f"{ear.handler}: {topic.name}/0: offset 1 was to be read next, the oldest there is 3: "
                "up to 2 records are missing. "
            ) in bus.waiting_for()
            assert ear.refused == 2
            await writer.publish([said(topic, "fifth")])
            assert ear.heard == ["first"]
            await take_over(kafka.settings().kafka, "one", ear.handler, 0, [], {(topic.name, 0): 3})
            await until(lambda: ear.heard == ["first", "fourth", "fifth"] and not bus.waiting_for())
    assert ear.refused == 0
    assert BUS_LOST.labels(ear.handler)._value.get() == 0


@pytest.mark.parametrize("way", ["shared", "stream"])
async def test_what_expires_while_a_listener_is_far_behind_is_refused_too(kafka: Broker, way: str) -> None:
    house = KafkaHouse(kafka)
    topic = await house.topic(1)
    ear = Ear(house, way, topic, await house.topic(1))
    large = [said(topic, f"{n}{' ' * 500_000}", key="k", ce_id=f"large-{n}") for n in range(12)]
    bus = ear.bus()
    async with house.bus("writer") as writer, running(bus):
        await writer.publish(large)  # more than is fetched at once
        await _remove(kafka, topic.name, before=11)
        ear.let_go()
        await until(lambda: ADVICE in bus.waiting_for())
        done = len(ear.heard)
        assert ear.heard == [str(n) for n in range(done)]
        assert done < 11
        assert f"offset {done} was to be read next, the oldest there is 11" in bus.waiting_for()
        await take_over(kafka.settings().kafka, "one", ear.handler, 0, [], {(topic.name, 0): 11})
        await until(lambda: ear.heard[done:] == ["11"] and not bus.waiting_for())


async def test_what_a_stream_knows_of_itself_is_held_against_the_topic_when_its_group_was_forgotten(
    kafka: Broker,
) -> None:
    house = KafkaHouse(kafka)
    topic, out = await house.topic(1), await house.topic(1)
    knows, knows_less = Patient(out, {(topic.name, 0): 1}), Patient(out, {(topic.name, 0): 2})
    async with house.bus("writer") as writer:
        await writer.publish([said(topic, word) for word in ("first", "second", "third")])
        await _remove(kafka, topic.name, before=2)
        bus: Any = house.bus()
        bus.stream(Stream((topic,), "recall", knows, gap_advice=ADVICE))
        async with running(bus, ready=False):
            await until(lambda: "offset 1 was to be read next, the oldest there is 2" in bus.waiting_for())
            assert BUS_REFUSED.labels("recall")._value.get() == 1
        assert BUS_REFUSED.labels("recall")._value.get() == 0, "who let go refuses nothing"
        whole: Any = house.bus()
        knows_less.may_go_on.set()
        whole.stream(Stream((topic,), "recall", knows_less, gap_advice=ADVICE))
        async with running(whole):
            await until(lambda: knows_less.heard == ["third"])
    assert knows.heard == []


async def test_a_topic_that_was_made_anew_is_no_continuation(kafka: Broker) -> None:
    house = KafkaHouse(kafka)
    topic = await house.topic(1)
    ear = Ear(house, "shared", topic, topic)
    ear.let_go()
    await take_over(kafka.settings().kafka, "one", ear.handler, 0, [], {(topic.name, 0): 40})
    bus = ear.bus()
    async with running(bus, ready=False):
        await until(lambda: "offset 40 was to be read next, and it ends at 0: it was made anew" in bus.waiting_for())
        assert ear.refused == 1.0
    assert ear.refused == 0.0
    assert ear.heard == []


async def _remove(kafka: Broker, topic: str, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.settings().kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
    finally:
        await admin.close()
