"""Predictions that ClickHouse takes apart itself: the rows are those that Python would make, each once."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Event, MemoryBus
from services.monitor import wire
from services.monitor.domain.rows import DAY, Messages, Rows
from services.monitor.domain.tables import PREDICTIONS
from services.monitor.inbound import analytics, rows
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.messages import SCHEMA

TOPIC = PREDICTION_MADE.name
NOON = 20_000 * 86_400 + 43_200


def made(number: int, at: float = NOON) -> serving_pb2.Prediction:
    """A prediction in which everything is there, drawn from its number."""
    rng = np.random.default_rng(number)
    value = serving_pb2.Prediction(
        id=f"p'{number}\\", asset_id=f"a{number}", camera_id="gate \u00e9\t", model="m", version="3", role="champion",
        latency_ms=rng.random(), replica="r", historical=bool(number % 2),
    )  # fmt: skip
    value.captured_at.CopyFrom(wire.stamp(at + number / 7))
    value.predicted_at.CopyFrom(wire.stamp(at + number / 3))
    value.scores.add(class_name="shirt", score=rng.random())
    value.scores.add(class_name="coat", score=0.01)
    features = value.features
    for field in features.pixels.DESCRIPTOR.fields:
        setattr(features.pixels, field.name, rng.normal())
    for name in ("max_probability", "margin", "entropy", "energy", "embedding_norm"):
        setattr(features, name, rng.normal())
    features.projections.extend(rng.normal(size=8))
    return value


def strange() -> list[serving_pb2.Prediction]:
    """What may be missing is missing, is 0, or has the wrong length."""
    bare = serving_pb2.Prediction(id="bare", error="x" * 20_000)
    bare.captured_at.CopyFrom(wire.stamp(NOON))
    zero, dark, short, first = made(1), made(2), made(3), made(4)
    for name in ("max_probability", "margin", "entropy", "energy", "embedding_norm"):
        setattr(zero.features, name, 0.0)
    zero.features.pixels.frame_difference = 0.0
    dark.features.pixels.Clear()
    dark.features.pixels.SetInParent()
    del short.features.projections[3:]
    short.features.ClearField("margin")
    first.features.pixels.ClearField("frame_difference")
    del first.scores[:]
    absent = made(5)
    absent.features.ClearField("pixels")
    absent.pair_id, absent.rollout_id = "pair", "rollout"
    return [bare, zero, dark, short, first, absent]


def batch(values: Sequence[serving_pb2.Prediction], partition: int = 1, first: int = 0) -> Messages:
    wrapped = [serving_pb2.PredictionMade(prediction=value) for value in values]
    days = [rows.micros(value.captured_at) // DAY for value in values]
    offsets = range(first, first + len(values))
    return Messages(PREDICTIONS, TOPIC, partition, offsets, [one.SerializeToString() for one in wrapped], days)


async def opened(folder: Path) -> ClickHouse:
    warehouse = ClickHouse(folder, "", keep_days=3_650)
    await warehouse.open()
    return warehouse


async def held(warehouse: ClickHouse) -> list[tuple[Any, ...]]:
    """Rows with their times as numbers, NaN as None."""
    names = [f"toUnixTimestamp64Micro({n})" if n.endswith("_at") else n for n in PREDICTIONS.names]
    found = await warehouse.query(f"SELECT partition, offset, {', '.join(names)} FROM predictions ORDER BY 1, 2")
    return [tuple(map(comparable, row)) for row in found]


def comparable(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(np.float32(value))
    return value


async def test_each_column_is_what_the_message_says_whatever_is_missing(tmp_path: Path) -> None:
    values = [*strange(), *(made(n) for n in range(10, 40))]
    async with await opened(tmp_path / "clickhouse") as warehouse:
        await warehouse.insert(batch(values, partition=4, first=2**40))
        found = await held(warehouse)
    at = wire.moment(NOON)
    expected = [rows.prediction(serving_pb2.PredictionMade(prediction=value), at) for value in values]
    assert found == [(4, 2**40 + n, *map(comparable, row)) for n, row in enumerate(expected)]


async def test_rows_and_messages_of_the_same_records_are_the_same_rows(tmp_path: Path) -> None:
    values = [*strange(), made(9)]
    given = [rows.prediction(serving_pb2.PredictionMade(prediction=value), wire.moment(0)) for value in values]
    async with await opened(tmp_path / "clickhouse") as warehouse:
        await warehouse.insert(Rows(PREDICTIONS, TOPIC, 0, range(len(values)), list(zip(*given, strict=True))))
        plain = await held(warehouse)
        await warehouse.insert(batch(values, partition=1))
        both = await held(warehouse)
    assert [row[1:] for row in both[len(values) :]] == [row[1:] for row in plain]


async def test_partitions_that_wait_go_in_one_insert_and_what_is_read_again_is_left_out(tmp_path: Path) -> None:
    async with await opened(tmp_path / "clickhouse") as warehouse:
        batches = [batch([made(n, NOON + 40_000 * n) for n in range(20)], partition) for partition in range(3)]
        await asyncio.gather(*(warehouse.insert(one) for one in batches))
        assert await warehouse.query("SELECT count(), uniqExact(partition, offset) FROM predictions") == [(60, 60)]
        parts = "SELECT count() FROM system.parts WHERE table = 'predictions' AND level = 0"
        days = await warehouse.query("SELECT uniqExact(toDate(captured_at)) FROM predictions")
        assert await warehouse.query(parts) <= days
        warehouse.forget()
        more = batch([made(n, NOON + 40_000 * n) for n in range(30)], 2)
        await asyncio.gather(warehouse.insert(batches[0]), warehouse.insert(more), warehouse.insert(more))
        assert await warehouse.query("SELECT count(), uniqExact(partition, offset) FROM predictions") == [(70, 70)]


async def test_what_is_given_up_while_it_waits_is_not_inserted_with_the_others(tmp_path: Path) -> None:
    async with await opened(tmp_path / "clickhouse") as warehouse:
        given_up = asyncio.create_task(warehouse.insert(batch([made(1)], 1)))
        other = asyncio.create_task(warehouse.insert(batch([made(2)], 2)))
        await asyncio.sleep(0)
        given_up.cancel()
        await other
        assert await warehouse.query("SELECT partition FROM predictions") == [(2,)]


async def test_an_older_batch_that_comes_again_does_not_make_the_table_forget_the_newer_one(tmp_path: Path) -> None:
    values = [made(n) for n in range(6)]
    async with await opened(tmp_path / "clickhouse") as warehouse:
        await warehouse.insert(batch(values))
        await warehouse.insert(batch(values[:3]))
        await warehouse.insert(batch(values[2:], first=2))
        assert await warehouse.query("SELECT count() FROM predictions") == [(6,)]


async def test_an_insert_that_is_sent_twice_is_written_once(tmp_path: Path) -> None:
    async with await opened(tmp_path / "clickhouse") as warehouse:
        parts = [batch([made(n) for n in range(5)], partition) for partition in (0, 1)]
        assert warehouse._writer is not None
        warehouse._writer.write(20_000, parts)
        warehouse._writer.write(20_000, parts)
        assert await warehouse.query("SELECT count() FROM predictions") == [(10,)]


async def test_a_record_that_cannot_be_stored_fails_its_own_partition_alone(tmp_path: Path) -> None:
    good, bad = batch([made(1)], 0), batch([made(2)], 1)
    bad = Messages(PREDICTIONS, TOPIC, 1, bad.offsets, [b"\x0a\x7fno protobuf"], bad.days)
    async with await opened(tmp_path / "clickhouse") as warehouse:
        results = await asyncio.gather(
            warehouse.insert(batch([made(0)], 2)),
            warehouse.insert(bad),
            warehouse.insert(good),
            return_exceptions=True,
        )
        assert [type(one) is type(None) for one in results] == [True, False, True]
        assert await warehouse.query("SELECT partition FROM predictions ORDER BY partition") == [(0,), (2,)]


async def test_what_is_no_prediction_becomes_a_dead_letter_and_the_others_are_stored(tmp_path: Path) -> None:
    async with await opened(tmp_path / "clickhouse") as warehouse:
        bus = MemoryBus(service="monitor")
        analytics.subscribe(bus, warehouse)
        await bus.publish([event(n) for n in range(3)])
        broken = bus.broker.logs[TOPIC, 3][1]
        bus.broker.logs[TOPIC, 3][1] = type(broken)(
            broken.topic, broken.partition, broken.offset, broken.timestamp, broken.key, b"\x0a\x7fno", broken.headers
        )
        await bus.settle()
        assert await warehouse.query("SELECT offset FROM predictions ORDER BY offset") == [(0,), (2,)]
        assert len(bus.broker.logs[f"{TOPIC}.monitor.dlq", 0]) == 1


def event(number: int) -> Event[serving_pb2.PredictionMade]:
    value = made(number)
    wrapped = serving_pb2.PredictionMade(prediction=value)
    return Event(PREDICTION_MADE, "camera/gate", wrapped, value.id, wire.moment(NOON), partition=3)


UNKNOWN = {"pair_id", "rollout_id", "detections", "decision_threshold", "detection_count", "box_area"}
"""Fields that no column holds."""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Prediction", serving_pb2.Prediction),
        ("Score", serving_pb2.Score),
        ("Features", serving_pb2.Features),
        ("Pixels", type(serving_pb2.Features().pixels)),
    ],
)
def test_the_schema_has_the_numbers_of_the_contract(name: str, message: Any) -> None:
    (text,) = re.findall(rf"message {name} \{{(.*?)\}}", SCHEMA, re.DOTALL)
    fields = {field: int(number) for field, number in re.findall(r"(\w+) = (\d+);", text)}
    known = {field.name: field.number for field in message.DESCRIPTOR.fields}
    assert fields == {field: known[field] for field in fields}
    assert known.keys() - fields.keys() <= UNKNOWN
    assert serving_pb2.PredictionMade.DESCRIPTOR.fields_by_number[1].name == "prediction"
