"""Serving wired as in production on the bus in memory, with a home of its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.serving.v1 import serving_pb2, serving_pb2_grpc
from irisloop.topics import ASSET_STORED, CAMERA_CHANGED, DEPLOYMENT_CHANGED, PREDICTION_MADE
from PIL import Image

from services.common.bus import Delivery, Event, MemoryBroker, MemoryBus, Topic
from services.common.bus.memory_listeners import MemoryFollow
from services.common.objects import ObjectStore
from services.common.runtime import Application, Runtime
from services.common.settings import CommonSettings
from services.serving.app import build
from services.serving.domain.routes import RouteTable
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.models import Models
from services.serving.outbound.shadowing.process import ShadowProcess
from services.serving.settings import ServingSettings
from tests.unit.serving.tiny import NOON, SIDE
from tests.waiting import until


def settings_of(home: Path, replica: int = 0, **fields: Any) -> ServingSettings:
    """Free ports, and a home that is the test's."""
    common = CommonSettings(home=home, replica=replica)
    return ServingSettings(common=common, http_port=0, grpc_port=0, metrics_port=None, **fields)


@dataclass
class House:
    """A running serving and what a test needs around it."""

    bus: MemoryBus
    objects: ObjectStore
    home: Path
    runtime: Runtime
    application: Application

    @property
    def address(self) -> str:
        """Of its gRPC."""
        return f"127.0.0.1:{self.runtime.ports['grpc_port']}"

    @property
    def http(self) -> str:
        """Of its HTTP."""
        return f"http://127.0.0.1:{self.runtime.ports['http_port']}"

    def predictions(self) -> list[serving_pb2.Prediction]:
        """Every prediction event, oldest first."""
        return [delivery.value.prediction for delivery in self.bus.events(PREDICTION_MADE)]

    def prediction_events(self) -> list[Delivery[serving_pb2.PredictionMade]]:
        """Every prediction as it was published."""
        return self.bus.events(PREDICTION_MADE)

    def asset_events(self) -> list[Delivery[ingest_pb2.AssetStored]]:
        """Every asset as it was published."""
        return self.bus.events(ASSET_STORED)

    def deployments(self) -> list[serving_pb2.Deployment]:
        """Every change said, oldest first."""
        return [delivery.value.deployment for delivery in self.bus.events(DEPLOYMENT_CHANGED)]

    def revisions(self, model: str = "clothes") -> list[int]:
        """The alias revision that this serving follows now, if any."""
        route = self.table.routes.get(model)
        return [route.revision] if route is not None else []

    @property
    def table(self) -> RouteTable:
        """The route table in force."""
        (models,) = (one for one in self.application.resources if isinstance(one, Models))
        return models.routes.table

    async def rollouts(self) -> list[serving_pb2.AppliedRollout]:
        """As this serving applies them."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = serving_pb2_grpc.ServingServiceStub(channel)
            return list((await stub.ListRollouts(serving_pb2.ListRolloutsRequest())).rollouts)

    def shadow_pid(self) -> int:
        """Of the process that runs versions beside others; 0 when there is none."""
        process = getattr(self.application.tasks["shadow"], "__self__", None)
        assert isinstance(process, ShadowProcess)
        return process.pid

    def cameras(self, model: str, role: str = "champion") -> Sequence[str]:
        """Those that this serving knows to be bound."""
        (bindings,) = (one for one in self.application.resources if isinstance(one, Bindings))
        return bindings.cameras(model, role)

    def bound(self, camera: str) -> bool:
        """Whether this serving knows a binding of the camera."""
        (bindings,) = (one for one in self.application.resources if isinstance(one, Bindings))
        return bool(bindings.bound(camera))

    async def quiet(self) -> None:
        """Return once everything published has been consumed."""
        broker = self.bus.broker
        group = "irisloop.serving.predict-assets"

        def consumed() -> bool:
            return all(
                broker.committed[group, topic, partition] >= len(log)
                for (topic, partition), log in list(broker.logs.items())
                if topic == ASSET_STORED.name
            )

        await until(consumed)

    async def followed(self, topic: Topic[Any]) -> None:
        """Return once this serving has read everything of a topic that each instance reads whole."""
        logs = self.bus.broker.logs
        follows = [one for one in self.bus._listeners if isinstance(one, MemoryFollow) and one._follow.topic == topic]
        assert follows, f"nobody follows {topic.name}"
        await until(
            lambda: all(
                one._positions[partition] >= len(log)
                for one in follows
                for (name, partition), log in list(logs.items())
                if name == topic.name
            )
        )

    async def publish(self, *events: Event[Any]) -> None:
        """Say something, as another service would."""
        await self.bus.publish(events)


@asynccontextmanager
async def serving(home: Path, broker: MemoryBroker | None = None, **fields: Any) -> AsyncIterator[House]:
    """Serving until the end of the block."""
    bus = MemoryBus(broker or MemoryBroker(), service="serving")
    settings = settings_of(home, **fields)
    application = build(settings, bus)
    runtime = Runtime(application)
    task = asyncio.create_task(runtime.run())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_stopped, runtime, task)
        await until(lambda: task.done() or not runtime.waiting_for())
        if task.done():
            task.result()
        yield House(bus, ObjectStore(settings.common.objects), home, runtime, application)


async def _stopped(runtime: Runtime, task: asyncio.Task[int]) -> None:
    runtime.stop()
    await task


def picture(seed: int, side: int = SIDE) -> bytes:
    """A grey PNG of random pixels."""
    pixels = np.random.RandomState(seed).randint(0, 256, (side, side)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def asset(
    number: int, digest: str, camera: str = "gate-1", *, trace: str = "", historical: bool = False
) -> Event[ingest_pb2.AssetStored]:
    """`asset stored`."""
    stamp = Timestamp()
    stamp.FromDatetime(NOON + timedelta(seconds=number))
    found = ingest_pb2.Asset(
        id=f"asset-{number}",
        camera_id=camera,
        captured_at=stamp,
        object=ingest_pb2.StoredObject(digest=digest, content_type="image/png"),
        statistics=ingest_pb2.PixelStatistics(brightness=0.5, contrast=0.25, frame_difference=0.125),
        historical=historical,
    )
    value = ingest_pb2.AssetStored(asset=found)
    return Event(ASSET_STORED, camera, value, f"asset-{number}", NOON + timedelta(seconds=number), trace)


def camera(name: str, **tags: str) -> Event[ingest_pb2.CameraChanged]:
    """`camera changed`."""
    value = ingest_pb2.CameraChanged(camera=ingest_pb2.Camera(id=name, tags=tags))
    return Event(CAMERA_CHANGED, name, value, f"camera-{name}-{sorted(tags.items())}", NOON)
