"""Wires serving together; nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from inference import grpc_service_pb2_grpc
from irisloop.serving.v1 import serving_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.database import Database
from services.common.http import create_http
from services.common.objects import ObjectStore
from services.common.runtime import Application
from services.common.signing import Verifier
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.inference import Inference
from services.serving.handlers.models import Models
from services.serving.handlers.predictions import Predictor
from services.serving.inbound.grpc import ServingServicer
from services.serving.inbound.http import routes
from services.serving.inbound.kafka import Listener
from services.serving.inbound.oip import InferenceServicer
from services.serving.outbound.bindings import SqlBindings
from services.serving.outbound.deployments import DeploymentEvents
from services.serving.outbound.direct import DirectEvents, NoEvents
from services.serving.outbound.images import ImageThreads
from services.serving.outbound.models import Packages
from services.serving.outbound.tables import metadata
from services.serving.settings import ServingSettings

MIGRATIONS = Path(__file__).with_name("outbound") / "migrations"
STREAM_BATCH = 200
"""Most assets in one transaction of a partition."""


def build(settings: ServingSettings | None = None, bus: Bus | None = None) -> Application:
    """Serving as an application; made inside the event loop it will run in."""
    settings = settings or ServingSettings()
    common = settings.common
    bus = bus or KafkaBus(common, service="serving")
    replica = f"serving-{common.replica}"
    clock = partial(datetime.now, UTC)
    objects = ObjectStore(common.objects, common.durability)
    database = Database.of(common, "serving", metadata, MIGRATIONS)
    bindings = Bindings(SqlBindings(database), settings.bindings_refresh_s)
    packages = _packages(settings, objects)
    models = Models(packages, DeploymentEvents(bus, replica), clock)
    images = ImageThreads(settings.decode_threads)
    predictor = Predictor(lambda: models.table, bindings, objects, images, clock, settings.stream_batch)
    direct = DirectEvents(bus, replica, settings.direct_buffer, clock)
    inference = Inference(lambda: models.table, direct if settings.direct_events else NoEvents(), clock)
    Listener(models, bindings, predictor, replica, settings.dedup_tail).listen(bus, STREAM_BATCH)
    http = create_http("serving")
    http.include_router(routes(bindings, models, replica))

    def waiting_for() -> str:
        return "; ".join(filter(None, (wait() for wait in http.state.waits)))

    def add_services(server: grpc.aio.Server) -> None:
        servicer = InferenceServicer(lambda: models.table, inference, waiting_for)
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        serving_pb2_grpc.add_ServingServiceServicer_to_server(ServingServicer(bindings, models, replica), server)

    tasks: dict[str, Any] = {"bus": bus.run, "bindings": bindings.refresh, "direct": direct.run}
    return Application(
        name="serving",
        settings=settings,
        resources=(objects, database, packages, bindings, images, bus, models),
        tasks=tasks,
        http=http,
        grpc=add_services,
        ready=(bus.waiting_for,),
    )


def _packages(settings: ServingSettings, objects: ObjectStore) -> Packages:
    return Packages(
        objects,
        Verifier.of_home(settings.common.home),
        allow_unsigned=settings.allow_unsigned,
        threads=settings.threads,
        max_batch=settings.max_batch,
        most_queued=settings.queue,
    )
