"""State and rows from the topics alone, on a real Kafka and the real engine: what comes out is what was there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from irisloop.topics import PREDICTION_MADE, SNAPSHOT_TAKEN

from services.common.bus import Event, KafkaBus, Position, Topic
from services.common.bus.handover import place_of
from services.common.settings import CommonSettings, KafkaSettings
from services.local.cli.app import run
from services.monitor.backtest import NAMES, backtest
from services.monitor.domain.engine import Engine
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.tables import TABLES
from services.monitor.handlers import Judge
from services.monitor.inbound import analytics
from services.monitor.inbound.stream import HANDLER, DriftStream, read_snapshot
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.recording import KafkaSource
from tests.integration.ingest_house import running_kafka
from tests.unit.monitor.test_stream import drifting
from tests.unit.monitor.worlds import policy
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@dataclass
class House:
    """A monitor's bus, judge and warehouse while they run."""

    bus: KafkaBus
    judge: Judge
    warehouse: ClickHouse
    kafka: KafkaSettings

    def heard(self) -> int:
        return self.judge.look(lambda e: e.taken + sum(one.item is not None for one in e.gate.waiting))


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    async with running_kafka(tmp_path / "kafka") as settings:
        yield settings


@asynccontextmanager
async def monitor(home: Path, kafka: KafkaSettings, *, ready: bool = True) -> AsyncIterator[House]:
    judge = Judge(policy())
    async with (
        ClickHouse(home / "clickhouse", "", keep_days=3_650) as warehouse,
        KafkaBus(CommonSettings(home=home, kafka=kafka), "monitor") as bus,
    ):
        await warehouse.open()
        bus.stream(DriftStream(judge, pace=0.0).stream())
        analytics.subscribe(bus, warehouse)
        running = asyncio.create_task(bus.run())
        await until(lambda: not ready or not bus.waiting_for())
        try:
            yield House(bus, judge, warehouse, kafka)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def live(house: House, batches: Sequence[Sequence[Event[Any]]]) -> None:
    """Ten batches at a time; labels are heard before the frames of their time, as people's answers are read at once."""
    count = house.heard()
    for start in range(0, len(batches), 20):
        wave = [event for batch in batches[start : start + 20] for event in batch]
        for part in ([e for e in wave if e.topic != PREDICTION_MADE], [e for e in wave if e.topic == PREDICTION_MADE]):
            await house.bus.publish(part)
            count += len(part)
            await until(lambda count=count: house.heard() >= count)  # type: ignore[misc]


async def at_rest(house: House) -> None:
    """Everything is judged, and every word of it is in its table."""
    before: dict[Position, int] = {}

    async def quiet() -> bool:
        nonlocal before
        if house.judge.look(lambda e: e.gate.waiting):
            return False
        now = {place: end for topic, *_ in analytics.stored() for place, end in (await ends_of(house, topic)).items()}
        same, before = now == before, now
        made = {place: end for place, end in now.items() if place[0] == PREDICTION_MADE.name}
        return same and await all_stored(house, now) and await reached(house, HANDLER, made)

    await until(quiet, what="rest", pause_s=1.0)


async def ends_of(house: House, topic: Topic[Any]) -> dict[Position, int]:
    """The offset behind the last record of each partition that has any."""
    found = {}
    for number in range(await house.bus.partitions(topic)):
        if records := await house.bus.read(topic, number, last=1):
            found[topic.name, number] = records[-1].offset + 1
    return found


async def all_stored(house: House, ends: Mapping[Position, int]) -> bool:
    """Whether analytics have come to these ends."""
    for topic, handler, *_ in analytics.stored():
        if not await reached(house, handler, {at: end for at, end in ends.items() if at[0] == topic.name}):
            return False
    return True


async def reached(house: House, handler: str, ends: Mapping[Position, int]) -> bool:
    """Whether a handler's group has committed so far."""
    _, place = await place_of(house.kafka, "monitor", handler)
    return all(place.get(at, 0) >= end for at, end in ends.items())


async def rows(warehouse: ClickHouse) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for table in TABLES:
        found[table.name] = list(await warehouse.query(f"SELECT * FROM {table.name} ORDER BY topic, partition, offset"))
    return found


async def pieces_of(kafka: KafkaSettings) -> dict[str, bytes]:
    async with KafkaBus(CommonSettings(kafka=kafka), "reader") as bus:
        return await read_snapshot(bus)


def whole(pieces: dict[str, bytes]) -> dict[str, bytes]:
    """The state that pieces hold, written anew."""
    engine = Engine.new(policy())
    rebuild(engine, pieces)
    return dict(Snapshots().changed(engine))


async def forget(kafka: KafkaSettings, topic: str, partition: int, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
    finally:
        await admin.close()


async def command(*words: str) -> int:
    return await asyncio.to_thread(run, ["monitor", *words])


async def test_state_and_rows_come_back_to_the_bit_and_the_monitor_goes_on(
    tmp_path: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("IRISLOOP_MONITOR__ANALYTICS_DAYS", "3650")  # the world lies in 2023
    monkeypatch.setenv("IRISLOOP_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    batches = list(drifting())
    async with monitor(tmp_path, kafka) as house:
        await live(house, batches[:-20])
        await at_rest(house)
        before_rows = await rows(house.warehouse)
        assert await command("rebuild") == 1
        assert "a monitor runs" in capsys.readouterr().err
    before = await pieces_of(kafka)
    _, place = await place_of(kafka, "monitor", HANDLER)

    recorded = await backtest(KafkaSource(kafka), policy())
    assert recorded.identical, (recorded.only_recorded, recorded.only_replayed)
    assert len(recorded.recorded.requests) == 1

    assert await command("rebuild") == 0
    shown = capsys.readouterr().out
    assert "never said" not in shown and "later than" not in shown
    after = await pieces_of(kafka)
    assert whole(after) == whole(before)
    assert {key: before[key] for key in after} == after
    assert (await place_of(kafka, "monitor", HANDLER))[1] == place

    async with monitor(tmp_path, kafka) as house:
        assert await rows(house.warehouse) == before_rows
        assert house.heard() == sum(len(batch) for batch in batches[:-20])
        await live(house, batches[-20:])
        await at_rest(house)
        ids = await house.warehouse.query("SELECT count(), uniqExact(topic, partition, offset) FROM predictions")
        assert ids == [(7000, 7000)]
    again = await backtest(KafkaSource(kafka), policy())
    assert again.identical, (again.only_recorded, again.only_replayed)

    await forget(kafka, PREDICTION_MADE.name, 0, before=3)
    assert await command("rebuild") == 1
    assert f"{PREDICTION_MADE.name}/0 offsets 0 to 2" in capsys.readouterr().err
    assert await command("rebuild", "--only", "analytics", "--accept-expired") == 0
    capsys.readouterr()
    async with monitor(tmp_path, kafka) as house:
        ids = await house.warehouse.query("SELECT count(), uniqExact(topic, partition, offset) FROM predictions")
        assert ids == [(7000, 7000)]
    assert SNAPSHOT_TAKEN.name not in NAMES
