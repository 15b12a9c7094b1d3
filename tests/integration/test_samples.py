"""An input of a client's call on its way to ingest's asset, through serving and ingest on one bus."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import ASSET_STORED, DRIFT_DETECTED
from PIL import Image

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.runtime import Runtime
from services.common.settings import CommonSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.serving.domain.sampling import draws
from tests.unit.serving import tiny
from tests.unit.serving.house import House, picture, serving
from tests.unit.serving.test_protocol import IMAGES, image
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)


@asynccontextmanager
async def loop(home: Path, **fields: Any) -> AsyncIterator[tuple[House, str]]:
    """Serving with a model, and ingest; yields serving and ingest's address."""
    broker = MemoryBroker()
    settings = IngestSettings(common=CommonSettings(home=home), http_port=0, grpc_port=0, min_side_pixels=4)
    ingest = Runtime(build_ingest(settings, MemoryBus(broker, service="ingest")))
    task = asyncio.create_task(ingest.run())
    try:
        await until(lambda: task.done() or not ingest.waiting_for())
        async with serving(home, broker, **fields) as house:
            package = await tiny.store(house.objects, home, tiny.package_files(1))
            await house.publish(tiny.aliases(1, champion=("1", package)))
            await until(lambda: house.revisions() == [1])
            yield house, f"http://127.0.0.1:{ingest.ports['http_port']}"
    finally:
        ingest.stop()
        await task


def assets(house: House) -> list[ingest_pb2.Asset]:
    return [delivery.value.asset for delivery in house.bus.events(ASSET_STORED)]


async def call(house: House, *tensors: triton.InferInput) -> None:
    async with triton.InferenceServerClient(house.address) as client:
        for tensor in tensors:
            await client.infer("clothes", [tensor])


def drift(revision: int, closed: bool = False) -> Event[monitor_pb2.DriftDetected]:
    incident = monitor_pb2.Incident(id="i", model="clothes", state=monitor_pb2.MONITOR_STATE_ALARM)
    if closed:
        incident.closed_at.CopyFrom(Timestamp(seconds=1))
    value = monitor_pb2.DriftDetected(incident=incident, revision=revision)
    return Event(DRIFT_DETECTED, "clothes", value, f"i-{revision}", tiny.NOON)


async def test_a_share_of_tensors_becomes_assets_that_say_their_propensity(tmp_path: Path) -> None:
    async with loop(tmp_path, sample_share=0.5) as (house, address):
        await call(house, *[image(IMAGES)] * 20)
        await until(lambda: len(house.predictions()) == 60)
        chosen = {one.id for one in house.predictions() if draws(one.id)["share"] < 0.5}
        await until(lambda: len(assets(house)) == len(chosen))
        found = assets(house)
        assert {one.sampled.prediction_id for one in found} == chosen
        assert 10 < len(found) < 50
        assert {one.camera_id for one in found} == {"calls/clothes"}
        assert {one.sampled.propensity for one in found} == {0.5}
        assert {(one.sampled.model, one.sampled.version) for one in found} == {("clothes", "1")}
        stored = np.asarray(Image.open(io.BytesIO(await house.objects.get(found[0].object.digest))))
        assert any((stored == pixels[0]).all() for pixels in IMAGES)
        async with httpx.AsyncClient() as client:
            shown = (await client.get(f"{address}/api/v1/assets/{found[0].id}")).json()
        assert shown["sampled"] == {
            "propensity": 0.5,
            "prediction_id": found[0].sampled.prediction_id,
            "model": "clothes",
            "version": "1",
            "reasons": ["share"],
        }


async def test_an_encoded_image_is_kept_as_the_client_sent_it(tmp_path: Path) -> None:
    async with loop(tmp_path, sample_models=("clothes:share=1",)) as (house, _):
        file = picture(3, side=9)
        tensor = triton.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([file], dtype=np.object_))
        await call(house, tensor)
        await until(lambda: len(assets(house)) == 1)
        (found,) = assets(house)
        assert (await house.objects.get(found.object.digest), found.object.content_type) == (file, "image/png")
        assert (found.sampled.propensity, list(found.sampled.reasons)) == (1.0, ["share"])


async def test_answers_that_are_not_sure_are_kept_by_a_share_of_their_own(tmp_path: Path) -> None:
    async with loop(tmp_path, sample_low_share=1.0, sample_low_confidence=0.8) as (house, _):
        await call(house, *[image(IMAGES[at : at + 1]) for at in range(3)] * 2)
        await until(lambda: len(house.predictions()) == 6)
        unsure = {one.id for one in house.predictions() if one.features.max_probability < 0.8}
        await until(lambda: {one.sampled.prediction_id for one in assets(house)} == unsure)
        assert {tuple(one.sampled.reasons) for one in assets(house)} <= {("low_confidence",)}


async def test_while_drift_is_reported_more_is_kept(tmp_path: Path) -> None:
    async with loop(tmp_path, sample_drift_share=1.0) as (house, _):
        await call(house, image(IMAGES[:1]))
        await until(lambda: len(house.predictions()) == 1)
        await house.publish(drift(1))
        await house.followed(DRIFT_DETECTED)
        await call(house, image(IMAGES[1:2]))
        await until(lambda: len(assets(house)) == 1)
        await house.publish(drift(2, closed=True))
        await house.followed(DRIFT_DETECTED)
        await call(house, image(IMAGES[2:3]))
        await until(lambda: len(house.predictions()) == 3)
        (found,) = assets(house)
        assert found.sampled.prediction_id == house.predictions()[1].id
        assert list(found.sampled.reasons) == ["drift"]


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with loop(tmp_path) as (house, _):
        await call(house, image(IMAGES))
        await until(lambda: len(house.predictions()) == 3)
        assert assets(house) == []
        assert not (tmp_path / "spool" / "0" / "samples").exists()
