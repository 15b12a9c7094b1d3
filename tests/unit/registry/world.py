"""A registry for tests: its own database file, a memory bus, a clock that is set; and runs as trainer reports them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from irisloop.registry.v1 import registry_pb2
from irisloop.topics import RUN_FINISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Event, MemoryBroker, MemoryBus, Topic, derive_id
from services.common.database import Database, sqlite_url
from services.common.outbox import OUTBOX, OutboxRelay
from services.registry.app import MIGRATIONS
from services.registry.domain.policy import Policy
from services.registry.handlers import Handlers
from services.registry.inbound.kafka import Listener
from services.registry.outbound.ledger import SqlLedgers
from services.registry.outbound.tables import metadata

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@dataclass
class World:
    """Registry, wired as the app wires it."""

    database: Database
    bus: MemoryBus
    policies: Sequence[Policy]
    now: datetime = START

    def __post_init__(self) -> None:
        """Wire."""
        self.handlers = Handlers(SqlLedgers(self.database), self.policies, self.clock)
        Listener(self.handlers).listen(self.bus)
        self.relay = OutboxRelay(self.database, self.bus)

    def clock(self) -> datetime:
        """What the test says."""
        return self.now

    async def hear(self, *runs: trainer_pb2.Run, traceparent: str = TRACE) -> None:
        """Trainer says that the runs finished; registry judges them, and what it says is published."""
        await self.bus.publish([finished(run, traceparent) for run in runs])
        await self.settle()

    async def settle(self) -> None:
        """Deliver everything and publish everything."""
        await self.bus.settle()
        while await self.relay._publish_batch():
            pass

    async def waiting(self) -> list[Any]:
        """The outbox's rows, in order."""
        return await self.database.read(lambda c: list(c.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id)).all()))

    async def said(self, topic: Topic[Any]) -> list[Any]:
        """The values published on a topic, in order."""
        await self.settle()
        return [delivery.value for delivery in self.bus.events(topic)]

    async def aliases(self, model: str = "garments") -> dict[str, str]:
        """Where they point now."""
        return dict((await self.handlers.ledgers.read(lambda ledger: ledger.model(model))).aliases)


def database_in(folder: Path) -> Database:
    """SQLite; the contract tests put another database here."""
    return Database(sqlite_url(folder, "registry"), metadata, migrations=MIGRATIONS)


@asynccontextmanager
async def world(folder: Path, *policies: Policy, broker: MemoryBroker | None = None) -> AsyncIterator[World]:
    """Opened on a folder; opening it again on the same broker is a restart."""
    async with database_in(folder) as database:
        yield World(database, MemoryBus(broker, service="registry"), policies)


def finished(run: trainer_pb2.Run, traceparent: str = TRACE) -> Event[trainer_pb2.RunFinished]:
    """As trainer says it."""
    at = START + timedelta(minutes=1)
    value = trainer_pb2.RunFinished(run=run)
    return Event(RUN_FINISHED, run.model, value, derive_id("run-finished", run.id), at, traceparent)


def scores(**accuracies: float | tuple[int, float]) -> list[trainer_pb2.ConditionScore]:
    """Conditions by name: an accuracy on 400 assets, or (assets, accuracy)."""
    pairs = {name: value if isinstance(value, tuple) else (400, value) for name, value in accuracies.items()}
    return [
        trainer_pb2.ConditionScore(condition=name, assets=assets, accuracy=accuracy)
        for name, (assets, accuracy) in pairs.items()
    ]


def report(
    challenger: Mapping[str, float | tuple[int, float]],
    champion: Mapping[str, float | tuple[int, float]] | None = None,
    champion_version: str = "1",
    *,
    parity: float = 1e-6,
    latency_ms: float = 1.0,
) -> trainer_pb2.EvaluationReport:
    """A report on the challenger, and on a champion when there is one."""
    sides = [trainer_pb2.ModelScore(role="challenger", conditions=scores(**challenger), latency_ms=latency_ms)]
    if champion is not None:
        sides.append(
            trainer_pb2.ModelScore(
                role="champion", version=champion_version, conditions=scores(**champion), latency_ms=1.0
            )
        )
    return trainer_pb2.EvaluationReport(id="report", scores=sides, parity_max_difference=parity, parity_images=64)


FIRST = report({"all": 0.9})
"""A first version that passes."""


def better(champion: str, gain: float = 0.2, loss: float = 0.01) -> trainer_pb2.EvaluationReport:
    """Better than the champion on the new condition, a little worse on the old one."""
    challenger = {"all": 0.85, "new": 0.6 + gain, "old_in_force": 0.9 - loss}
    return report(challenger, {"all": 0.75, "new": 0.6, "old_in_force": 0.9}, champion)


def run(
    run_id: str = "run-1",
    evaluation: trainer_pb2.EvaluationReport = FIRST,
    *,
    model: str = "garments",
    digest: str = "",
    state: trainer_pb2.RunState.ValueType = trainer_pb2.RUN_STATE_SUCCEEDED,
) -> trainer_pb2.Run:
    """A run that ended."""
    package = trainer_pb2.ModelPackage(
        digest=digest or derive_id(run_id).replace("-", "") * 2, size_bytes=1000, signature="c2lnbmVk", key_id="k" * 64
    )
    return trainer_pb2.Run(
        id=run_id,
        model=model,
        state=state,
        request_id=f"request-of-{run_id}",
        requested_by="monitor",
        dataset="garments",
        dataset_version=3,
        package=package,
        report=evaluation,
        class_names=["coat", "boot"],
    )


def aliases_of(published: registry_pb2.AliasesPublished) -> dict[str, str]:
    """A published map as name to version."""
    return {alias.name: alias.version.version for alias in published.aliases}
