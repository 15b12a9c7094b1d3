"""Wires trainer together; nothing else does."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import grpc
from irisloop.trainer.v1 import trainer_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.database import Database
from services.common.errors import IrisloopError
from services.common.http import create_http
from services.common.outbox import OutboxRelay
from services.common.runtime import Application
from services.common.telemetry import log
from services.trainer.evaluation import Evaluations
from services.trainer.handlers import Handlers
from services.trainer.inbound.grpc import TrainerServicer
from services.trainer.inbound.http import routes
from services.trainer.inbound.kafka import Listener
from services.trainer.outbound.book import SqlBooks
from services.trainer.outbound.neighbours import Neighbours
from services.trainer.outbound.processes import ChildProcesses
from services.trainer.outbound.tables import metadata
from services.trainer.scheduler import Scheduler
from services.trainer.settings import TrainerSettings

MIGRATIONS = Path(__file__).with_name("outbound") / "migrations"


def build(settings: TrainerSettings | None = None, bus: Bus | None = None) -> Application:
    """Trainer as an application."""
    settings = settings or TrainerSettings()
    common = settings.common
    bus = bus or KafkaBus(common, service="trainer")
    database = Database.of(common, "trainer", metadata, MIGRATIONS)
    books, neighbours = SqlBooks(database), Neighbours(common.addresses)
    launcher = ChildProcesses(common.home.absolute() / "trainer" / "runs")
    clock = partial(datetime.now, UTC)
    labeling, registry = neighbours.labeling, neighbours.registry
    scheduler = Scheduler(books, labeling, registry, launcher, settings, clock)
    handlers = Handlers(books, labeling, registry, clock, lambda: str(uuid.uuid4()), scheduler.wake)
    evaluations = Evaluations(books, labeling, registry, launcher, settings, clock)
    Listener(handlers).listen(bus)
    http = create_http("trainer")
    http.include_router(routes(handlers))

    def add_services(server: grpc.aio.Server) -> None:
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(TrainerServicer(handlers, evaluations), server)

    return Application(
        name="trainer",
        settings=settings,
        resources=(database, neighbours, bus),
        tasks={
            "bus": bus.run,
            "outbox": OutboxRelay(database, bus).run,
            "runs": scheduler.run,
            "labels": partial(refresh_labels, handlers, settings.label_poll_seconds),
        },
        http=http,
        grpc=add_services,
        ready=(bus.waiting_for,),
    )


async def refresh_labels(handlers: Handlers, seconds: float) -> None:
    """Keep what waiting runs say about their labels true."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await handlers.refresh_waiting()
        except IrisloopError as error:
            log.warning("labels_not_refreshed", error=str(error))
