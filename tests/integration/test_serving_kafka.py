"""Serving as processes on a real Kafka: every asset of a bound camera is predicted once, whatever is killed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from irisloop.ingest.v1 import ingest_pb2
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import FRAME_CAPTURED

from services.common.bus import Bus, KafkaBus
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings, KafkaSettings
from tests.integration.ingest_house import running_kafka
from tests.integration.serving_house import ServingProcess, followed, predictions, running_serving
from tests.unit.serving import tiny
from tests.unit.serving.house import asset, picture
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

CAMERAS = [f"gate-{number}" for number in range(12)]


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    async with running_kafka(tmp_path / "kafka") as settings:
        yield settings


@pytest.fixture
async def bus(tmp_path: Path, kafka: KafkaSettings) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(CommonSettings(home=tmp_path / "reader", kafka=kafka), "ingest") as bus:
        yield bus


async def publish_version(bus: Bus, home: Path, revision: int) -> None:
    """A champion of that number."""
    package = await tiny.store(ObjectStore(str(home / "objects")), home, tiny.package_files(revision))
    await bus.publish([tiny.aliases(revision, champion=(str(revision), package))])


async def publish_assets(bus: Bus, home: Path, numbers: Sequence[int]) -> None:
    """Assets from all cameras, in turns."""
    digests = await ObjectStore(str(home / "objects")).put_many([picture(seed) for seed in range(10)])
    await bus.publish([asset(number, digests[number % 10], CAMERAS[number % 12]) for number in numbers])


async def said_by(bus: Bus, replica: str) -> bool:
    """Whether the replica has made a prediction."""
    return any(one.replica == replica for one in await predictions(bus))


async def settled(bus: Bus, count: int, seconds: float = PATIENCE_S) -> list[pb.Prediction]:
    """The camera predictions once there are `count`, and two seconds later still."""
    deadline = time.monotonic() + seconds
    found: list[pb.Prediction] = []
    while len(found) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
        found = [one for one in await predictions(bus) if one.role != "direct"]
    await asyncio.sleep(2.0)
    return [one for one in await predictions(bus) if one.role != "direct"]


def assert_each_once_in_order(found: Sequence[pb.Prediction], count: int) -> None:
    """Every asset has one prediction, and each camera's stand in the order of its assets."""
    assert Counter(one.asset_id for one in found) == Counter({f"asset-{number}": 1 for number in range(count)})
    assert not [one.error for one in found if one.error]
    by_camera: dict[str, list[int]] = defaultdict(list)
    for one in found:
        by_camera[one.camera_id].append(int(one.asset_id.removeprefix("asset-")))
    assert all(numbers == sorted(numbers) for numbers in by_camera.values())


async def test_two_replicas_one_killed_no_asset_without_a_prediction_and_none_with_two(
    tmp_path: Path, kafka: KafkaSettings, bus: KafkaBus
) -> None:
    home = tmp_path / "home"
    async with running_serving(home, kafka, 0) as first, running_serving(home, kafka, 1) as second:
        await first.bind("tiny", "champion", "nothing-yet")
        await first.bind("clothes", "champion", "gate-*")
        await publish_version(bus, home, 1)
        await followed(first, "clothes", 1)
        await followed(second, "clothes", 1)
        await second.knows("tiny", "clothes")
        for batch in range(20):
            await publish_assets(bus, home, range(batch * 100, batch * 100 + 100))
            await asyncio.sleep(0.05)
            if batch == 6:
                await until(lambda: said_by(bus, "serving-1"))
                second.kill()
        found = await settled(bus, 2000)
        assert_each_once_in_order(found, 2000)
        assert {one.replica for one in found} == {"serving-0", "serving-1"}


async def test_a_killed_serving_goes_on_where_its_last_transaction_ended(
    tmp_path: Path, kafka: KafkaSettings, bus: KafkaBus
) -> None:
    home = tmp_path / "home"
    async with running_serving(home, kafka) as serving:
        await serving.bind("clothes", "champion", "gate-*")
        await publish_version(bus, home, 1)
        await followed(serving, "clothes", 1)
        for batch in range(20):
            await publish_assets(bus, home, range(batch * 50, batch * 50 + 50))
            await asyncio.sleep(0.05)
            if batch in (4, 12):
                serving.kill()
                await publish_assets(bus, home, range(batch * 50, batch * 50 + 50))  # an outbox says it again
                serving.start()
        await serving.ready()
        assert_each_once_in_order(await settled(bus, 1000), 1000)
        assert serving.stop() == 0


async def test_tritonclient_calls_through_a_swap_and_not_one_call_fails(
    tmp_path: Path, kafka: KafkaSettings, bus: KafkaBus
) -> None:
    home = tmp_path / "home"
    async with running_serving(home, kafka) as serving:
        await publish_version(bus, home, 1)
        await followed(serving, "clothes", 1)
        answered: Counter[str] = Counter()
        enough = threading.Event()
        calls = asyncio.create_task(asyncio.to_thread(call_until, serving, enough, answered))
        try:
            for revision in range(1, 5):
                if revision > 1:
                    await publish_version(bus, home, revision)
                await until(lambda version=str(revision): calls.done() or answered[version] > 50)  # type: ignore[misc]
        finally:
            enough.set()
        await calls
        assert list(answered) == ["1", "2", "3", "4"]
        await until(lambda: said_directly(bus, 0.9 * sum(answered.values()) - 50))


async def said_directly(bus: Bus, count: float) -> bool:
    """Whether so many calls have become events."""
    return sum(one.role == "direct" for one in await predictions(bus)) >= count


def call_until(serving: ServingProcess, enough: threading.Event, answered: Counter[str]) -> None:
    """Count the versions that answer, in the order of their first answer; raises when any call fails."""
    with contextlib.closing(triton.InferenceServerClient(serving.address)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("clothes")
        tensor = triton.InferInput("image", [1, 1, 4, 4], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 1, 4, 4), np.uint8))
        while not enough.is_set():
            answer = client.infer("clothes", [tensor])
            answered[answer.get_response().model_version] += 1
            time.sleep(0.005)


async def test_sampled_inputs_are_encoded_and_published_by_the_process_beside(
    tmp_path: Path, kafka: KafkaSettings, bus: KafkaBus
) -> None:
    home = tmp_path / "home"
    async with running_serving(home, kafka, sample_share="1", sample_drift_share="0.5") as serving:
        await publish_version(bus, home, 1)
        await followed(serving, "clothes", 1)
        answered: Counter[str] = Counter()
        enough = threading.Event()
        calls = asyncio.create_task(asyncio.to_thread(call_until, serving, enough, answered))
        await until(lambda: calls.done() or answered["1"] > 50)
        enough.set()
        await calls
        frames: list[ingest_pb2.FrameCaptured] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(frames) < answered["1"]:
                await asyncio.sleep(0.3)
                records = [record for unit in range(6) for record in await bus.read(FRAME_CAPTURED, unit)]
                frames = [ingest_pb2.FrameCaptured.FromString(record.value) for record in records]
        await until(lambda: said_directly(bus, answered["1"]))
        made = {one.id for one in await predictions(bus)}
        assert {frame.sampled.prediction_id for frame in frames} == made
        assert {(frame.camera_id, frame.content_type) for frame in frames} == {("calls/clothes", "image/png")}
        assert {frame.sampled.propensity for frame in frames} == {1.0}
        assert serving.stop() == 0


async def test_two_replicas_of_one_number_do_not_fight(tmp_path: Path, kafka: KafkaSettings) -> None:
    async with (
        running_serving(tmp_path / "one", kafka) as older,
        running_serving(tmp_path / "two", kafka) as newer,
        httpx.AsyncClient(timeout=60) as client,
    ):

        async def waits_for(one: ServingProcess) -> str:
            return str((await client.get(f"{one.url}/readyz")).json()["waiting_for"])

        async with asyncio.timeout(PATIENCE_S):
            while "has the same IRISLOOP_REPLICA=0" not in await waits_for(older):
                await asyncio.sleep(0.2)
        for _ in range(20):
            assert "give each replica a number of its own" in await waits_for(older)
            assert await waits_for(newer) == ""
            await asyncio.sleep(0.2)
        assert older.log.read_text().count("replica_number_taken") == 1
        assert newer.log.read_text().count("replica_number_taken") == 0
        assert newer.stop() == 0
        await older.ready()
