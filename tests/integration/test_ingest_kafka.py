"""Ingest as a process on a real Kafka: nothing lost, nothing doubled, and every malformed frame answered."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import ASSET_STORED, FRAME_CAPTURED, FRAME_REJECTED

from services.common.bus import KafkaBus, Record, Topic
from services.common.bus.connection import make_producer
from services.common.bus.deadletter import letters, replay
from services.common.settings import CommonSettings, KafkaSettings
from tests.integration.ingest_house import IngestProcess, running_ingest, running_kafka
from tests.unit.ingest.pictures import encoded, jpeg, jpeg_that_declares, png_that_declares
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

PARTITIONS = 6
JPEG = [("content-type", b"image/jpeg")]
PROTOBUF = [("content-type", b"application/protobuf")]
Frame = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value, headers."""


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    async with running_kafka(tmp_path / "kafka") as settings:
        yield settings


@pytest.fixture
async def ingest(tmp_path: Path, kafka: KafkaSettings) -> AsyncIterator[IngestProcess]:
    async with running_ingest(tmp_path / "home", kafka) as process:
        yield process


@pytest.fixture
async def bus(tmp_path: Path, kafka: KafkaSettings) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(CommonSettings(home=tmp_path / "reader", kafka=kafka), "test") as bus:
        yield bus


async def send(kafka: KafkaSettings, frames: Sequence[Frame]) -> int:
    """How many frames the broker acknowledged."""
    producer: AIOKafkaProducer = make_producer(kafka, "camera", linger_ms=5)
    await producer.start()
    try:
        waits = [
            await producer.send(FRAME_CAPTURED.name, value, key=key, headers=headers) for key, value, headers in frames
        ]
        return len(await asyncio.gather(*waits))
    finally:
        await producer.stop()


async def all_of(bus: KafkaBus, topic: Topic[Any]) -> list[Record]:
    """Every committed record of a topic."""
    return [record for number in range(PARTITIONS) for record in await bus.read(topic, number)]


async def eventually(count: Any, wanted: int, seconds: float = PATIENCE_S) -> int:
    """Poll until the count is reached, then look once more after a moment: too many is as wrong as too few."""
    found = -1
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while found < wanted:
                await asyncio.sleep(0.2)
                found = await count()
    await asyncio.sleep(0.5)
    return max(found, int(await count()))


def malformed(number: int) -> Frame:
    """One of twelve kinds of bad frames; the bytes differ from frame to frame."""
    tail = number.to_bytes(4, "big")
    ahead = pb.FrameCaptured(camera_id="gate-1", image=jpeg())
    ahead.captured_at.GetCurrentTime()
    ahead.captured_at.seconds += 86_400 + number
    kinds: list[Frame] = [
        (b"gate-1", jpeg(seed=number)[:-7], JPEG),
        (b"gate-1", b"GIF89a" + tail, JPEG),
        (b"gate-1", b"", JPEG),
        (b"gate-1", png_that_declares(60_000 + number, 60_000), [("content-type", b"image/png")]),
        (b"gate-1", jpeg_that_declares(60_000, 5_000 + number), JPEG),
        (b"gate-1", b"hello " + tail, JPEG),
        (b"gate-1", ahead.SerializeToString(), PROTOBUF),
        (b"gate-1", jpeg(6, 6, seed=number), JPEG),
        (b"gate-1", b"\x0a\xff\xff" + tail, PROTOBUF),
        (b"odd id " + tail, jpeg(), JPEG),
        (b"gate-1", jpeg() + tail, []),
        (b"gate-1", jpeg() + tail, [("content-type", b"text/plain")]),
    ]
    return kinds[number % len(kinds)]


async def test_every_malformed_frame_is_a_rejection_or_a_dead_letter_and_good_ones_go_on(
    kafka: KafkaSettings, ingest: IngestProcess, bus: KafkaBus
) -> None:
    bad = [malformed(number) for number in range(1_200)]
    assert await send(kafka, bad) == 1_200

    async def answered() -> int:
        return len(await all_of(bus, FRAME_REJECTED)) + len(await letters(bus))

    assert await eventually(answered, 1_200) == 1_200
    rejections = [pb.FrameRejected.FromString(one.value).rejection for one in await all_of(bus, FRAME_REJECTED)]
    reasons = Counter(pb.RejectionReason.Name(one.reason).removeprefix("REJECTION_REASON_") for one in rejections)
    assert reasons == {
        "TRUNCATED": 100,
        "NOT_AN_IMAGE": 200,
        "EMPTY": 100,
        "TOO_MANY_PIXELS": 200,
        "CLOCK": 100,
        "TOO_SMALL": 100,
    }
    dead = await letters(bus, FRAME_CAPTURED.name)
    assert Counter(letter.reason for letter in dead) == {
        "PROTOBUF_BAD": 100,
        "CAMERA_ID_ODD": 100,
        "CONTENT_TYPE_MISSING": 100,
        "CONTENT_TYPE_UNKNOWN": 100,
    }
    assert sorted(letter.record.value for letter in dead) == sorted(bad[n][1] for n in range(1_200) if n % 12 >= 8)
    async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client:
        listed = (await client.get("/api/v1/rejections", params={"limit": 1})).json()
        assert listed["counts"] == reasons
    kept = {path.read_bytes() for path in (ingest.home / "objects" / "sha256").rglob("*") if path.is_file()}
    assert kept >= {bad[n][1] for n in range(1_200) if n % 12 < 8 and n % 12 not in (2, 6)}

    good = encoded("JPEG", 2000, 1500, quality=98)
    await send(kafka, [(b"gate-1", good, JPEG)])

    async def stored() -> int:
        return len(await all_of(bus, ASSET_STORED))

    assert await eventually(stored, 1) == 1
    async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client:
        (asset,) = (await client.get("/api/v1/assets")).json()["assets"]
        assert (await client.get(f"/api/v1/assets/{asset['id']}/content")).content == good


async def test_a_replayed_dead_letter_takes_effect_once(
    kafka: KafkaSettings, ingest: IngestProcess, bus: KafkaBus
) -> None:
    await send(kafka, [(b"gate-1", jpeg(), [])])

    async def dead() -> int:
        return len(await letters(bus))

    assert await eventually(dead, 1) == 1
    (letter,) = await letters(bus)
    fixed = [(name, value) for name, value in letter.record.headers if name != "content-type"]
    record = letter.record
    object.__setattr__(record, "headers", (*fixed, *JPEG))
    for _ in range(3):
        await replay(bus, [letter])

    async def stored() -> int:
        return len(await all_of(bus, ASSET_STORED))

    assert await eventually(stored, 1) == 1
    async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client:
        (asset,) = (await client.get("/api/v1/assets")).json()["assets"]
    assert datetime.fromisoformat(asset["captured_at"]) == record.first_seen, "not the time of the replay"


async def test_kills_in_the_middle_of_a_stream_lose_and_double_nothing(
    kafka: KafkaSettings, ingest: IngestProcess, bus: KafkaBus
) -> None:
    frames = [
        (f"cam-{number % 7}".encode(), jpeg(28, 28, seed=number) if number % 10 else b"bad %d" % number, JPEG)
        for number in range(3000)
    ]
    sending = asyncio.create_task(send(kafka, frames))
    moments = random.Random(7)
    for _ in range(4):
        await asyncio.sleep(moments.uniform(0.2, 0.8))
        ingest.kill()
        ingest.start()
        await ingest.ready()
    assert await sending == 3000

    async def stored() -> int:
        return len(await all_of(bus, ASSET_STORED))

    async def distinct() -> int:
        return len({record.header("ce_id") for record in await all_of(bus, ASSET_STORED)})

    assert await eventually(distinct, 2700) == 2700
    assert await stored() >= 2700

    async def rejected() -> int:
        return len({record.header("ce_id") for record in await all_of(bus, FRAME_REJECTED)})

    assert await eventually(rejected, 300) == 300
    async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client:
        cameras = (await client.get("/api/v1/cameras")).json()["cameras"]
        assert sum(camera["frames"] for camera in cameras) == 2700
        counts = (await client.get("/api/v1/rejections", params={"limit": 1})).json()["counts"]
        assert counts == {"NOT_AN_IMAGE": 300}
    listed = await _listed(ingest)
    assert listed == {(record.header("ce_id") or b"").decode() for record in await all_of(bus, ASSET_STORED)}
    assert ingest.stop() == 0


async def _listed(ingest: IngestProcess) -> set[str]:
    ids: list[str] = []
    cursor = ""
    async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client:
        while True:
            page = (await client.get("/api/v1/assets", params={"limit": 1000, "cursor": cursor})).json()
            ids += [asset["id"] for asset in page["assets"]]
            cursor = page["next_cursor"]
            if not cursor:
                assert len(ids) == len(set(ids))
                return set(ids)


async def test_an_ingest_without_kafka_waits_and_says_so(tmp_path: Path) -> None:
    ingest = IngestProcess(tmp_path / "home", KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    ingest.start()
    try:
        async with httpx.AsyncClient(base_url=ingest.url, timeout=60) as client, asyncio.timeout(PATIENCE_S):
            while "Kafka" not in await _waiting_for(client):
                await asyncio.sleep(0.1)
        assert ingest.stop() == 0
    finally:
        if ingest.process is not None and ingest.process.poll() is None:
            ingest.kill()


async def _waiting_for(client: httpx.AsyncClient) -> str:
    """What `/readyz` says the service waits for; nothing while it does not listen yet."""
    try:
        answer = await client.get("/readyz")
    except httpx.TransportError:
        return ""
    assert answer.status_code == 503
    return str(answer.json()["waiting_for"])
