"""The whole service on a bus in memory: what goes in by Kafka comes out as events, rows and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import ASSET_STORED, CAMERA_CHANGED, FRAME_CAPTURED, FRAME_REJECTED

from services.common.bus import MemoryBroker, MemoryBus
from services.common.settings import CommonSettings
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.unit.ingest.pictures import jpeg
from tests.waiting import until

JPEG = [("content-type", b"image/jpeg")]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[MemoryBus]:
    """A bus that the running service listens to."""
    bus = MemoryBus(MemoryBroker(), service="ingest")
    application = build(IngestSettings(common=CommonSettings(home=tmp_path)), bus)
    async with AsyncExitStack() as stack:
        for resource in application.resources:
            await stack.enter_async_context(resource)
        tasks = [asyncio.ensure_future(task()) for task in application.tasks.values()]
        yield bus
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def settled(bus: MemoryBus, stored: int, rejected: int, dead: int) -> None:
    """Wait, with a bound, until so many are answered."""

    def answered() -> tuple[int, int, int]:
        events = len(bus.events(ASSET_STORED)), len(bus.events(FRAME_REJECTED))
        return (*events, len(bus.dead_letters(FRAME_CAPTURED)))

    await until(lambda: answered() == (stored, rejected, dead), what="an answer to each frame")


async def test_every_frame_is_stored_rejected_or_dead_lettered_and_the_rest_goes_on(bus: MemoryBus) -> None:
    bus.send(FRAME_CAPTURED, jpeg(seed=1), key=b"gate-1", headers=JPEG)
    bus.send(FRAME_CAPTURED, b"text", key=b"gate-1", headers=JPEG)
    bus.send(FRAME_CAPTURED, b"odd key", key=b"gate 1", headers=JPEG)
    message = pb.FrameCaptured(camera_id="gate-2", image=jpeg(seed=2))
    bus.send(FRAME_CAPTURED, message.SerializeToString(), headers=[("content-type", b"application/protobuf")])
    bus.send(FRAME_CAPTURED, b"\xff\xff", headers=[("content-type", b"application/protobuf")])
    await settled(bus, 2, 1, 2)
    assert {delivery.key for delivery in bus.events(ASSET_STORED)} == {"gate-1", "gate-2"}
    assert {delivery.key for delivery in bus.events(CAMERA_CHANGED)} == {"gate-1", "gate-2"}
    assert {letter.value for letter in bus.dead_letters(FRAME_CAPTURED)} == {b"odd key", b"\xff\xff"}


async def test_the_same_ce_id_is_stored_once_wherever_it_comes_from(bus: MemoryBus) -> None:
    for image in (jpeg(seed=1), jpeg(seed=1), jpeg(seed=2)):
        bus.send(FRAME_CAPTURED, image, key=b"gate-1", headers=[*JPEG, ("ce_id", b"shot-7")])
    bus.send(FRAME_CAPTURED, jpeg(seed=1), key=b"gate-1", headers=JPEG)
    await settled(bus, 2, 0, 0)
    first, second = (delivery.value.asset for delivery in bus.events(ASSET_STORED))
    assert second.duplicate_of == first.id


async def test_the_trace_of_a_camera_goes_on_in_its_event(bus: MemoryBus) -> None:
    trace = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    bus.send(FRAME_CAPTURED, jpeg(), key=b"gate-1", headers=[*JPEG, ("traceparent", trace)])
    await settled(bus, 1, 0, 0)
    assert bus.events(ASSET_STORED)[0].traceparent.split("-")[1] == "a" * 32
