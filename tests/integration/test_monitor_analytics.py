"""Analytics on the real engine in process: every row once, whatever is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PREDICTION_MADE, RETRAIN_DECLINED

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.monitor import wire
from services.monitor.domain.rows import Rows
from services.monitor.domain.tables import REJECTIONS
from services.monitor.errors import AnalyticsClosed
from services.monitor.inbound import analytics
from services.monitor.outbound.clickhouse import ClickHouse

AT = 1_700_000_000.0


def prediction(n: int, name: str) -> Event[serving_pb2.PredictionMade]:
    value = serving_pb2.Prediction(
        id=f"p{n}", asset_id=f"a{n}", camera_id="gate", model="m", version="1", role="champion"
    )
    value.captured_at.CopyFrom(wire.stamp(AT + n))
    value.predicted_at.CopyFrom(wire.stamp(AT + n))
    value.scores.add(class_name=name, score=0.75)
    value.features.pixels.brightness = 0.5
    made = serving_pb2.PredictionMade(prediction=value)
    return Event(PREDICTION_MADE, "camera/gate", made, f"p{n}", wire.moment(AT + n), partition=3)


def label(n: int, name: str, revision: int = 1) -> Event[labeling_pb2.AnnotationConfirmed]:
    value = labeling_pb2.Annotation(id=f"l{n}-{revision}", asset_id=f"a{n}", camera_id="gate", revision=revision)
    value.captured_at.CopyFrom(wire.stamp(AT + n))
    value.annotated_at.CopyFrom(wire.stamp(AT + n + 5))
    if name:
        value.labels.add(class_name=name)
    value.withdrawn = not name
    confirmed = labeling_pb2.AnnotationConfirmed(annotation=value)
    return Event(ANNOTATION_CONFIRMED, "gate", confirmed, value.id, wire.moment(AT + n))


async def ask(warehouse: ClickHouse, query: str) -> Sequence[tuple[object, ...]]:
    return await warehouse.query(query)


async def opened(folder: Path) -> ClickHouse:
    warehouse = ClickHouse(folder, "", keep_days=3_650)
    await warehouse.open()
    return warehouse


async def test_rows_are_there_once_and_accuracy_is_what_people_said(tmp_path: Path) -> None:
    warehouse = await opened(tmp_path / "clickhouse")
    async with warehouse:
        broker = MemoryBroker()
        await _store(broker, warehouse)
        await _repeat(broker, warehouse)
        rows = await ask(
            warehouse, "SELECT count(), uniq(id), min(captured_at), any(pixels_brightness) FROM predictions"
        )
        assert rows[0][:2] == (160, 160)
        assert rows[0][2].timestamp() == AT  # type: ignore[attr-defined]
        assert rows[0][3] == 0.5
        assert await ask(warehouse, "SELECT decision, reason FROM decisions") == [("declined", "cooldown")]
        right, labels = await warehouse.accuracy(pb.GetAccuracyRequest(model="m", version="1", role="champion"))
        assert (right, labels) == (9, 19)
        narrow = pb.GetAccuracyRequest(model="m", to=wire.stamp(AT + 10))
        assert await warehouse.accuracy(narrow) == (9, 10)
        assert await warehouse.accuracy(pb.GetAccuracyRequest(model="other")) == (0, 0)


async def _store(broker: MemoryBroker, warehouse: ClickHouse) -> None:
    """A hundred predictions, twenty labels of which the first ten agree; one is corrected, one withdrawn."""
    bus = MemoryBus(broker, service="monitor")
    analytics.subscribe(bus, warehouse)
    await bus.publish([prediction(n, "shirt") for n in range(100)])
    await bus.publish([label(n, "shirt" if n < 10 else "coat") for n in range(20)])
    await bus.publish([label(0, "coat", revision=2), label(19, "", revision=2)])
    declined = pb.RetrainDeclined(id="d", model="m", incident_id="i", reason="cooldown", declined_at=wire.stamp(AT))
    await bus.publish([Event(RETRAIN_DECLINED, "m", declined, "d", wire.moment(AT))])
    await bus.settle()


async def _repeat(broker: MemoryBroker, warehouse: ClickHouse) -> None:
    """The offsets of a kill were lost: everything is read again, in other batches, with more behind it."""
    broker.committed.clear()
    again = MemoryBus(broker, service="monitor")
    analytics.subscribe(again, warehouse)
    warehouse.forget()
    await again.publish([prediction(n, "shirt") for n in range(100, 160)])
    await again.settle()


async def test_what_is_not_open_says_so_instead_of_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitor.outbound.clickhouse._WAIT_S", 0.01)
    async with ClickHouse(tmp_path / "never", "", keep_days=1) as warehouse:
        with pytest.raises(AnalyticsClosed):
            await warehouse.query("SELECT 1")
    assert not (tmp_path / "never").exists()
    await asyncio.sleep(0)


def rows_of(offsets: Sequence[int], days: Sequence[int]) -> Rows:
    """Rejections, at noon of these days since 1970."""
    at = [day * 86_400_000_000 + 43_200_000_000 for day in days]
    count = len(at)
    ids = [f"r{offset}" for offset in offsets]
    text = ["x"] * count
    return Rows(REJECTIONS, "t", 2, offsets, [ids, text, at, at, text, text, text, text])


async def test_a_day_that_was_written_before_a_kill_does_not_hide_one_that_was_not(tmp_path: Path) -> None:
    """An insert over midnight is two: of the second day alone something may be there."""
    async with await opened(tmp_path / "clickhouse") as warehouse:
        await warehouse.insert(rows_of([3, 5], [20_001, 20_001]))
        warehouse.forget()
        await warehouse.insert(rows_of([2, 3, 4, 5, 6], [20_000, 20_001, 20_000, 20_001, 20_001]))
        await warehouse.insert(rows_of([6, 7], [20_001, 20_000]))
        held = await ask(warehouse, "SELECT offset, toUInt32(toDate(rejected_at)) FROM rejections ORDER BY offset")
    assert held == [(2, 20_000), (3, 20_001), (4, 20_000), (5, 20_001), (6, 20_001), (7, 20_000)]


async def test_an_insert_that_is_sent_twice_is_written_once(tmp_path: Path) -> None:
    """A client repeats what was not answered; also a table of an earlier version knows its last tokens."""
    async with await opened(tmp_path / "clickhouse") as warehouse:
        rows = rows_of([1, 2], [20_000, 20_000])
        assert warehouse._writer is not None
        warehouse._writer.write(20_000, [rows])
        warehouse._writer.write(20_000, [rows])
        assert await ask(warehouse, "SELECT count() FROM rejections") == [(2,)]
        settings = "SELECT engine_full FROM system.tables WHERE name = 'rejections'"
        assert "non_replicated_deduplication_window = 1000" in str(await ask(warehouse, settings))
