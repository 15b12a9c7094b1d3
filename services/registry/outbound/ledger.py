"""Registry's memory on SQLAlchemy: every write of a transaction, and the events that it causes, commit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from irisloop.registry.v1 import registry_pb2
from irisloop.topics import ALIAS_MOVED, ALIASES_PUBLISHED, VERSION_JUDGED
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from services.common.bus import Event, derive_id
from services.common.database import Database
from services.common.metrics import REGISTRY_MOVES, REGISTRY_VERSIONS
from services.common.outbox import enqueue
from services.common.telemetry import log
from services.registry import wire
from services.registry.domain.model import (
    ALIASES,
    Candidate,
    GateResult,
    Model,
    Move,
    Rollout,
    Version,
    VersionState,
)
from services.registry.domain.ports import Ledger
from services.registry.domain.rollouts import moves
from services.registry.errors import UnknownModel, UnknownVersion
from services.registry.outbound import rows, tables

T = TypeVar("T")

DIGITS = 9
"""A longer number is no version's."""


class SqlLedgers:
    """Opens ledgers on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transact(self, work: Callable[[Ledger], T]) -> T:
        """One write transaction; what it decided is counted and logged once it is committed."""

        def run(connection: Connection) -> tuple[T, SqlLedger]:
            ledger = SqlLedger(connection)
            return work(ledger), ledger

        result, ledger = await self._database.transact(run)
        ledger.note()
        return result

    async def read(self, work: Callable[[Ledger], T]) -> T:
        """One consistent read."""
        return await self._database.read(lambda connection: work(SqlLedger(connection)))


class SqlLedger:
    """`Ledger` inside one open transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._judged: list[tuple[Version, str]] = []
        self._moved: list[Move] = []

    def note(self) -> None:
        """Count and log what this transaction decided."""
        for version, by in self._judged:
            REGISTRY_VERSIONS.labels(version.state.value).inc()
            run, state = version.candidate.run_id, version.state.value
            log.info("version_judged", model=version.candidate.model, version=version.name, state=state, by=by, run=run)
        for move in self._moved:
            known = "rollout" if move.alias.startswith("rollout/") else "other"
            REGISTRY_MOVES.labels(move.alias if move.alias in ALIASES else known).inc()
            targets = {"from_version": move.from_version, "to_version": move.to_version}
            log.info("alias_moved", model=move.model, alias=move.alias, **targets, by=move.moved_by, reason=move.reason)

    def model(self, name: str) -> Model:
        row = self._connection.execute(select(tables.models).where(tables.models.c.name == name)).first()
        if row is None:
            raise UnknownModel(f"no model `{name}`; `irisloop models list` shows those there are", field="model")
        return self._model(row)

    def models(self) -> Sequence[Model]:
        found = self._connection.execute(select(tables.models).order_by(tables.models.c.name))
        return [self._model(row) for row in found.all()]

    def version(self, model: str, version: str) -> Version:
        aliases = self.model(model).aliases
        number = aliases.get(version, version)
        table = tables.versions
        known = number.isdecimal() and len(number) <= DIGITS
        chosen = table.c.number == (int(number) if known else 0)
        row = self._connection.execute(select(table).where(table.c.model == model, chosen)).first()
        if row is None:
            raise UnknownVersion(f"model `{model}` has no version or alias `{version}`", field="version")
        return rows.version_value(row)

    def versions(self, model: str, *, since: datetime | None = None, run_id: str = "") -> Sequence[Version]:
        table = tables.versions
        query = select(table).order_by(table.c.model, table.c.number)
        if model:
            query = query.where(table.c.model == model)
        if since is not None:
            query = query.where(table.c.registered_at >= rows.naive(since))
        if run_id:
            query = query.where(table.c.run_id == run_id)
        return [rows.version_value(row) for row in self._connection.execute(query)]

    def version_of_run(self, model: str, run_id: str) -> Version | None:
        return next(iter(self.versions(model, run_id=run_id)), None) if run_id else None

    def add_version(
        self, candidate: Candidate, state: VersionState, gates: tuple[GateResult, ...], at: datetime
    ) -> Version:
        self._ensure_model(candidate, at)
        table = tables.versions
        highest = select(func.coalesce(func.max(table.c.number), 0)).where(table.c.model == candidate.model)
        number = int(self._connection.execute(highest).scalar_one()) + 1
        version = Version(number, candidate, state, gates, at)
        self._connection.execute(insert(table).values(**rows.version_row(version)))
        return version

    def set_state(self, version: Version, state: VersionState) -> Version:
        table = tables.versions
        chosen = (table.c.model == version.candidate.model, table.c.number == version.number)
        self._connection.execute(update(table).where(*chosen).values(state=state.value))
        return replace(version, state=state)

    def settle(
        self, model: Model, aliases: dict[str, str], rollout: Rollout | None, *, by: str, reason: str, at: datetime
    ) -> Model:
        moved = moves(model, aliases, rollout)
        if not moved:
            return model
        after = replace(model, aliases=aliases, rollout=rollout, revision=model.revision + 1)
        self._store(after)
        events: list[Event[Any]] = []
        for alias, before, target in moved:
            identity = derive_id("alias-moved", model.name, str(after.revision), alias)
            move = Move(identity, model.name, alias, before, target, by, reason, at)
            self._moved.append(move)
            self._connection.execute(insert(tables.moves).values(**rows.move_row(move)))
            value = registry_pb2.AliasMoved(move=wire.move_message(move))
            events.append(Event(ALIAS_MOVED, model.name, value, identity, at))
        enqueue(self._connection, [*events, self._map(after, at)])
        return after

    def count_pairs(self, rollout: Rollout, pairs: int) -> None:
        table = tables.rollouts
        self._connection.execute(update(table).where(table.c.id == rollout.id).values(pairs=pairs))

    def say_judged(self, version: Version, *, by: str, reason: str, at: datetime) -> None:
        candidate = version.candidate
        value = registry_pb2.VersionJudged(
            version=wire.version_message(version), judged_by=by, reason=reason, request_id=candidate.request_id
        )
        identity = derive_id("version-judged", candidate.model, version.name, version.state.value)
        self._judged.append((version, by))
        enqueue(self._connection, [Event(VERSION_JUDGED, candidate.model, value, identity, at)])

    def approvals(self, version: Version) -> Mapping[str, bool]:
        table = tables.approvals
        mine = (table.c.model == version.candidate.model, table.c.version == version.name)
        found = self._connection.execute(select(table.c.principal, table.c.approved).where(*mine))
        return {principal: bool(approved) for principal, approved in found}

    def approve(self, version: Version, principal: str, approved: bool, reason: str, at: datetime) -> None:
        table = tables.approvals
        mine = (table.c.model == version.candidate.model, table.c.version == version.name)
        self._connection.execute(delete(table).where(*mine, table.c.principal == principal))
        values = {"model": version.candidate.model, "version": version.name, "principal": principal}
        row = {**values, "approved": approved, "reason": reason, "decided_at": rows.naive(at)}
        self._connection.execute(insert(table).values(**row))

    def history(
        self, model: str, *, limit: int, before: int | None, since: datetime | None
    ) -> Sequence[tuple[int, Move]]:
        table = tables.moves
        query = select(table).where(table.c.model == model).order_by(table.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.sequence < before)
        if since is not None:
            query = query.where(table.c.moved_at >= rows.naive(since))
        return [(row.sequence, rows.move_value(row)) for row in self._connection.execute(query)]

    def _model(self, row: Row[Any]) -> Model:
        table = tables.aliases
        found = self._connection.execute(select(table.c.name, table.c.version).where(table.c.model == row.name))
        aliases = dict(found.tuples().all())
        running = self._connection.execute(select(tables.rollouts).where(tables.rollouts.c.model == row.name)).first()
        rollout = rows.rollout_value(running) if running else None
        return Model(row.name, row.dataset, rows.aware(row.created_at), row.revision, aliases, rollout)

    def _map(self, model: Model, at: datetime) -> Event[Any]:
        """Everything about a model that others act on, with all that is needed to load each version."""
        versions = [(name, self.version(model.name, target)) for name, target in sorted(model.aliases.items())]
        named = model.rollout.versions if model.rollout else ()
        value = wire.aliases_message(model, versions, [self.version(model.name, target) for target in named])
        identity = derive_id("aliases-published", model.name, str(model.revision))
        return Event(ALIASES_PUBLISHED, model.name, value, identity, at)

    def _ensure_model(self, candidate: Candidate, at: datetime) -> None:
        table = tables.models
        known = self._connection.execute(select(table.c.name).where(table.c.name == candidate.model)).first()
        if known is None:
            row = {"name": candidate.model, "dataset": candidate.dataset, "revision": 0, "created_at": rows.naive(at)}
            self._connection.execute(insert(table).values(**row))

    def _store(self, model: Model) -> None:
        table = tables.aliases
        self._connection.execute(delete(table).where(table.c.model == model.name))
        targets = [{"model": model.name, "name": name, "version": target} for name, target in model.aliases.items()]
        if targets:
            self._connection.execute(insert(table), targets)
        self._connection.execute(delete(tables.rollouts).where(tables.rollouts.c.model == model.name))
        if model.rollout is not None:
            self._connection.execute(insert(tables.rollouts).values(**rows.rollout_row(model.rollout)))
        chosen = tables.models.c.name == model.name
        self._connection.execute(update(tables.models).where(chosen).values(revision=model.revision))
