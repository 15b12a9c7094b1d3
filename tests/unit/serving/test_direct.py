"""Clients' predictions become events: once each and in order, whatever Kafka, the disk or a kill does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from irisloop.serving.v1 import serving_pb2 as pb

from services.common.bus import Bus, Event
from services.common.errors import InvalidMessage, Unavailable
from services.common.metrics import SERVING_DIRECT_DROPPED
from services.serving.domain.notes import Note, described
from services.serving.domain.package import ImageInput, ModelCard
from services.serving.domain.routes import Version
from services.serving.outbound import child
from services.serving.outbound.direct import DirectEvents
from services.serving.outbound.publishing.publisher import Publisher
from tests.unit.serving.test_repository import made
from tests.waiting import until

CARD = ModelCard(("a", "b"), ImageInput("x", "NCHW", "uint8", 1, 4, 4), "logits", True, "", 1.0, 8)


class Kafka:
    """Takes events, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.refused = 0
        self.events: list[Event[Any]] = []

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("Kafka is away")
        if any(int(event.ce_time.timestamp()) == self.refused for event in events):
            raise InvalidMessage("too large", field="value")
        self.events += [
            replace(event, value=pb.PredictionMade.FromString(event.value.SerializeToString())) for event in events
        ]


def version(card: ModelCard | None = CARD) -> Version:
    return replace(made("m", "1", "x"), card=card)


@asynccontextmanager
async def direct(kafka: Kafka, folder: Path, most: int = 10_000) -> AsyncIterator[DirectEvents]:
    """Running, and stopped in order."""
    async with DirectEvents(
        Publisher.of_predictions(cast(Bus, kafka), folder), "serving-0", most, folder, 64 << 20
    ) as one:
        task = asyncio.create_task(one.run())
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.wait([task])


def note(one: DirectEvents, number: int, of: Version, rows: int = 1) -> None:
    """A call that arrived at second `number`."""
    outputs: dict[str, Any] = {"logits": np.full((rows, 2), [number, 0.0], np.float32), "other": np.zeros(rows)}
    one.note(Note(of, described(of, outputs), "direct", number * 10**9, 2_000_000, ""))


def seconds(kafka: Kafka) -> list[int]:
    return [int(event.ce_time.timestamp()) for event in kafka.events]


async def test_calls_become_events_in_their_order_with_scores_a_row(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    async with direct(kafka, tmp_path) as one:
        for number in range(1, 1_001):
            note(one, number, of, rows=1 + number % 2)
        await until(lambda: len(kafka.events) == 1_500)
    assert seconds(kafka) == sorted(seconds(kafka))
    assert len({event.ce_id for event in kafka.events}) == 1_500
    first = kafka.events[0].value.prediction
    assert (first.model, first.version, first.role, first.scores[0].class_name) == ("m", "1", "direct", "a")
    assert (first.latency_ms, kafka.events[0].key) == (2.0, "model/m")


async def test_a_model_that_nobody_described_has_events_without_scores(tmp_path: Path) -> None:
    kafka = Kafka()
    async with direct(kafka, tmp_path) as one:
        note(one, 1, version(card=None), rows=5)
        await until(lambda: bool(kafka.events))
    assert [len(event.value.prediction.scores) for event in kafka.events] == [0]


async def test_while_kafka_is_away_nothing_is_lost_and_the_order_holds(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    async with direct(kafka, tmp_path, most=100) as one:
        kafka.away = True
        for number in range(1, 501):
            note(one, number, of)
            if number % 100 == 0:
                await until(lambda: not one._notes)
        kafka.away = False
        await until(lambda: len(kafka.events) == 500)
    assert seconds(kafka) == list(range(1, 501))


async def test_what_a_stop_leaves_on_disk_is_said_by_the_next_start(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    kafka.away = True
    async with direct(kafka, tmp_path) as one:
        for number in range(1, 301):
            note(one, number, of)
    assert kafka.events == []
    kafka.away = False
    async with direct(kafka, tmp_path) as one:
        note(one, 301, of)
        await until(lambda: len(kafka.events) == 301)
    assert seconds(kafka) == list(range(1, 302))
    async with direct(kafka, tmp_path):
        await asyncio.sleep(0.2)
    assert len(kafka.events) == 301


async def test_what_a_kill_took_from_memory_is_counted_at_the_next_start(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    before = SERVING_DIRECT_DROPPED._value.get()
    killed = await DirectEvents(
        Publisher.of_predictions(cast(Bus, kafka), tmp_path), "serving-0", 100, tmp_path, 64 << 20
    ).__aenter__()
    for number in range(1, 8):
        note(killed, number, of)  # and nothing flushes it
    async with direct(kafka, tmp_path) as one:
        assert SERVING_DIRECT_DROPPED._value.get() == before + 7
        note(one, 8, of)
        await until(lambda: len(kafka.events) == 1)
    async with direct(kafka, tmp_path):
        assert SERVING_DIRECT_DROPPED._value.get() == before + 7


async def test_more_than_memory_may_hold_is_dropped_and_never_blocks(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    async with direct(kafka, tmp_path, most=10) as one:
        for number in range(1, 31):
            note(one, number, of)
        await until(lambda: len(kafka.events) == 10)
    assert seconds(kafka) == list(range(1, 11))


async def test_a_record_that_cannot_be_read_is_counted_and_stops_none_behind_it(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    before = SERVING_DIRECT_DROPPED._value.get()
    kafka.away = True
    async with direct(kafka, tmp_path) as one:
        note(one, 1, of, rows=3)
    for card in (tmp_path / "cards").glob("*.json"):
        card.write_text("{")
    kafka.away = False
    other = version(replace(CARD, classes=("c", "d")))
    async with direct(kafka, tmp_path) as one:
        note(one, 2, other)
        await until(lambda: bool(kafka.events))
    assert seconds(kafka) == [2]
    assert SERVING_DIRECT_DROPPED._value.get() == before + 3


async def test_an_event_that_kafka_refuses_is_counted_and_the_others_are_published_in_order(tmp_path: Path) -> None:
    kafka, of = Kafka(), version()
    kafka.refused = 5
    before = SERVING_DIRECT_DROPPED._value.get()
    async with direct(kafka, tmp_path) as one:
        for number in range(1, 11):
            note(one, number, of)
        await until(lambda: len(kafka.events) == 9)
    assert seconds(kafka) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert SERVING_DIRECT_DROPPED._value.get() == before + 1


async def test_a_process_that_cannot_be_started_is_tried_again_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives: list[int] = []

    async def live() -> bool:
        lives.append(1)
        if len(lives) < 3:
            raise OSError("no more processes")
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(child, "RETRY_S", (0.01, 0.02))
    task = asyncio.create_task(child.keep("publisher", live))
    await until(lambda: len(lives) == 3)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
