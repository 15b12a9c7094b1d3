"""Wires monitor together; nothing else does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import yaml
from irisloop.monitor.v1 import monitor_pb2_grpc

from services.common.bus import Bus, KafkaBus
from services.common.errors import why_unreadable
from services.common.http import create_http
from services.common.runtime import Application
from services.monitor.commands import Commands
from services.monitor.domain.history import CLOSED
from services.monitor.domain.notices import AnyTarget, targets_of
from services.monitor.domain.policy import Policy
from services.monitor.domain.sql import Limits
from services.monitor.errors import BrokenNotices, BrokenPolicy
from services.monitor.handlers import Judge
from services.monitor.inbound import analytics, notices
from services.monitor.inbound.grpc import MonitorServicer
from services.monitor.inbound.http import routes
from services.monitor.inbound.http_incidents import routes as incident_routes
from services.monitor.inbound.http_views import view_routes
from services.monitor.inbound.sql import SqlFront, serve
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import ClickHouse, NoAnalytics
from services.monitor.outbound.embedded import EmbeddedReader
from services.monitor.outbound.history import ClickHouseHistory
from services.monitor.outbound.notifying import Sender
from services.monitor.queries import AccuracySource, Reader
from services.monitor.settings import MonitorSettings


def build(settings: MonitorSettings | None = None, bus: Bus | None = None) -> Application:
    """Monitor as an application. Raises `BrokenPolicy`."""
    settings = settings or MonitorSettings()
    bus = bus or KafkaBus(settings.common, service="monitor")
    policy = read_policy(settings.policy)
    judge = Judge(policy, settings.ticks)
    resources: list[AbstractAsyncContextManager[Any]] = []
    tasks: dict[str, Callable[[], Awaitable[None]]] = {"bus": bus.run}
    ready: list[Callable[[], str]] = [bus.waiting_for]
    waiting: Callable[[], str] = _not_here
    if "detection" in settings.roles:
        drift = DriftStream(judge, settings.pace_seconds)
        bus.stream(drift.stream())
        ready.append(drift.waiting_for)
        waiting = drift.waiting_for
        notices.subscribe(bus, read_targets(settings.notices), Sender().send)
    accuracy: AccuracySource = NoAnalytics()
    history = CLOSED
    if "analytics" in settings.roles:
        home = settings.common.home.absolute()
        accuracy = warehouse = ClickHouse(home / "clickhouse", settings.clickhouse_url, settings.analytics_days)
        history = ClickHouseHistory(warehouse, policy.quality)
        analytics.subscribe(bus, warehouse)
        resources.append(warehouse)
        tasks["clickhouse"] = warehouse.open
        if settings.sql and not settings.clickhouse_url:
            tasks["sql"] = _sql(settings, warehouse)
    reader = Reader(judge, accuracy, history)
    http = create_http("monitor")
    commands = Commands(judge, bus.publish, waiting)
    http.include_router(routes(reader))
    http.include_router(view_routes(reader))
    http.include_router(incident_routes(reader, commands))

    def add_services(server: grpc.aio.Server) -> None:
        servicer = MonitorServicer(reader, commands)
        monitor_pb2_grpc.add_MonitorServiceServicer_to_server(servicer, server)

    return Application(
        name="monitor",
        settings=settings,
        resources=(*resources, bus),
        tasks=tasks,
        http=http,
        grpc=add_services,
        ready=tuple(ready),
    )


def _not_here() -> str:
    return "a monitor with the role `detection`"


def _sql(settings: MonitorSettings, warehouse: ClickHouse) -> Callable[[], Awaitable[None]]:
    """ClickHouse's protocol for others, once the engine in process is open."""

    async def run() -> None:
        await warehouse.opened()
        limits = Limits(settings.sql_max_seconds, settings.sql_max_rows, settings.sql_max_memory_mb)
        async with EmbeddedReader(warehouse.path, limits) as engine:
            front = SqlFront(engine, settings.sql_password.get_secret_value())
            await serve(front, settings.sql_host, settings.sql_port)

    return run


def read_policy(path: Path) -> Policy:
    """The policy of a YAML file. Raises `BrokenPolicy`, naming the field."""
    try:
        return Policy.read(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BrokenPolicy(f"{path} cannot be read: {why_unreadable(error)}", field="policy") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenPolicy(f"{path}: {error}", field="policy") from error


def read_targets(path: Path | None) -> list[AnyTarget]:
    """Who is told of alerts. Raises `BrokenNotices`, naming the field."""
    if path is None:
        return []
    try:
        return targets_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BrokenNotices(f"{path} cannot be read: {why_unreadable(error)}", field="notices") from error
    except ValueError as error:
        raise BrokenNotices(f"{path}: {error}", field="notices") from error
