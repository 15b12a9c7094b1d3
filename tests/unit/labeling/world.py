"""A labeling service for tests: its own database file and object folder, a memory bus, a clock that is set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import (
    ANNOTATION_CONFIRMED,
    ASSET_DELETED,
    ASSET_STORED,
    DATASET_VERSION_CREATED,
    DRIFT_DETECTED,
    PREDICTION_MADE,
)

from services.common.bus import Delivery, Event, MemoryBroker, MemoryBus, derive_id
from services.common.database import Database, sqlite_url
from services.common.objects import ObjectStore
from services.common.outbox import OutboxRelay
from services.labeling import codec
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Asset, Label, StoredObject
from services.labeling.handlers.assets import AssetHandlers
from services.labeling.handlers.datasets import DatasetHandlers
from services.labeling.handlers.draws import DrawHandlers
from services.labeling.handlers.drift import DriftHandlers
from services.labeling.handlers.keeping import Keeper
from services.labeling.handlers.labels import LabelHandlers
from services.labeling.handlers.probes import ProbeHandlers
from services.labeling.handlers.tasks import Answer, TaskHandlers
from services.labeling.handlers.versions import VersionHandlers
from services.labeling.inbound.calls import Handlers
from services.labeling.inbound.kafka import Listener
from services.labeling.outbound.ledger import SqlLedgers
from services.labeling.outbound.manifests import ParquetManifests
from services.labeling.outbound.tables import metadata

MIGRATIONS = Path(__file__).parents[3] / "services" / "labeling" / "outbound" / "migrations"
START = 1_790_000_000_000_000
SECOND = 1_000_000
CLASSES = ("coat", "shirt", "boot")


@dataclass
class Directory:
    """Ingest, as far as labeling asks it."""

    known: dict[str, Asset] = field(default_factory=dict)

    async def find(self, asset_id: str) -> Asset | None:
        """From what the test put in."""
        return self.known.get(asset_id)


@dataclass
class World:
    """Labeling, wired as the app wires it, and words for what its neighbours say."""

    database: Database
    objects: ObjectStore
    bus: MemoryBus
    policy: DrawPolicy
    now: int = START
    directory: Directory = field(default_factory=Directory)

    def __post_init__(self) -> None:
        """Wire."""
        self.ledgers = SqlLedgers(self.database)
        self.versions = VersionHandlers(self.ledgers, ParquetManifests(self.objects), self.clock, self.policy)
        self.labels = LabelHandlers(self.ledgers, self.directory, self.clock, self.versions.wake)
        self.tasks = TaskHandlers(self.ledgers, self.clock, self.versions.wake)
        self.datasets = DatasetHandlers(self.ledgers, self.clock)
        self.handlers = Handlers(self.labels, self.tasks, self.datasets, self.versions)
        self.draws = DrawHandlers(self.ledgers, self.clock, self.policy, self.versions.wake)
        self.probes = ProbeHandlers(self.ledgers, self.clock, self.policy)
        self.keeper = Keeper(self.ledgers, self.clock, 1_000, 7 * 86_400 * SECOND, self.probes)
        drift = DriftHandlers(self.ledgers, self.clock, self.policy)
        Listener(AssetHandlers(self.ledgers, self.clock), self.draws, drift, self.probes).listen(self.bus)
        self.relay = OutboxRelay(self.database, self.bus)

    def clock(self) -> int:
        """What the test says."""
        return self.now

    async def settle(self) -> None:
        """Deliver everything, serve open requests once, publish everything."""
        await self.bus.settle()
        for request in await self.ledgers.read(lambda ledger: ledger.datasets.open_requests()):
            await self.versions._serve(request)
        while await self.relay._publish_batch():
            pass
        await self.bus.settle()

    async def send(self, *events: Event[Any]) -> None:
        """Publish and settle."""
        await self.bus.publish(events)
        await self.settle()

    async def confirmed(self) -> list[Delivery[pb.AnnotationConfirmed]]:
        """What was said about labels."""
        await self.settle()
        return self.bus.events(ANNOTATION_CONFIRMED)

    async def created(self) -> list[Delivery[pb.DatasetVersionCreated]]:
        """What was said about versions."""
        await self.settle()
        return self.bus.events(DATASET_VERSION_CREATED)

    async def answer_all(self, class_name: str = "", most: int = 10_000) -> int:
        """Lease and answer until the queue is empty, agreeing with the model unless a class is given."""
        answered = 0
        while answered < most and (tasks := await self.tasks.lease(min(100, most - answered), 60, "", "ann")):
            answers = []
            for task in tasks:
                assert task.suggestion is not None
                answers.append(Answer(task.id, (Label(class_name or task.suggestion.class_name),)))
            await self.tasks.answer(answers, "ann")
            answered += len(tasks)
        return answered


@asynccontextmanager
async def world(
    folder: Path, policy: DrawPolicy | None = None, broker: MemoryBroker | None = None
) -> AsyncIterator[World]:
    """Opened on a folder; opening it again is a restart."""
    database = Database(sqlite_url(folder, "labeling"), metadata)
    objects = ObjectStore(str(folder / "objects"))
    async with database, objects:
        yield World(database, objects, MemoryBus(broker, service="labeling"), policy or DrawPolicy())


def asset(name: str, camera: str = "gate-1", at: int = START, content: str = "") -> Asset:
    """An asset; its object is named by `content`, its own when empty."""
    digest = derive_id("object", content or name).replace("-", "") * 2
    return Asset(derive_id("asset", name), camera, at, StoredObject(digest, 100, "image/png"))


def stored(one: Asset) -> Event[ingest_pb2.AssetStored]:
    """Ingest's event."""
    message = ingest_pb2.Asset(
        id=one.id,
        camera_id=one.camera_id,
        captured_at=codec.timestamp(one.captured_at),
        object=codec.object_message(one.object),
    )
    at = codec.moment(one.captured_at)
    return Event(ASSET_STORED, one.camera_id, ingest_pb2.AssetStored(asset=message), one.id, at)


def deleted(one: Asset) -> Event[ingest_pb2.AssetDeleted]:
    """Ingest's event."""
    value = ingest_pb2.AssetDeleted(asset_id=one.id, camera_id=one.camera_id, reason="asked for")
    return Event(ASSET_DELETED, one.camera_id, value, derive_id("deleted", one.id), codec.moment(one.captured_at))


def predicted(
    one: Asset, class_name: str = "coat", *, role: str = "champion", margin: float = 0.9, historical: bool = False
) -> Event[serving_pb2.PredictionMade]:
    """Serving's event, of model `garments`."""
    identity = derive_id("prediction", one.id, "garments", role)
    message = serving_pb2.Prediction(
        id=identity,
        asset_id=one.id,
        camera_id=one.camera_id,
        model="garments",
        version="3",
        role=role,
        captured_at=codec.timestamp(one.captured_at),
        scores=[serving_pb2.Score(class_name=class_name, score=(1 + margin) / 2)],
        features=serving_pb2.Features(margin=margin),
        historical=historical,
    )
    value = serving_pb2.PredictionMade(prediction=message)
    return Event(PREDICTION_MADE, f"camera/{one.camera_id}", value, identity, codec.moment(one.captured_at))


def drift(revision: int, **fields: Any) -> Event[monitor_pb2.DriftDetected]:
    """Monitor's event about incident `i-1`; `began_at` and `closed_at` are microseconds."""
    times: dict[str, Any] = {
        name: codec.timestamp(fields.pop(name)) for name in ("began_at", "closed_at") if name in fields
    }
    incident = monitor_pb2.Incident(id="i-1", model="garments", **times, **fields)
    value = monitor_pb2.DriftDetected(incident=incident, revision=revision)
    identity = derive_id("drift", "i-1", str(revision))
    return Event(DRIFT_DETECTED, "garments", value, identity, codec.moment(START))


def stream(count: int, *, first: int = 0, cameras: Sequence[str] = ("gate-1", "gate-2")) -> list[Asset]:
    """Frames, ten a second, cameras in turn."""
    return [
        asset(f"frame-{number}", cameras[number % len(cameras)], START + number * SECOND // 10)
        for number in range(first, first + count)
    ]
