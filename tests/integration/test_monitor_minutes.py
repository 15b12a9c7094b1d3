"""What is summed up beside the predictions counts each once, and is what the dashboards read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import clickhouse_connect
import pytest
from irisloop.serving.v1 import serving_pb2

from services.monitor import wire
from services.monitor.domain.sql import Limits
from services.monitor.domain.tables import PREDICTIONS
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.embedded import EmbeddedReader
from tests.integration.test_dashboards import filled, queries
from tests.integration.test_monitor_messages import batch, opened
from tests.unit.monitor.worlds import EPOCH

ALONE = " SETTINGS optimize_use_projections = 0"
BY_CAMERA = """
    SELECT minute, camera_id, role, failed, count(), round(avg(score), 4), round(avg(pixels_brightness), 4),
           min(captured_at), max(captured_at)
    FROM predictions GROUP BY minute, camera_id, role, failed ORDER BY ALL
"""
BY_CLASS = "SELECT minute, class_name, count() FROM predictions WHERE NOT failed GROUP BY ALL ORDER BY ALL"
BY_PLACE = "SELECT topic, partition, count(), max(offset) FROM predictions GROUP BY ALL ORDER BY ALL"


def predictions(count: int, first: int = 0) -> list[serving_pb2.Prediction]:
    """Of four cameras, one a second from `EPOCH` on."""
    found = []
    for number in range(first, first + count):
        role = "shadow" if number % 5 == 0 else "champion"
        value = serving_pb2.Prediction(
            id=str(number), asset_id=str(number), camera_id=f"c{number % 4}", model="m", version="1", role=role
        )
        value.captured_at.CopyFrom(wire.stamp(EPOCH + number))
        value.predicted_at.CopyFrom(wire.stamp(EPOCH + number + 0.25))
        if number % 7:
            value.scores.add(class_name=f"k{number % 3}", score=number % 10 / 10)
            value.features.pixels.brightness = number % 11 / 11
        else:
            value.error = "timeout"
        found.append(value)
    return found


async def same(warehouse: ClickHouse, queries: Sequence[str]) -> None:
    for query in queries:
        rows = await warehouse.query(query)
        assert rows
        assert repr(rows) == repr(await warehouse.query(query + ALONE))  # NaN is like NaN


async def test_sums_are_those_of_the_rows_also_when_rows_come_again_and_parts_are_merged(tmp_path: Path) -> None:
    async with await opened(tmp_path / "clickhouse") as warehouse:
        values = predictions(300)
        await warehouse.insert(batch(values[:200]))
        await warehouse.insert(batch(values[:200]))
        warehouse.forget()
        await warehouse.insert(batch(values[100:], first=100))
        await same(warehouse, [BY_CAMERA, BY_CLASS, BY_PLACE])
        warehouse._client.command("OPTIMIZE TABLE predictions FINAL")
        await same(warehouse, [BY_CAMERA, BY_CLASS, BY_PLACE])
        assert await warehouse.query("SELECT count() FROM predictions WHERE historical = 0") == [(300,)]


async def test_rows_of_an_earlier_version_are_summed_up_too(tmp_path: Path) -> None:
    folder = tmp_path / "clickhouse"
    async with await opened(folder) as warehouse:
        await warehouse.insert(batch(predictions(100)))
    old = clickhouse_connect.get_client(interface="chdb", path=str(folder))
    for name, _ in PREDICTIONS.projections:
        old.command(f"ALTER TABLE predictions DROP PROJECTION {name} SETTINGS mutations_sync = 2")
    for name, _ in PREDICTIONS.derived:
        old.command(f"ALTER TABLE predictions DROP COLUMN {name}")
    old.close()
    async with await opened(folder) as warehouse:
        await warehouse.insert(batch(predictions(100, first=100), first=100))
        await same(warehouse, [BY_CAMERA, BY_CLASS, BY_PLACE])
        known = await warehouse.query("SELECT name FROM system.projections WHERE table = 'predictions'")
        assert {name for (name,) in known} == {name for name, _ in PREDICTIONS.projections}


BY_ROWS = ("irisloop-incidents, Frames before it", "irisloop-incidents, Frames since it began")
"""They show single frames."""


@pytest.mark.parametrize(
    ("where", "sql"), [(w, s) for w, _, s in queries() if "FROM predictions" in s and w not in BY_ROWS]
)
def test_a_panel_about_predictions_reads_no_row_of_them(explained: EmbeddedReader, where: str, sql: str) -> None:
    names = {"model": ["m"], "camera": ["c0", "c1", "c2", "c3"], "incident": ["i"]}
    connection = explained._connect()
    try:
        plan = bytes(connection.query(f"EXPLAIN {filled(sql, names, EPOCH + 1000)}", "TSVRaw").bytes()).decode()
    finally:
        connection.close()
    assert "ReadFromMergeTree (default.predictions)" not in plan, f"{where}: {plan}"
    assert any(name in plan for name, _ in PREDICTIONS.projections), f"{where}: {plan}"


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedReader:
    """A table with predictions, to be asked."""
    folder = tmp_path_factory.mktemp("explained") / "clickhouse"

    async def fill() -> None:
        async with await opened(folder) as warehouse:
            await warehouse.insert(batch(predictions(300)))

    asyncio.run(fill())
    return EmbeddedReader(folder, Limits(30, 1000, 512))
