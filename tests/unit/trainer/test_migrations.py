"""The migrations make the tables that the code speaks of."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.trainer.outbound.tables import metadata
from tests.unit.trainer.world import world


async def test_migrated_and_declared_tables_are_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:

        def differences(connection: sa.Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            found = compare_metadata(context, metadata)
            return [one for one in found if not (one[0] == "remove_table" and one[1].name == "alembic_version")]

        assert await trainer.database.read(differences) == []
