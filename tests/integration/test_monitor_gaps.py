"""Records that retention removed unread stop the judge and analytics, until a person lets them go on without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import COMMAND_GIVEN, PREDICTION_MADE

from services.common.bus import KafkaBus
from services.common.bus.handover import place_of
from services.common.metrics import BUS_LOST, BUS_REFUSED
from services.common.settings import CommonSettings, KafkaSettings
from services.monitor.inbound.stream import HANDLER
from tests.integration.test_monitor_rebuild import at_rest, command, forget, kafka, live, monitor, rows
from tests.unit.monitor.test_stream import drifting
from tests.waiting import until

__all__ = ["kafka"]

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STORED = "store-predictions"


def gauge(handler: str) -> float:
    return float(BUS_REFUSED.labels(handler)._value.get())


async def test_missing_records_stop_judge_and_analytics_until_somebody_accepts_it(
    tmp_path: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("IRISLOOP_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    batches = list(drifting())
    early, late = batches[:40], batches[40:60]
    async with monitor(tmp_path, kafka) as house:
        await live(house, early)
        await at_rest(house)
        stored = await rows(house.warehouse)
        heard = house.heard()
    _, place = await place_of(kafka, "monitor", HANDLER)
    topic, partition = next(at for at in sorted(place) if at[0] == PREDICTION_MADE.name and place[at])
    wanted = place[topic, partition]
    async with KafkaBus(CommonSettings(home=tmp_path, kafka=kafka), "writer") as writer:
        await writer.publish([event for batch in late for event in batch])
    assert await command("gaps") == 0
    assert "No record is missing" in capsys.readouterr().out
    oldest = wanted + 7
    await forget(kafka, topic, partition, before=oldest)

    words = f"{topic}/{partition}: offset {wanted} was to be read next, the oldest there is {oldest}: up to 7 records"
    async with monitor(tmp_path, kafka, ready=False) as house:
        await until(lambda: all(f"{name}: {words}" in house.bus.waiting_for() for name in (HANDLER, STORED)))
        assert "irisloop monitor gaps --accept --why" in house.bus.waiting_for()
        assert (gauge(HANDLER), gauge(STORED)) == (7, 7)
        assert house.heard() == 0  # not even its own state is taken up
        assert await command("gaps", "--json") == 1
        said = capsys.readouterr().out  # the monitor's log is in it, too
        shown, _ = json.JSONDecoder().raw_decode(said, said.index("[\n  {"))
        assert {(one["handler"], one["partition"], one["wanted"], one["missing"]) for one in shown} == {
            (HANDLER, partition, wanted, 7),
            (STORED, partition, wanted, 7),
        }
        assert await command("gaps", "--accept") == 1
        assert "--why" in capsys.readouterr().err

        assert await command("gaps", "--accept", "--why", "the disk was full") == 0
        await until(lambda: not house.bus.waiting_for())
        count = sum(len(batch) for batch in late)
        await until(lambda: house.heard() == heard + count - 7 + 2)  # and the two commands
        await at_rest(house)
        now = await rows(house.warehouse)
        given = [monitor_pb2.CommandGiven.FromString(one.value) for one in await house.bus.read(COMMAND_GIVEN, 0)]
    assert (gauge(HANDLER), gauge(STORED)) == (0, 0)
    assert BUS_LOST.labels(HANDLER)._value.get() >= 7
    assert BUS_LOST.labels(STORED)._value.get() >= 7
    assert {one.accept_gaps.handler for one in given} == {HANDLER, STORED}
    assert all(one.why == "the disk was full" and one.by for one in given)
    made = sum(event.topic == PREDICTION_MADE for batch in late for event in batch)
    assert len(now["predictions"]) == len(stored["predictions"]) + made - 7
    assert await command("gaps") == 0


async def test_a_rebuild_of_what_is_left_goes_on_after_the_gap(
    tmp_path: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("IRISLOOP_MONITOR__ANALYTICS_DAYS", "3650")  # the world lies in 2023
    monkeypatch.setenv("IRISLOOP_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    batches = list(drifting())[:60]
    async with monitor(tmp_path, kafka) as house:
        await live(house, batches[:40])
        await at_rest(house)
    _, place = await place_of(kafka, "monitor", HANDLER)
    topic, partition = next(at for at in sorted(place) if at[0] == PREDICTION_MADE.name and place[at])
    async with KafkaBus(CommonSettings(home=tmp_path, kafka=kafka), "writer") as writer:
        await writer.publish([event for batch in batches[40:] for event in batch])
    await forget(kafka, topic, partition, before=place[topic, partition] + 5)

    assert await command("rebuild") == 1
    assert "have expired" in capsys.readouterr().err
    assert await command("rebuild", "--accept-expired") == 0
    assert f"{HANDLER} goes on without what is missing: {topic}/{partition}" in capsys.readouterr().out
    async with monitor(tmp_path, kafka) as house:
        await at_rest(house)
        left = house.judge.look(lambda engine: engine.models["m"].seen)
    assert 0 < left < sum(len(batch) for batch in batches)
