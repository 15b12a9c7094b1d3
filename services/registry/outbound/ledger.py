"""Registry's memory on SQLAlchemy: every write of a transaction, and the events that it causes, commit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from irisloop.registry.v1 import registry_pb2
from irisloop.topics import ALIAS_MOVED, ALIASES_PUBLISHED, VERSION_JUDGED
from irisloop.trainer.v1 import trainer_pb2
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from services.common.bus import Event, derive_id
from services.common.database import Database
from services.common.metrics import REGISTRY_MOVES, REGISTRY_VERSIONS
from services.common.outbox import enqueue
from services.common.telemetry import log
from services.registry import wire
from services.registry.domain.aliases import changes
from services.registry.domain.model import (
    ALIASES,
    Candidate,
    GateResult,
    Model,
    Move,
    Package,
    Version,
    VersionState,
)
from services.registry.domain.ports import Ledger
from services.registry.errors import UnknownModel, UnknownVersion
from services.registry.outbound import tables

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
            REGISTRY_MOVES.labels(move.alias if move.alias in ALIASES else "other").inc()
            targets = {"from_version": move.from_version, "to_version": move.to_version}
            log.info("alias_moved", model=move.model, alias=move.alias, **targets, by=move.moved_by, reason=move.reason)

    def model(self, name: str) -> Model:
        row = self._connection.execute(select(tables.models).where(tables.models.c.name == name)).first()
        if row is None:
            raise UnknownModel(f"no model `{name}`; `irisloop models list` shows those there are", field="model")
        return self._model(row)

    def models(self) -> Sequence[Model]:
        rows = self._connection.execute(select(tables.models).order_by(tables.models.c.name))
        return [self._model(row) for row in rows.all()]

    def version(self, model: str, version: str) -> Version:
        aliases = self.model(model).aliases
        number = aliases.get(version, version)
        table = tables.versions
        known = number.isdecimal() and len(number) <= DIGITS
        chosen = table.c.number == (int(number) if known else 0)
        row = self._connection.execute(select(table).where(table.c.model == model, chosen)).first()
        if row is None:
            raise UnknownVersion(f"model `{model}` has no version or alias `{version}`", field="version")
        return _version(row)

    def versions(self, model: str, *, since: datetime | None = None, run_id: str = "") -> Sequence[Version]:
        table = tables.versions
        query = select(table).order_by(table.c.model, table.c.number)
        if model:
            query = query.where(table.c.model == model)
        if since is not None:
            query = query.where(table.c.registered_at >= _naive(since))
        if run_id:
            query = query.where(table.c.run_id == run_id)
        return [_version(row) for row in self._connection.execute(query)]

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
        self._connection.execute(insert(table).values(**_version_row(version)))
        return version

    def set_state(self, version: Version, state: VersionState) -> Version:
        table = tables.versions
        chosen = (table.c.model == version.candidate.model, table.c.number == version.number)
        self._connection.execute(update(table).where(*chosen).values(state=state.value))
        return replace(version, state=state)

    def set_aliases(self, model: Model, aliases: dict[str, str], *, by: str, reason: str, at: datetime) -> Model:
        moved = changes(model.aliases, aliases)
        if not moved:
            return model
        after = replace(model, aliases=aliases, revision=model.revision + 1)
        self._store_aliases(after)
        events: list[Event[Any]] = []
        for alias, before, target in moved:
            identity = derive_id("alias-moved", model.name, str(after.revision), alias)
            move = Move(identity, model.name, alias, before, target, by, reason, at)
            self._moved.append(move)
            self._connection.execute(insert(tables.moves).values(**_move_row(move)))
            value = registry_pb2.AliasMoved(move=wire.move_message(move))
            events.append(Event(ALIAS_MOVED, model.name, value, identity, at))
        versions = [(name, self.version(model.name, target)) for name, target in sorted(aliases.items())]
        published = wire.aliases_message(after, versions)
        identity = derive_id("aliases-published", model.name, str(after.revision))
        enqueue(self._connection, [*events, Event(ALIASES_PUBLISHED, model.name, published, identity, at)])
        return after

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
        row = {**values, "approved": approved, "reason": reason, "decided_at": _naive(at)}
        self._connection.execute(insert(table).values(**row))

    def history(
        self, model: str, *, limit: int, before: int | None, since: datetime | None
    ) -> Sequence[tuple[int, Move]]:
        table = tables.moves
        query = select(table).where(table.c.model == model).order_by(table.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.sequence < before)
        if since is not None:
            query = query.where(table.c.moved_at >= _naive(since))
        return [(row.sequence, _move(row)) for row in self._connection.execute(query)]

    def _model(self, row: Row[Any]) -> Model:
        table = tables.aliases
        found = self._connection.execute(select(table.c.name, table.c.version).where(table.c.model == row.name))
        aliases = dict(found.tuples().all())
        return Model(row.name, row.dataset, _aware(row.created_at), row.revision, aliases)

    def _ensure_model(self, candidate: Candidate, at: datetime) -> None:
        table = tables.models
        known = self._connection.execute(select(table.c.name).where(table.c.name == candidate.model)).first()
        if known is None:
            row = {"name": candidate.model, "dataset": candidate.dataset, "revision": 0, "created_at": _naive(at)}
            self._connection.execute(insert(table).values(**row))

    def _store_aliases(self, model: Model) -> None:
        table = tables.aliases
        self._connection.execute(delete(table).where(table.c.model == model.name))
        rows = [{"model": model.name, "name": name, "version": target} for name, target in model.aliases.items()]
        if rows:
            self._connection.execute(insert(table), rows)
        chosen = tables.models.c.name == model.name
        self._connection.execute(update(tables.models).where(chosen).values(revision=model.revision))


def _version_row(version: Version) -> dict[str, Any]:
    candidate, package = version.candidate, version.candidate.package
    gates = [[g.gate, g.passed, g.measured, g.limit, g.detail] for g in version.gates]
    return {
        "model": candidate.model,
        "number": version.number,
        "state": version.state.value,
        "digest": package.digest,
        "size_bytes": package.size_bytes,
        "signature": package.signature,
        "key_id": package.key_id,
        "run_id": candidate.run_id,
        "request_id": candidate.request_id,
        "dataset": candidate.dataset,
        "dataset_version": candidate.dataset_version,
        "class_names": json.dumps(candidate.class_names),
        "gates": json.dumps(gates),
        "report": candidate.evidence.report if candidate.evidence else b"",
        "registered_at": _naive(version.registered_at),
        "registered_by": candidate.registered_by,
    }


def _version(row: Row[Any]) -> Version:
    report = trainer_pb2.EvaluationReport.FromString(row.report) if row.report else None
    candidate = Candidate(
        model=row.model,
        package=Package(row.digest, row.size_bytes, row.signature, row.key_id),
        run_id=row.run_id,
        request_id=row.request_id,
        dataset=row.dataset,
        dataset_version=row.dataset_version,
        class_names=tuple(json.loads(row.class_names)),
        registered_by=row.registered_by,
        evidence=wire.evidence_value(report) if report else None,
    )
    gates = tuple(GateResult(*gate) for gate in json.loads(row.gates))
    return Version(row.number, candidate, VersionState(row.state), gates, _aware(row.registered_at))


def _move_row(move: Move) -> dict[str, Any]:
    return {
        "id": move.id,
        "model": move.model,
        "alias": move.alias,
        "from_version": move.from_version,
        "to_version": move.to_version,
        "moved_by": move.moved_by,
        "reason": move.reason,
        "moved_at": _naive(move.moved_at),
    }


def _move(row: Row[Any]) -> Move:
    return Move(
        row.id,
        row.model,
        row.alias,
        row.from_version,
        row.to_version,
        row.moved_by,
        row.reason,
        _aware(row.moved_at),
    )


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
