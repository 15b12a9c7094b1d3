"""Ingest's handlers on a real SQLite and a real object folder, with a clock that tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.common.database import Database
from services.common.objects import ObjectStore
from services.common.outbox import OUTBOX
from services.ingest.domain.inspection import Limits
from services.ingest.gate import Gate
from services.ingest.handlers import Ingest
from services.ingest.outbound.inspector import PoolInspector
from services.ingest.outbound.ledger import SqlLedger
from services.ingest.outbound.tables import METADATA, MIGRATIONS
from tests.unit.ingest.pictures import NOW


@dataclass
class Clock:
    """Stands still until it is told otherwise."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class House:
    """An ingest and what it stands on."""

    ingest: Ingest
    database: Database
    objects: ObjectStore
    clock: Clock
    folder: Path

    async def said(self, noun: str = "") -> list[Any]:
        """The rows of the outbox, in order, whose topic holds the noun."""
        rows = await self.database.read(lambda connection: connection.execute(sa.select(OUTBOX).order_by("id")).all())
        return [row for row in rows if noun in row.topic]

    def files(self) -> list[Path]:
        """What lies in the object store."""
        return [path for path in (self.folder / "objects").rglob("*") if path.is_file()]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        clock = Clock()
        database = await stack.enter_async_context(
            Database(f"sqlite:///{tmp_path}/ingest.sqlite", METADATA, migrations=MIGRATIONS)
        )
        objects = await stack.enter_async_context(ObjectStore(str(tmp_path / "objects")))
        inspector = await stack.enter_async_context(PoolInspector(Limits(), 2))
        ledger = SqlLedger(database, clock, timedelta(days=1))
        ingest = Ingest(inspector, objects, ledger, Gate(1 << 20), clock, portion_bytes=64 << 10)
        yield House(ingest, database, objects, clock, tmp_path)
