"""The bindings in serving's database, shared by its replicas."""

from __future__ import annotations

import json
from typing import Final

import sqlalchemy as sa

from services.common.database import Database
from services.serving.domain.bindings import Binding, BindingTable, in_order
from services.serving.outbound.tables import bindings, revisions

NAME: Final = "bindings"


class SqlBindings:
    """Implements `BindingStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> BindingTable:
        """All bindings and their revision, of one moment."""
        return await self._database.read(_load)

    async def revision(self) -> int:
        """Grows with every change."""
        return await self._database.read(_revision)

    async def put(self, binding: Binding) -> None:
        """Insert, or replace the one of the same model and role."""

        def work(connection: sa.Connection) -> None:
            _delete(connection, binding.model, binding.role)
            connection.execute(
                sa.insert(bindings).values(
                    model=binding.model,
                    role=binding.role,
                    cameras=json.dumps(list(binding.cameras)),
                    tags=json.dumps(dict(binding.tags)),
                )
            )
            _grow(connection)

        await self._database.transact(work)

    async def delete(self, model: str, role: str) -> bool:
        """Whether there was one."""

        def work(connection: sa.Connection) -> bool:
            found = _delete(connection, model, role)
            if found:
                _grow(connection)
            return found

        return await self._database.transact(work)


def _load(connection: sa.Connection) -> BindingTable:
    rows = connection.execute(sa.select(bindings)).all()
    found = (Binding(row.model, row.role, tuple(json.loads(row.cameras)), json.loads(row.tags)) for row in rows)
    return BindingTable(_revision(connection), in_order(found))


def _revision(connection: sa.Connection) -> int:
    return connection.execute(sa.select(revisions.c.revision).where(revisions.c.name == NAME)).scalar() or 0


def _delete(connection: sa.Connection, model: str, role: str) -> bool:
    chosen = (bindings.c.model == model) & (bindings.c.role == role)
    return connection.execute(sa.delete(bindings).where(chosen)).rowcount > 0


def _grow(connection: sa.Connection) -> None:
    revision = _revision(connection) + 1
    connection.execute(sa.delete(revisions).where(revisions.c.name == NAME))
    connection.execute(sa.insert(revisions).values(name=NAME, revision=revision))
