"""The bus on a Kafka that is killed, and in processes that are killed: nothing lost, nothing twice, nobody dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.bus import Follow, KafkaBus, Stream, Subscription
from services.common.bus.shared import SharedConsumer
from services.common.errors import Unavailable
from tests.contract.broker import Broker
from tests.contract.houses import AnyBus, Echo, Hearer, KafkaHouse, running, said, texts
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be killed."""
    broker = Broker(tmp_path / "kafka")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Talker:
    """Publishes numbers until told to stop, whatever happens meanwhile; what is acknowledged counts as said."""

    def __init__(self, bus: AnyBus, topic: Any, pace_s: float = 0.01) -> None:
        self.bus, self.topic, self.pace_s = bus, topic, pace_s
        self.acknowledged: list[str] = []
        self.refused = 0
        self.done = asyncio.Event()

    async def run(self) -> None:
        number = 0
        while not self.done.is_set():
            try:
                await self.bus.publish([said(self.topic, str(number))])
            except Unavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            self.acknowledged.append(str(number))
            number += 1
            await asyncio.sleep(self.pace_s)


async def grown(hearer: Hearer, more: int) -> None:
    """Wait until so much more was heard."""
    enough = len(hearer.words) + more
    await until(lambda: len(hearer.words) > enough)


async def longer(file: Path, more: int) -> None:
    """Wait until a file has so many more lines."""
    lines = count_lines(file)
    await until(lambda: count_lines(file) > lines + more)


def count_lines(file: Path) -> int:
    """How many lines it has now."""
    return len(file.read_text().split())


async def test_everything_rides_through_a_killed_broker(fragile: Broker) -> None:
    house = KafkaHouse(fragile)
    topic, out = await house.topic(3), await house.topic(3)
    echo, heard, known = Echo(out), Hearer(), Hearer()
    writer, streamer, hearer = house.bus("writer"), house.bus(), house.bus("two")
    streamer.stream(Stream((topic,), "echo", echo))
    hearer.subscribe(Subscription(out, "hear", heard))
    hearer.follow(Follow(out, "know", known))
    async with running(writer, streamer, hearer) as tasks:
        talker = Talker(writer, topic)
        talking = asyncio.create_task(talker.run())
        await until(lambda: len(heard.words) > 100)
        for _ in range(2):
            fragile.kill()
            await until(lambda: writer.waiting_for() != "")
            await asyncio.sleep(4)
            await asyncio.to_thread(fragile.start)
            await grown(heard, 100)
            await until(lambda: not any(bus.waiting_for() for bus in (writer, streamer, hearer)))
        talker.done.set()
        await talking
        expected = set(talker.acknowledged)
        await until(lambda: expected <= set(heard.words) and expected <= set(known.words))
        assert not any(task.done() for task in tasks)
        counts = Counter(await texts(writer, out))
    assert set(counts) == expected
    assert talker.refused or max(counts.values()) == 1, "said twice without an error that would explain it"
    assert Counter(known.words) == counts
    assert len(expected) > 300


async def test_a_bus_starts_before_its_broker_and_its_topics(fragile: Broker) -> None:
    house = KafkaHouse(fragile)
    fragile.kill()
    bus = house.bus()
    async with running(bus, ready=False):
        await until(lambda: "Kafka" in bus.waiting_for())
        with pytest.raises(Unavailable):
            await bus.publish([said(await unborn(), "a")])
        await asyncio.to_thread(fragile.start)
        await until(lambda: bus.waiting_for() == "")
    topic, late = await house.topic(1), await unborn()
    hearer, bus = Hearer(), house.bus()
    bus.subscribe(Subscription(late, "hear", hearer))
    async with running(bus, ready=False):
        await until(lambda: late.name in bus.waiting_for())
        await bus.publish([said(topic, "b")])


async def unborn() -> Any:
    """A topic that the broker does not have."""
    from tests.contract.houses import make_topic

    return make_topic(1)


CHILD = """
import asyncio, sys
from pathlib import Path
from google.protobuf.wrappers_pb2 import StringValue
from services.common.bus import KafkaBus, Stream, Subscription, Topic
from services.common.settings import CommonSettings, KafkaSettings
from tests.contract.houses import Echo, make_topic
from dataclasses import replace

async def main():
    servers, name, out, journal = sys.argv[1:5]
    topic, out = replace(make_topic(3), name=name), replace(make_topic(3), name=out)
    async def write(batch):
        with open(journal, "a") as file:
            file.writelines(one.value.value + "\\n" for one in batch)
    settings = CommonSettings(kafka=KafkaSettings(bootstrap_servers=servers), replica=int(sys.argv[5]))
    async with KafkaBus(settings, "one") as bus:
        bus.stream(Stream((topic,), "echo", Echo(out), max_batch=20))
        bus.subscribe(Subscription(topic, "write", write, max_batch=20))
        await bus.run()

asyncio.run(main())
"""


async def test_killed_instances_lose_nothing_and_say_nothing_twice(kafka: Broker, tmp_path: Path) -> None:
    house = KafkaHouse(kafka)
    topic, out = await house.topic(3), await house.topic(3)
    journal = tmp_path / "journal"
    journal.touch()
    servers = kafka.settings().kafka.bootstrap_servers

    def spawn(replica: int) -> subprocess.Popen[bytes]:
        arguments = [servers, topic.name, out.name, str(journal), str(replica)]
        return subprocess.Popen([sys.executable, "-c", CHILD, *arguments])

    children = [spawn(0), spawn(1)]
    async with house.bus("writer") as writer:
        talker = Talker(writer, topic, pace_s=0.005)
        talking = asyncio.create_task(talker.run())
        try:
            for turn in range(4):
                await longer(journal, 50)
                os.kill(children[turn % 2].pid, signal.SIGKILL)
                children[turn % 2].wait()
                children[turn % 2] = spawn(turn % 2)
            talker.done.set()
            await talking
            async with asyncio.timeout(PATIENCE_S):
                while len(await texts(writer, out)) < len(talker.acknowledged):
                    await asyncio.sleep(0.2)
            await until(lambda: set(talker.acknowledged) <= set(journal.read_text().split()))
        finally:
            for child in children:
                child.kill()
                child.wait()
        assert Counter(await texts(writer, out)) == Counter(talker.acknowledged)


async def test_a_rebalance_in_the_middle_of_work_doubles_nothing(kafka: Broker) -> None:
    house = KafkaHouse(kafka)
    topic, out = await house.topic(6), await house.topic(6)
    heard = [Hearer(slow), Hearer(slow), Hearer(slow)]

    def instance(replica: int) -> AnyBus:
        bus = house.bus(replica=replica)
        bus.stream(Stream((topic,), "echo", Echo(out)))
        bus.subscribe(Subscription(topic, "hear", heard[replica], max_batch=10))
        return bus

    async with house.bus("writer") as writer:
        talker = Talker(writer, topic, pace_s=0.003)
        talking = asyncio.create_task(talker.run())
        async with running(instance(0)):
            for replica in (1, 2):
                async with running(instance(replica)):
                    await grown(heard[replica], 40)
            talker.done.set()
            await talking
            everything = Counter(talker.acknowledged)
            async with asyncio.timeout(PATIENCE_S):
                while len(await texts(writer, out)) < len(talker.acknowledged):
                    await asyncio.sleep(0.1)
            await until(lambda: sum(len(one.words) for one in heard) >= len(talker.acknowledged))
        assert Counter(await texts(writer, out)) == everything
    assert Counter(word for one in heard for word in one.words) == everything


async def slow(batch: Any) -> None:
    """A handler that takes a while."""
    await asyncio.sleep(0.02)


async def test_a_consumer_slowed_tenfold_keeps_its_memory_flat(kafka: Broker) -> None:
    house = KafkaHouse(kafka)
    topic = await house.topic(6)
    held: list[int] = []

    async def crawl(batch: Any) -> None:
        held.append(waiting(bus))
        await asyncio.sleep(0.1)

    bus = KafkaBus(kafka.settings(), "one")
    bus.subscribe(Subscription(topic, "crawl", crawl, max_batch=20))
    async with running(bus):
        for begin in range(0, 6000, 500):
            await bus.publish([said(topic, f"{number} {'x' * 4000}") for number in range(begin, begin + 500)])
        await until(lambda: len(held) > 60)
    assert max(held) < 6 * (2 << 20), "at most what one fetch of each partition brings"


def waiting(bus: KafkaBus) -> int:
    """Bytes that wait in all lanes."""
    lanes = [lane for one in bus._listeners if isinstance(one, SharedConsumer) for lane in one._lanes.values()]
    return sum(lane.queue._bytes for lane in lanes)
