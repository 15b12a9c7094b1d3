"""Wires labeling together; nothing else does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
from irisloop.labeling.v1 import labeling_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.database import Database
from services.common.http import create_http
from services.common.objects import ObjectStore
from services.common.outbox import OutboxRelay
from services.common.runtime import Application
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.ports import Ledgers
from services.labeling.handlers.assets import AssetHandlers
from services.labeling.handlers.datasets import DatasetHandlers
from services.labeling.handlers.draws import DrawHandlers
from services.labeling.handlers.drift import DriftHandlers
from services.labeling.handlers.keeping import Keeper
from services.labeling.handlers.labels import LabelHandlers
from services.labeling.handlers.probes import ProbeHandlers
from services.labeling.handlers.tasks import TaskHandlers
from services.labeling.handlers.versions import VersionHandlers
from services.labeling.inbound.calls import Handlers
from services.labeling.inbound.grpc import LabelingServicer
from services.labeling.inbound.http import routes
from services.labeling.inbound.kafka import Listener
from services.labeling.outbound.ingest import IngestDirectory
from services.labeling.outbound.ledger import SqlLedgers
from services.labeling.outbound.manifests import ParquetManifests
from services.labeling.outbound.tables import metadata
from services.labeling.settings import LabelingSettings

MIGRATIONS = Path(__file__).with_name("outbound") / "migrations"
DAY_US = 86_400_000_000


def build(settings: LabelingSettings | None = None, bus: Bus | None = None) -> Application:
    """Labeling as an application."""
    settings = settings or LabelingSettings()
    common = settings.common
    bus = bus or KafkaBus(common, service="labeling")
    database = Database.of(common, "labeling", metadata, MIGRATIONS)
    objects = ObjectStore(common.objects, common.durability)
    directory = IngestDirectory(common.addresses.ingest)
    ledgers, policy = SqlLedgers(database), policy_of(settings)
    versions = VersionHandlers(ledgers, ParquetManifests(objects), clock, policy)
    handlers = Handlers(
        LabelHandlers(ledgers, directory, clock, versions.wake),
        TaskHandlers(ledgers, clock, versions.wake),
        DatasetHandlers(ledgers, clock),
        versions,
    )
    probes = ProbeHandlers(ledgers, clock, policy)
    listener(ledgers, policy, versions.wake, probes).listen(bus)
    http = create_http("labeling")
    http.include_router(routes(handlers))

    def add_services(server: grpc.aio.Server) -> None:
        labeling_pb2_grpc.add_LabelingServiceServicer_to_server(LabelingServicer(handlers), server)

    return Application(
        name="labeling",
        settings=settings,
        resources=(database, objects, directory, bus),
        tasks=_tasks(
            bus, database, versions, Keeper(ledgers, clock, settings.kept_predictions, _kept(settings), probes)
        ),
        http=http,
        grpc=add_services,
        ready=(bus.waiting_for,),
    )


def listener(ledgers: Ledgers, policy: DrawPolicy, on_requests: Callable[[], None], probes: ProbeHandlers) -> Listener:
    """What hears the bus."""
    return Listener(
        AssetHandlers(ledgers, clock),
        DrawHandlers(ledgers, clock, policy, on_requests),
        DriftHandlers(ledgers, clock, policy),
        probes,
    )


def _tasks(
    bus: Bus, database: Database, versions: VersionHandlers, keeper: Keeper
) -> dict[str, Callable[[], Awaitable[None]]]:
    relay = OutboxRelay(database, bus)
    return {"bus": bus.run, "outbox": relay.run, "requests": versions.run, "keeping": keeper.run}


def policy_of(settings: LabelingSettings) -> DrawPolicy:
    """The part of the settings that draws go by."""
    return DrawPolicy(
        uniform_share=settings.uniform_share,
        uniform_floor=settings.uniform_floor,
        tasks_per_second=settings.tasks_per_second,
        uncertainty_share=settings.uncertainty_share,
        drift_tasks=settings.drift_tasks,
        drift_share=settings.drift_share,
        request_share=settings.request_share,
        request_uncertainty=settings.request_uncertainty,
        request_surplus=settings.request_surplus,
        open_tasks=settings.open_tasks,
    )


def _kept(settings: LabelingSettings) -> int:
    return int(settings.kept_days * DAY_US)


def clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000
