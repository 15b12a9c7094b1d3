"""Wires ingest: the only place that knows all its parts."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Final

from irisloop.ingest.v1 import ingest_pb2_grpc

from services.common.bus import KafkaBus
from services.common.bus.api import Bus
from services.common.database import Database
from services.common.http import create_http
from services.common.objects import ObjectStore
from services.common.outbox import OutboxRelay
from services.common.runtime import Application
from services.ingest.gate import Gate
from services.ingest.handlers import Ingest
from services.ingest.inbound.grpc import IngestServicer
from services.ingest.inbound.http import add_routes
from services.ingest.inbound.kafka import subscription
from services.ingest.outbound.inspector import PoolInspector
from services.ingest.outbound.ledger import SqlLedger
from services.ingest.outbound.tables import METADATA, MIGRATIONS
from services.ingest.settings import IngestSettings

SERVICE: Final = "ingest"


def build(settings: IngestSettings | None = None, bus: Bus | None = None) -> Application:
    """The service, wired and not yet started; settings come from the environment and the bus is Kafka by default."""
    settings = settings or IngestSettings()
    bus = bus or KafkaBus(settings.common, SERVICE)
    database = Database.of(settings.common, SERVICE, METADATA, MIGRATIONS)
    objects = ObjectStore(settings.common.objects, settings.common.durability)
    inspector = PoolInspector(settings.limits, settings.workers)
    ledger = SqlLedger(database, _now, settings.historical_after)
    ingest = Ingest(inspector, objects, ledger, Gate(settings.max_in_hand_bytes), _now, settings.max_portion_bytes)
    bus.subscribe(subscription(ingest, settings.max_batch, settings.linger_ms))
    http = create_http(SERVICE, max_body_bytes=settings.max_request_bytes)
    add_routes(http, ingest, max_files=settings.max_request_files, clock=_now, new_id=lambda: str(uuid.uuid4()))
    relay = OutboxRelay(database, bus)

    async def finish_and_relay() -> None:
        await ingest.finish_removals()
        await relay.run()

    return Application(
        name=SERVICE,
        settings=settings,
        resources=(database, objects, inspector, bus),
        tasks={"bus": bus.run, "outbox": finish_and_relay},
        http=http,
        grpc=lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(IngestServicer(ingest), server),
        ready=(bus.waiting_for,),
    )


def _now() -> datetime:
    return datetime.now(UTC)
