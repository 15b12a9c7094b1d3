"""Two instances of a service under one replica number: one works, the other says which setting is at fault."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from services.common.bus import Stream, Subscription
from tests.contract.broker import Broker
from tests.contract.houses import AnyBus, Echo, Hearer, KafkaHouse, running, said, texts
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
STEADY_S = 4.0
"""Some heartbeats, of one a second."""
STOP_S = 18.0
"""Less than a partition that is given up may take, 20 s: nothing is waited for."""


def blames(bus: AnyBus) -> bool:
    """Whether it waits because of the number."""
    return "has the same IRISLOOP_REPLICA=7 and took this one's place" in bus.waiting_for()


async def settled(first: AnyBus, second: AnyBus) -> None:
    """The first waits for the second, and they do not change places."""
    await until(lambda: blames(first) and not second.waiting_for())
    began = time.monotonic()
    while time.monotonic() - began < STEADY_S:
        assert blames(first), first.waiting_for()
        assert second.waiting_for() == ""
        await asyncio.sleep(0.05)


async def test_the_older_of_two_streams_waits_until_the_newer_one_ended(kafka: Broker) -> None:
    house = KafkaHouse(kafka)
    heard, told = await house.topic(), await house.topic()
    first, second = house.bus("one", 7), house.bus("one", 7)
    for bus in (first, second):
        bus.stream(Stream((heard,), "echo", Echo(told)))

    async def all_told(count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            while len(found := await texts(first, told)) < count:
                await asyncio.sleep(0.1)
        return found

    async with running(first):
        async with running(second):
            await settled(first, second)
            await second.publish([said(heard, f"w{number}") for number in range(30)])
            await all_told(30)
        await until(lambda: not first.waiting_for())
        await first.publish([said(heard, "after")])
        found = await all_told(31)
    assert sorted(found) == sorted({*(f"w{number}" for number in range(30)), "after"})


async def test_the_older_of_two_consumers_waits_and_ends_when_it_is_told_to(kafka: Broker) -> None:
    house, hearer = KafkaHouse(kafka), Hearer()
    topic = await house.topic()
    first, second = house.bus("two", 7), house.bus("two", 7)
    first.subscribe(Subscription(topic, "hear", Hearer()))
    second.subscribe(Subscription(topic, "hear", hearer))
    async with AsyncExitStack() as stack:
        older = AsyncExitStack()
        await older.enter_async_context(running(first))
        await stack.enter_async_context(running(second))
        await settled(first, second)
        began = time.monotonic()
        await older.aclose()
        assert time.monotonic() - began < STOP_S
        assert second.waiting_for() == ""
        await second.publish([said(topic, f"w{number}") for number in range(30)])
        await until(lambda: len(hearer.words) == 30)


async def test_two_numbers_share_the_work(kafka: Broker) -> None:
    house = KafkaHouse(kafka)
    topic = await house.topic()
    buses = [house.bus("two", number) for number in (7, 8)]
    for bus in buses:
        bus.subscribe(Subscription(topic, "hear", Hearer()))
    async with running(*buses):
        for _ in range(30):
            assert not any(blames(bus) for bus in buses)
            await asyncio.sleep(0.1)
