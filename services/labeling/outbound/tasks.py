"""The queue of tasks; every question asked of it is answered from an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from services.labeling.domain.model import Draw, Micros, Origin, Reference, State, StoredObject, Task
from services.labeling.outbound import tables
from services.labeling.outbound.boxes import boxes_of, boxes_text
from services.labeling.outbound.tables import PENDING, insert_new


@dataclass(frozen=True, slots=True)
class SqlTasks:
    """`Tasks` inside one open transaction."""

    connection: Connection

    def add(self, tasks: Sequence[Task]) -> int:
        table = tables.tasks
        if not tasks:
            return 0
        last = sa.select(sa.func.coalesce(sa.func.max(table.c.sequence), 0))
        before = self.connection.execute(last).scalar_one()
        self.connection.execute(insert_new(self.connection, table), [_row(task) for task in tasks])
        added = sa.select(sa.func.count()).select_from(table).where(table.c.sequence > before)
        return int(self.connection.execute(added).scalar_one())

    def by_ids(self, ids: Iterable[str]) -> dict[str, Task]:
        query = sa.select(tables.tasks).where(tables.tasks.c.id.in_(list(ids)))
        return {row.id: _task(row) for row in self.connection.execute(query)}

    def newest_open(self, origin: Origin, dataset: str, limit: int) -> list[Task]:
        table, assets = tables.tasks, tables.assets
        stored = (assets.c.digest, assets.c.size_bytes, assets.c.content_type)
        query = (
            sa.select(table, *stored)
            .join(assets, assets.c.id == table.c.asset_id)
            .where(table.c.state == State.OPEN, table.c.origin == origin, assets.c.deleted.is_(False))
            .order_by(table.c.captured_at.desc())
            .limit(limit)
        )
        if dataset:
            query = query.where(table.c.dataset == dataset)
        return [_task(row, StoredObject(*row[-3:])) for row in self.connection.execute(query)]

    def lease(self, ids: Sequence[str], by: str, until: Micros) -> None:
        table = tables.tasks
        chosen = sa.update(table).where(table.c.id.in_(ids))
        self.connection.execute(chosen.values(state=State.LEASED, leased_by=by, leased_until=until))

    def take_back(self, now: Micros) -> int:
        table = tables.tasks
        late = sa.update(table).where(table.c.state == State.LEASED, table.c.leased_until < now)
        return self.connection.execute(late.values(state=State.OPEN, leased_by="", leased_until=0)).rowcount

    def settle(self, ids: Sequence[str], state: State) -> None:
        self._close(tables.tasks.c.id.in_(ids), state, pending_only=False)

    def close_cause(self, cause: str) -> int:
        return self._close(tables.tasks.c.cause == cause)

    def close_origins(self, dataset: str, origins: Sequence[Origin]) -> int:
        table = tables.tasks
        return self._close(sa.and_(table.c.dataset == dataset, table.c.origin.in_([int(one) for one in origins])))

    def close_assets(self, asset_ids: Sequence[str]) -> int:
        return self._close(tables.tasks.c.asset_id.in_(asset_ids))

    def crowd_out(self, most: int) -> int:
        table = tables.tasks
        open_ones = sa.select(sa.func.count()).select_from(table).where(table.c.state == State.OPEN)
        excess = int(self.connection.execute(open_ones).scalar_one()) - most
        closed = 0
        for origin in (Origin.UNCERTAINTY, Origin.UNIFORM):
            if excess - closed <= 0:
                break
            oldest = (
                sa.select(table.c.sequence)
                .where(table.c.state == State.OPEN, table.c.origin == origin)
                .order_by(table.c.captured_at)
                .limit(excess - closed)
            )
            closed += self._close(table.c.sequence.in_(oldest))
        return closed

    def pending(self, cause: str) -> int:
        table = tables.tasks
        query = sa.select(sa.func.count()).select_from(table)
        return int(
            self.connection.execute(query.where(table.c.cause == cause, table.c.state.in_(PENDING))).scalar_one()
        )

    def handed(self, cause: str, who: str) -> int:
        table = tables.tasks
        query = sa.select(sa.func.count()).select_from(table)
        return int(self.connection.execute(query.where(table.c.cause == cause, table.c.leased_by == who)).scalar_one())

    def page(self, state: State | None, after: int, limit: int) -> list[Task]:
        table, assets = tables.tasks, tables.assets
        stored = (assets.c.digest, assets.c.size_bytes, assets.c.content_type)
        query = (
            sa.select(table, *stored)
            .join(assets, assets.c.id == table.c.asset_id, isouter=True)
            .where(table.c.sequence > after)
            .order_by(table.c.sequence)
            .limit(limit)
        )
        if state is not None:
            query = query.where(table.c.state == state)
        return [_task(row, StoredObject(*row[-3:]) if row[-3] else None) for row in self.connection.execute(query)]

    def counts(self) -> dict[State, int]:
        table = tables.tasks
        rows = self.connection.execute(sa.select(table.c.state, sa.func.count()).group_by(table.c.state))
        return {State(state): count for state, count in rows}

    def _close(self, chosen: sa.ColumnElement[bool], state: State = State.CLOSED, *, pending_only: bool = True) -> int:
        statement = sa.update(tables.tasks).where(chosen)
        if pending_only:
            statement = statement.where(tables.tasks.c.state.in_(PENDING))
        return self.connection.execute(statement.values(state=state, leased_until=0)).rowcount


def _row(task: Task) -> dict[str, Any]:
    suggestion = task.suggestion or Reference("", "", "", "", "", 0.0)
    return {
        "id": task.id,
        "asset_id": task.asset_id,
        "camera_id": task.camera_id,
        "captured_at": task.captured_at,
        "state": int(task.state),
        "origin": int(task.draw.origin),
        "propensity": task.draw.propensity,
        "prediction_id": suggestion.prediction_id,
        "model": suggestion.model,
        "version": suggestion.version,
        "role": suggestion.role,
        "class_name": suggestion.class_name,
        "score": suggestion.score,
        "boxes": boxes_text(suggestion),
        "dataset": task.dataset,
        "cause": task.cause,
        "created_at": task.created_at,
        "leased_until": 0,
        "leased_by": "",
    }


def _task(row: Row[Any], stored: StoredObject | None = None) -> Task:
    said = (row.prediction_id, row.model, row.version, row.role, row.class_name, row.score)
    suggestion = Reference(*said, **boxes_of(row.boxes))
    return Task(
        id=row.id,
        asset_id=row.asset_id,
        camera_id=row.camera_id,
        captured_at=row.captured_at,
        state=State(row.state),
        draw=Draw(Origin(row.origin), row.propensity),
        suggestion=suggestion if row.prediction_id else None,
        dataset=row.dataset,
        cause=row.cause,
        created_at=row.created_at,
        leased_until=row.leased_until,
        leased_by=row.leased_by,
        sequence=row.sequence,
        object=stored,
    )
