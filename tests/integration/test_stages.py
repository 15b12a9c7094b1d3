"""A version on its way through registry, serving and monitor together, on one bus: nobody decides but the policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc.aio as triton
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc
from irisloop.topics import ANNOTATION_CONFIRMED, CHALLENGER_JUDGED, PREDICTION_MADE

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.runtime import Runtime
from services.common.settings import CommonSettings
from services.monitor.app import build as build_monitor
from services.monitor.settings import MonitorSettings
from services.registry.app import build as build_registry
from services.registry.settings import RegistrySettings
from services.serving.domain.bindings import Binding
from tests.unit.serving import tiny
from tests.unit.serving.house import House, asset, camera, picture, serving
from tests.unit.serving.test_protocol import IMAGES, image
from tests.unit.serving.test_stream import bind
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

POLICY = """
policies:
  - models: "*"
    stages:
      - {stage: shadow, pairs: 60}
      - {stage: canary, share: 0.5}
"""
COMPARED_S = 150.0
"""A shadow runs when nobody else wants the machine, which may be seldom."""
AT_ONCE = 20
"""Assets between two looks."""


@dataclass
class Loop:
    """The three services."""

    serving: House
    registry: registry_pb2_grpc.RegistryServiceAsyncStub

    async def model(self) -> pb.Model:
        """As registry has it."""
        return (await self.registry.GetModel(pb.GetModelRequest(model="clothes"))).model

    async def champion(self) -> str:
        """Its version."""
        return next(one.version for one in (await self.model()).aliases if one.name == "champion")

    async def register(self, run: str, seed: int) -> str:
        """A tiny package as a version; two of one seed answer the same."""
        files = tiny.package_files(seed, run_id=run)
        package = await tiny.store(self.serving.objects, self.serving.home, files)
        request = pb.RegisterVersionRequest(model="clothes", package=package, run_id=run, class_names=tiny.CLASSES)
        return (await self.registry.RegisterVersion(request)).version.version

    async def begin(self, seed: int) -> str:
        """Version 1 is champion; another is on its way, by the policy's stages. Returns it once serving compares it."""
        await self.register("run-1", 1)
        await self.registry.Promote(pb.PromoteRequest(model="clothes", version="1"))
        other = await self.register("run-2", seed)
        wish = pb.PutRolloutRequest(model="clothes", challenger=other, stage=pb.STAGE_SHADOW, automatic=True)
        await self.registry.PutRollout(wish)
        await until(lambda: "2" in self.serving.table.routes.get("clothes", EMPTY).versions)
        return other

    async def heard(self) -> None:
        """Return once monitor has read every prediction and label: else it would judge what was asked minutes ago."""
        broker, topics = self.serving.bus.broker, (PREDICTION_MADE.name, ANNOTATION_CONFIRMED.name)
        await until(
            lambda: all(
                broker.committed["irisloop.monitor.judge-drift", topic, partition] >= len(log)
                for (topic, partition), log in list(broker.logs.items())
                if topic in topics
            )
        )

    def judgements(self) -> list[str]:
        """Monitor's verdicts, oldest first."""
        return [found.value.verdict for found in self.serving.bus.events(CHALLENGER_JUDGED)]


@dataclass(frozen=True)
class _Empty:
    versions: tuple[str, ...] = ()


EMPTY: Any = _Empty()


@asynccontextmanager
async def loop(home: Path) -> AsyncIterator[Loop]:
    """Registry, serving and monitor on one bus in memory."""
    broker, common = MemoryBroker(), CommonSettings(home=home)
    policy = await asyncio.to_thread(_written, home / "policy.yaml")
    async with AsyncExitStack() as stack:
        registry = build_registry(
            RegistrySettings(common=common, http_port=0, grpc_port=0, policy=policy),
            MemoryBus(broker, service="registry"),
        )
        monitor = build_monitor(
            MonitorSettings(common=common, http_port=0, grpc_port=0, roles=("detection",), pace_seconds=0.05),
            MemoryBus(broker, service="monitor"),
        )
        ports = await stack.enter_async_context(_running(registry))
        await stack.enter_async_context(_running(monitor))
        house = await stack.enter_async_context(serving(home, broker))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc_port']}"))
        yield Loop(house, registry_pb2_grpc.RegistryServiceStub(channel))


def _written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(POLICY)
    return path


@asynccontextmanager
async def _running(application: Any) -> AsyncIterator[dict[str, int]]:
    runtime = Runtime(application)
    task = asyncio.create_task(runtime.run())
    await until(lambda: task.done() or not runtime.waiting_for())
    if task.done():
        task.result()
    try:
        yield runtime.ports
    finally:
        runtime.stop()
        await task


async def test_a_bad_version_is_withdrawn_by_itself_and_never_answered_a_client(tmp_path: Path) -> None:
    async with loop(tmp_path) as found:
        await found.begin(seed=3)  # which names another class for each of the images
        answered = set()
        async with triton.InferenceServerClient(found.serving.address) as client:

            async def ask() -> bool:
                for row in range(3):
                    answer = await client.infer("clothes", [image(IMAGES[row : row + 1])])
                    answered.add(answer.get_response().model_version)
                return not (await found.model()).HasField("rollout")

            await until(ask, COMPARED_S)
        assert answered == {"1"}
        assert found.judgements()[-1] == "worse"
        assert await found.champion() == "1"
        history = (await found.registry.ListHistory(pb.ListHistoryRequest(model="clothes", limit=1))).moves
        assert history[0].alias == "rollout/shadow" and "disagreement" in history[0].reason


async def test_an_equal_version_goes_through_its_stages_and_becomes_champion(tmp_path: Path) -> None:
    cameras = [f"gate-{number}" for number in range(4)]
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with loop(tmp_path) as found:
        house = found.serving
        await house.publish(*(camera(name) for name in cameras))
        await found.begin(seed=1)
        digest = await house.objects.put(picture(1))
        began = datetime.now(UTC)
        number = 0

        async def more() -> bool:
            nonlocal number
            for _ in range(AT_ONCE):
                number += 1
                at = began + timedelta(seconds=number)
                stored = moved(asset(number, digest, cameras[number % 4]), at)
                await house.publish(stored, label(stored, at))
            await house.quiet()
            await found.heard()
            return await found.champion() == "2"

        await until(more, COMPARED_S)
        stages = {one.alias for one in (await history(found))}
        assert {"rollout/shadow", "rollout/canary", "champion"} <= stages
        assert "worse" not in found.judgements()
        assert not (await found.model()).HasField("rollout")
        roles = {(one.role, one.version) for one in house.predictions() if one.rollout_id}
        assert {("champion", "1"), ("shadow", "2")} <= roles


async def history(found: Loop) -> list[pb.AliasMove]:
    """All moves."""
    return list((await found.registry.ListHistory(pb.ListHistoryRequest(model="clothes", limit=100))).moves)


def moved(event: Event[ingest_pb2.AssetStored], at: datetime) -> Event[ingest_pb2.AssetStored]:
    """The asset, captured at another time."""
    event.value.asset.captured_at.FromDatetime(at)
    return replace(event, ce_time=at)


def label(stored: Event[ingest_pb2.AssetStored], at: datetime) -> Event[labeling_pb2.AnnotationConfirmed]:
    """A random draw's label; what it says is the same for both versions."""
    asset_id, stamp = stored.value.asset.id, Timestamp()
    stamp.FromDatetime(at)
    value = labeling_pb2.AnnotationConfirmed(
        annotation=labeling_pb2.Annotation(
            id=f"label-{asset_id}",
            asset_id=asset_id,
            camera_id=stored.value.asset.camera_id,
            captured_at=stamp,
            annotated_at=stamp,
            revision=1,
            labels=[labeling_pb2.Label(class_name="coat")],
        ),
        draw=labeling_pb2.Draw(origin=labeling_pb2.TASK_ORIGIN_UNIFORM, propensity=1.0),
        predictions=[labeling_pb2.PredictionReference(model="clothes", version="1", role="champion", class_name="bag")],
    )
    return Event(ANNOTATION_CONFIRMED, stored.key, value, f"label-{asset_id}", at)
