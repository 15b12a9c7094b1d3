"""The bus beside bare aiokafka: same broker, headers, parsing, and a commit a batch; rounds in turn, medians.

`python -m tests.bench.bench_bus [MESSAGES] [ROUNDS]` prints a table and writes .irisloop/bench/bus.json.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from google.protobuf.wrappers_pb2 import StringValue

from services.common.bus import Delivery, Event, KafkaBus, Subscription, Topic
from services.common.bus.cloudevents import headers_of, partition_of
from tests.contract.broker import Broker
from tests.contract.houses import KafkaHouse

PARTITIONS: Final = 6
CHUNK: Final = 500
VALUE: Final = "x" * 400
TRACE: Final = f"00-{'ab' * 16}-{'cd' * 8}-01"
RESULT: Final = Path(".irisloop/bench/bus.json")


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run: messages/s by the clock, and microseconds of this process's CPU a message."""

    rate: float
    cpu_us: float


class Clock:
    """Wall and CPU time between the first and the last message."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def run(self) -> Run:
        """From the clock's making to now."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Run(self._messages / wall, cpu / self._messages * 1e6)


def events(topic: Topic[StringValue], messages: int) -> list[Event[StringValue]]:
    """What is published; made before the clock runs."""
    at = datetime.now(UTC)
    return [
        Event(topic, f"gate-{number % 97}", StringValue(value=VALUE), str(uuid.uuid4()), at, TRACE)
        for number in range(messages)
    ]


async def publish_ours(broker: Broker, topic: Topic[StringValue], messages: int) -> Run:
    """`Bus.publish`, 500 events a call."""
    wanted = events(topic, messages)
    async with KafkaBus(broker.settings(), "bench") as bus:
        await bus.publish(wanted[:1])
        clock = Clock(messages)
        for begin in range(0, messages, CHUNK):
            await bus.publish(wanted[begin : begin + CHUNK])
        return clock.run()


async def publish_bare(broker: Broker, topic: Topic[StringValue], messages: int) -> Run:
    """aiokafka's idempotent producer with the same settings, headers and serialising, 500 sends at once."""
    wanted = events(topic, messages)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.settings().kafka.bootstrap_servers, enable_idempotence=True, max_batch_size=256 << 10
    )
    await producer.start()
    try:
        await producer.send_and_wait(topic.name, b"", partition=0)
        clock = Clock(messages)
        for begin in range(0, messages, CHUNK):
            await asyncio.gather(*[await _send(producer, one) for one in wanted[begin : begin + CHUNK]])
        return clock.run()
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, event: Event[Any]) -> Awaitable[Any]:
    future: Awaitable[Any] = await producer.send(
        event.topic.name,
        event.value.SerializeToString(),
        key=event.key.encode(),
        partition=partition_of(event.key, PARTITIONS),
        headers=headers_of(event, "/irisloop/bench"),
    )
    return future


async def consume_ours(broker: Broker, topic: Topic[StringValue], messages: int) -> Run:
    """A subscription whose handler counts."""
    seen, clock, done = 0, Clock(messages), asyncio.Event()

    async def count(batch: Sequence[Delivery[StringValue]]) -> None:
        nonlocal seen, clock
        if seen == 0:
            clock = Clock(messages)
        seen += len(batch)
        if seen >= messages:
            done.set()

    async with KafkaBus(broker.settings(), "bench") as bus:
        bus.subscribe(Subscription(topic, f"count-{uuid.uuid4().hex[:8]}", count))
        task = asyncio.create_task(bus.run())
        await done.wait()
        run = clock.run()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return run


async def consume_bare(broker: Broker, topic: Topic[StringValue], messages: int) -> Run:
    """getmany, headers into a dict, type checked, value and time parsed, commit."""
    consumer = AIOKafkaConsumer(
        topic.name,
        bootstrap_servers=broker.settings().kafka.bootstrap_servers,
        group_id=f"bare-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    await consumer.start()
    seen, clock = 0, Clock(messages)
    expected = topic.message.DESCRIPTOR.full_name.encode()
    try:
        while seen < messages:
            found = await consumer.getmany(timeout_ms=500, max_records=CHUNK)
            if not found:
                continue
            if seen == 0:
                clock = Clock(messages)
            for records in found.values():
                seen += len([parsed(one, expected) for one in records if one.headers])
            await consumer.commit({place: records[-1].offset + 1 for place, records in found.items()})
        return clock.run()
    finally:
        await consumer.stop()


def parsed(record: Any, expected: bytes) -> tuple[StringValue, str, datetime]:
    """What any consumer of these events has to do."""
    headers = dict(record.headers)
    assert headers["ce_type"] == expected
    value = StringValue.FromString(record.value)
    return value, headers["ce_id"].decode(), datetime.fromisoformat(headers["ce_time"].decode())


Measure = Callable[[Broker, Topic[StringValue], int], Awaitable[Run]]


async def compare(broker: Broker, messages: int, rounds: int) -> dict[str, dict[str, float]]:
    """Each pair in turn, the order changing from round to round; medians of rate and CPU."""
    house = KafkaHouse(broker)
    runs: dict[str, list[Run]] = {}

    async def measure(name: str, work: Measure, topic: Topic[StringValue]) -> None:
        runs.setdefault(name, []).append(await work(broker, topic, messages))

    for turn in range(rounds):
        ours, bare = await house.topic(PARTITIONS), await house.topic(PARTITIONS)
        pairs: list[tuple[str, Measure, Topic[StringValue]]] = [
            ("publish, bus", publish_ours, ours),
            ("publish, bare", publish_bare, bare),
        ]
        reads: list[tuple[str, Measure, Topic[StringValue]]] = [
            ("consume, bus", consume_ours, ours),
            ("consume, bare", consume_bare, ours),
        ]
        for several in (pairs, reads):
            for name, work, topic in several if turn % 2 else several[::-1]:
                await measure(name, work, topic)
    return {name: asdict(Run(median(several, "rate"), median(several, "cpu_us"))) for name, several in runs.items()}


def median(runs: Sequence[Run], field: str) -> float:
    """Of one field."""
    return float(statistics.median(getattr(run, field) for run in runs))


def table(result: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    lines = [
        "| | bus, messages/s | bare, messages/s | share | bus, CPU us | bare, CPU us | share |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in ("publish", "consume"):
        ours, bare = result[f"{kind}, bus"], result[f"{kind}, bare"]
        rate, cpu = ours["rate"] / bare["rate"], bare["cpu_us"] / ours["cpu_us"]
        lines.append(
            f"| {kind} | {ours['rate']:,.0f} | {bare['rate']:,.0f} | {rate:.0%} "
            f"| {ours['cpu_us']:.1f} | {bare['cpu_us']:.1f} | {cpu:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    messages, rounds = ([int(word) for word in sys.argv[1:]] + [60_000, 5][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "kafka")
        broker.start()
        try:
            result = uvloop.run(compare(broker, messages, rounds))
        finally:
            broker.kill()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"messages": messages, "rounds": rounds, "results": result}, indent=1) + "\n")
    print(table(result))  # noqa: T201 - it is what the command is for


if __name__ == "__main__":
    main()
