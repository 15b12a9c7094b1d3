"""What the commands read from a real broker: how far groups are behind, and predictions of every kind of question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ALERT_RAISED, ASSET_STORED, PREDICTION_MADE

from services.common.bus import Event, KafkaBus
from services.common.settings import CommonSettings, KafkaSettings
from services.local.lag import LagReader
from services.local.ports import free_port
from services.local.predictions import PredictionTopic
from services.local.settings import LocalSettings
from services.local.supervisor import Supervisor
from services.monitor.domain.notices import AnyTarget, Notice, Webhook
from services.monitor.inbound import notices
from tests.contract.houses import running
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
NOW = datetime.now(UTC)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[CommonSettings]:
    """A broker with all topics and no services."""
    port = free_port(set())
    local = LocalSettings(
        kafka_port=port, kafka_controller_port=free_port({port}), min_free_mb=1, common=CommonSettings(home=tmp_path)
    )
    async with Supervisor(local, only=[], embed_kafka=True) as supervisor:
        await supervisor.wait_ready(120)
        yield CommonSettings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers=supervisor.bootstrap_servers))


def prediction(name: str, camera: str, version: str) -> Event[serving_pb2.PredictionMade]:
    made = serving_pb2.Prediction(id=name, asset_id=f"asset-{name}", camera_id=camera, model="shoes", version=version)
    made.predicted_at.FromDatetime(NOW)
    value = serving_pb2.PredictionMade(prediction=made)
    return Event(PREDICTION_MADE, f"camera/{camera}", value, ce_id=name, ce_time=NOW)


async def tell_one(broker: CommonSettings) -> None:
    """An alert, and one target that is told of it: a group which no topic names in full."""
    told = asyncio.Event()

    async def send(target: AnyTarget, notice: Notice) -> None:
        told.set()

    bus = KafkaBus(broker, "monitor")
    notices.subscribe(bus, [Webhook(name="hook", url="http://127.0.0.1:9")], send)
    async with running(bus):
        value = monitor_pb2.AlertRaised(id="alert", model="shoes", severity="page")
        await bus.publish([Event(ALERT_RAISED, "shoes", value, ce_id="alert", ce_time=NOW)])
        async with asyncio.timeout(PATIENCE_S):
            await told.wait()


async def test_lag_and_predictions_are_read_from_the_broker(broker: CommonSettings) -> None:
    cameras = [f"gate-{number}" for number in range(12)]
    async with KafkaBus(broker, "serving") as bus:
        await bus.publish([prediction(f"p-{camera}", camera, "1") for camera in cameras])
        await bus.publish([prediction("late", "gate-3", "2")])
        stored = [ingest_pb2.AssetStored(asset=ingest_pb2.Asset(id=c, camera_id=c)) for c in cameras]
        await bus.publish([Event(ASSET_STORED, v.asset.id, v, ce_id=v.asset.id, ce_time=NOW) for v in stored])

    async with LagReader(broker.kafka.bootstrap_servers, broker) as reader:
        groups = await until(reader.by_group)  # a broker that has just started may not know its groups yet
        lags = {(group.service, group.handler, group.topic): group.lag for group in groups}
        assert lags["serving", "predict-assets", ASSET_STORED.name] == 12
        assert lags["labeling", "draw-tasks", PREDICTION_MADE.name] == 13
        assert (await reader.by_service())["labeling"] == 25

        assert ("monitor", "tell-hook", ALERT_RAISED.name) not in lags
        await tell_one(broker)

        async def later() -> dict[tuple[str, str], int]:
            return {(group.service, group.handler): group.lag for group in await reader.by_group()}

        lags_later = await until(later)
        assert lags_later["monitor", "tell-hook"] == 0

    topic = PredictionTopic(broker)
    found = await topic.by_id("p-gate-7")
    assert found is not None
    assert found.camera_id == "gate-7"
    assert await topic.by_id("p-gate-99") is None
    assert [one.id for one in await topic.newest("shoes", "2")] == ["late"]
    assert len(await topic.newest("shoes", "1")) == 12
    asset = ingest_pb2.Asset(id="asset-late", camera_id="gate-3")
    asset.stored_at.FromDatetime(NOW)
    assert [one.id for one in await topic.of_asset(asset)] == ["late"]
