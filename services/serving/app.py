"""Wires serving together; nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from irisloop.serving.v1 import serving_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.database import Database
from services.common.http import create_http
from services.common.metrics import SERVING_UNREAD
from services.common.objects import ObjectStore
from services.common.runtime import Application
from services.common.signing import Verifier
from services.serving.domain.images import ImageLimits
from services.serving.domain.notes import NoEvents, Notes
from services.serving.domain.restrictions import Restrictions
from services.serving.domain.routes import CHAMPION, Routes
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.catalog import Catalog
from services.serving.handlers.controls import Controls
from services.serving.handlers.deployments import Deployments
from services.serving.handlers.drifts import Drifts
from services.serving.handlers.inference import Inference
from services.serving.handlers.models import Models
from services.serving.handlers.predictions import Predictor
from services.serving.handlers.repository import Repository
from services.serving.handlers.rollouts import Rollouts
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound.grpc import ServingServicer
from services.serving.inbound.http import routes as http_routes
from services.serving.inbound.kafka import Listener
from services.serving.inbound.native import NativeFront
from services.serving.inbound.oip import InferenceService
from services.serving.inbound.unread import Unread
from services.serving.inbound.v2.app import ROAD, InferenceApp
from services.serving.outbound.allocator import keep_large_blocks_apart
from services.serving.outbound.backends.onnx import Options
from services.serving.outbound.backends.opening import Opener
from services.serving.outbound.bindings import SqlBindings
from services.serving.outbound.deployments import DeploymentEvents
from services.serving.outbound.direct import DirectEvents
from services.serving.outbound.folder import Folder
from services.serving.outbound.images import ImageThreads
from services.serving.outbound.loading import LoadedFolder
from services.serving.outbound.metrics import StatisticsCollector
from services.serving.outbound.packages import Packages
from services.serving.outbound.publishing.process import PublisherProcess
from services.serving.outbound.publishing.publisher import Publisher
from services.serving.outbound.sampling import Sampling
from services.serving.outbound.scheduling import Pool
from services.serving.outbound.shadowing.process import ShadowProcess
from services.serving.outbound.shared_memory import SystemRegions
from services.serving.outbound.tables import metadata
from services.serving.settings import ServingSettings

MIGRATIONS = Path(__file__).with_name("outbound") / "migrations"
STREAM_BATCH = 200
"""Most assets in one transaction of a partition."""


@dataclass
class Parts:
    """What an application is put together from, in the order in which it is entered."""

    resources: list[AbstractAsyncContextManager[Any]] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)
    ready: list[Callable[[], str]] = field(default_factory=list)
    servicers: list[Callable[[grpc.aio.Server], None]] = field(default_factory=list)


def build(settings: ServingSettings | None = None, bus: Bus | None = None) -> Application:
    """Serving as an application; made inside the event loop it will run in."""
    settings = settings or ServingSettings()
    keep_large_blocks_apart()
    http = create_http("serving")
    routes = Routes()
    rollouts = Rollouts(lambda: routes.table)
    pool = Pool(settings.workers)
    parts = Parts(resources=[pool, StatisticsCollector(lambda: routes.table)])
    notes: Notes = NoEvents()
    deployments = None
    if not settings.standalone:
        notes, deployments = _add_loop(parts, settings, routes, rollouts, pool, bus, http)
    loader = _add_folder(parts, settings, routes, pool, deployments)

    def waiting_for() -> str:
        return "; ".join(filter(None, (wait() for wait in http.state.waits)))

    regions = SystemRegions()
    limits = ImageLimits(settings.image_mb << 20, settings.image_pixels)
    inference = Inference(lambda: routes.table, rollouts, notes, regions, pool.put, limits, settings.sampling.keeps)
    catalog = Catalog(lambda: routes.table, waiting_for, loader)
    restricted = Restrictions.parse(settings.grpc_restricted)
    controls = Controls(lambda: routes.table)
    memory = SharedMemory(regions, offered=settings.shared_memory)
    unread = Unread(settings.unread_mb << 20)
    unread.add_road(ROAD, lambda: http.state.unsent())
    SERVING_UNREAD.set_function(unread.waiting)
    service = InferenceService(inference, catalog, memory, controls, restricted, unread)
    parts.servicers.append(lambda server: server.add_generic_rpc_handlers((service,)))

    def add_services(server: grpc.aio.Server) -> None:
        for add in parts.servicers:
            add(server)

    return Application(
        name="serving",
        settings=settings,
        resources=parts.resources,
        tasks=parts.tasks,
        http=http,
        grpc=add_services,
        max_message_bytes=settings.max_request_mb << 20,
        front=_front(settings, inference, restricted, unread),
        wrap=lambda inner: InferenceApp(
            inner,
            inference,
            catalog,
            memory,
            controls,
            Restrictions.parse(settings.http_restricted, prefix=""),
            settings.max_request_mb << 20,
            unread,
        ),
        ready=parts.ready,
    )


def _front(
    settings: ServingSettings, inference: Inference, restricted: Restrictions, unread: Unread
) -> NativeFront | None:
    """What takes gRPC calls before grpcio does. Raises `CannotStart` where it cannot do what the settings want."""
    if settings.transport == "grpcio":
        return None
    return NativeFront(inference, restricted, settings.max_request_mb << 20, settings.queue, unread)


def _add_folder(
    parts: Parts, settings: ServingSettings, routes: Routes, pool: Pool, deployments: Deployments | None
) -> Repository | None:
    """The model folder, when there is one."""
    if not settings.model_repository:
        return None
    opener = Opener(Options(threads=settings.threads), lambda: routes.table)
    folder = LoadedFolder(
        Folder.open(settings.model_repository, config_name=settings.model_config_name),
        opener,
        pool,
        lambda: routes.table,
        most_queued=settings.queue,
        strict=settings.strict_config,
        default_max_batch=settings.default_max_batch,
    )
    repository = Repository(
        folder,
        routes,
        settings.model_control,
        settings.load_models,
        settings.poll_s,
        exit_on_error=settings.exit_on_error,
        deployments=deployments,
    )
    parts.resources += [folder, repository]
    parts.tasks["model folder"] = repository.run
    if settings.strict_readiness:
        parts.ready.append(repository.failed)
    return repository


def _add_loop(
    parts: Parts,
    settings: ServingSettings,
    routes: Routes,
    rollouts: Rollouts,
    pool: Pool,
    given: Bus | None,
    http: Any,
) -> tuple[Notes, Deployments]:
    """What follows registry and cameras; returns what makes events of clients' calls, and who says what is loaded.

    A process beside this one publishes clients' calls on Kafka; on a bus that is `given`, this one does.
    """
    common = settings.common
    bus = given or KafkaBus(common, service="serving")
    replica = f"serving-{common.replica}"
    clock = partial(datetime.now, UTC)
    objects = ObjectStore(common.objects, common.durability)
    database = Database.of(common, "serving", metadata, MIGRATIONS)
    bindings = Bindings(SqlBindings(database), settings.bindings_refresh_s)
    rollouts.cameras = lambda model: bindings.cameras(model, CHAMPION)
    packages = _packages(settings, objects, pool)
    deployments = Deployments(DeploymentEvents(bus, replica), clock)
    models = Models(packages, routes, deployments)
    images = ImageThreads(settings.decode_threads)
    predictor = Predictor(lambda: routes.table, bindings, rollouts, objects, images, clock, settings.stream_batch)
    policy, drifts = settings.sampling, Drifts()
    follows = drifts if any(rule.drift_share for rule in policy.rules) else None
    Listener(models, bindings, predictor, replica, settings.dedup_tail, follows).listen(bus, STREAM_BATCH)
    http.include_router(http_routes(bindings, models, lambda: routes.table, replica))
    servicer = ServingServicer(bindings, models, rollouts, replica)
    parts.servicers.append(lambda server: serving_pb2_grpc.add_ServingServiceServicer_to_server(servicer, server))
    parts.resources += [objects, database, packages, bindings, images, bus, models]
    parts.tasks |= {"bus": bus.run, "bindings": bindings.refresh, "deployments": deployments.run}
    parts.ready.append(bus.waiting_for)
    if not settings.direct_events:
        return NoEvents(), deployments
    folder = common.home / "spool" / replica
    sampling = None
    if any(rule.active for rule in policy.rules):
        sampling = Sampling(policy, drifts.drifting, folder, settings.sample_mb << 20)
    publishing = Publisher.of_predictions(given, folder) if given else PublisherProcess(folder)
    if given and sampling:
        parts.tasks["samples"] = Publisher.of_samples(given, folder).run
    direct = DirectEvents(publishing, replica, settings.direct_buffer, folder, settings.spool_mb << 20, sampling)
    parts.resources.append(direct)
    parts.tasks["direct"] = direct.run
    shadow = ShadowProcess(lambda: routes.table, direct, rollouts.count, common.objects, settings.shadow_mb << 20)
    rollouts.beside = shadow
    parts.tasks["shadow"] = shadow.run
    return direct, deployments


def _packages(settings: ServingSettings, objects: ObjectStore, pool: Pool) -> Packages:
    return Packages(
        objects,
        Verifier.of_home(settings.common.home),
        pool,
        allow_unsigned=settings.allow_unsigned,
        options=Options(threads=settings.threads),
        max_batch=settings.max_batch,
        most_queued=settings.queue,
    )
