"""Wires registry together; nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import grpc
import yaml
from irisloop.registry.v1 import registry_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.database import Database
from services.common.errors import InvalidMessage, IrisloopError, why_unreadable
from services.common.http import create_http
from services.common.outbox import OutboxRelay
from services.common.runtime import Application
from services.common.telemetry import log
from services.registry.domain.policy import Policy, parse_policies
from services.registry.handlers import Handlers
from services.registry.inbound.grpc import RegistryServicer
from services.registry.inbound.http import routes
from services.registry.inbound.kafka import Listener
from services.registry.outbound.ledger import SqlLedgers
from services.registry.outbound.tables import metadata
from services.registry.settings import RegistrySettings

MIGRATIONS = Path(__file__).with_name("outbound") / "migrations"
LOOK_S = 60.0
"""Between two looks at the deadlines of stages, which are hours."""


class Deadlines(Protocol):
    """What knows of stages whose time is up."""

    async def end_overdue(self) -> Sequence[str]:
        """End them; the models whose they were."""


def build(settings: RegistrySettings | None = None, bus: Bus | None = None) -> Application:
    """Registry as an application; raises `InvalidMessage` when the policy file cannot be read."""
    settings = settings or RegistrySettings()
    bus = bus or KafkaBus(settings.common, service="registry")
    database = Database.of(settings.common, "registry", metadata, MIGRATIONS)
    handlers = Handlers(SqlLedgers(database), read_policies(settings.policy), partial(datetime.now, UTC))
    Listener(handlers).listen(bus)
    http = create_http("registry")
    http.include_router(routes(handlers))

    def add_services(server: grpc.aio.Server) -> None:
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(RegistryServicer(handlers), server)

    return Application(
        name="registry",
        settings=settings,
        resources=(database, bus),
        tasks={
            "bus": bus.run,
            "outbox": OutboxRelay(database, bus).run,
            "deadlines": partial(keep_deadlines, handlers),
        },
        http=http,
        grpc=add_services,
        ready=(bus.waiting_for,),
    )


async def keep_deadlines(handlers: Deadlines, seconds: float = LOOK_S) -> None:
    """End the stages whose time is up; a database that is away is asked again."""
    while True:
        try:
            for model in await handlers.end_overdue():
                log.info("stage_overdue", model=model)
        except IrisloopError as error:
            log.warning("deadlines_not_kept", error=str(error))
        await asyncio.sleep(seconds)


def read_policies(path: Path) -> tuple[Policy, ...]:
    """The policies of a YAML file, in its order. Raises `InvalidMessage`, naming the file and what is wrong in it."""
    try:
        return parse_policies(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidMessage(
            f"The policy file {path} cannot be read: {why_unreadable(error)}", field="policy"
        ) from error
    except InvalidMessage as error:
        raise InvalidMessage(f"The policy file {path} is not valid: {error}", field=error.field) from error
