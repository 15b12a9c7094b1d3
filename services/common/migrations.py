"""Brings a database's tables up to date when a service starts; replicas that start at once wait for each other.

A service's `migrations/versions/*.py` are ordinary Alembic revisions; no env.py is needed. Alembic is imported only
when there is something to do, since it costs a fifth of a second in each of six services.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from services.common.imports import without

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
    from sqlalchemy import Connection

REVISION: Final = re.compile(r"^revision\s*(?::\s*\w+\s*)?=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
DOWN_REVISION: Final = re.compile(r"^down_revision\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)
WAL_TRIES: Final = 200


def migrate(url: sa.URL, metadata: sa.MetaData, migrations: Path | None, schema: str) -> None:
    """Apply what is missing, in one transaction, under the database's lock; then make the kit's own tables."""
    from services.common.database import postgres_engine, sqlite_engine

    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        engine = sqlite_engine(url, pool_size=1, writing=True, durability="process", foreign_keys=False)
        _use_wal(engine)
    else:
        engine = postgres_engine(url, pool_size=1, writing=True, schema=schema)
    try:
        with engine.begin() as connection:
            if not sqlite:
                _lock_and_make_schema(connection, schema)
            _bring_up_to_date(connection, metadata, migrations)
            _make_kit_tables(connection, metadata)
    finally:
        engine.dispose()


def _use_wal(engine: sa.Engine) -> None:
    """Set the journal once: it stays in the file. Another starter may hold the lock, and this pragma does not wait."""
    for attempt in range(WAL_TRIES):
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.close()
            return
        except Exception as error:
            if "locked" not in str(error) or attempt == WAL_TRIES - 1:
                raise OperationalError("PRAGMA journal_mode=WAL", {}, error) from error
            time.sleep(0.05)
        finally:
            raw.close()


def _lock_and_make_schema(connection: Connection, schema: str) -> None:
    key = crc32(f"irisloop migrations {schema}".encode())
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    if schema:
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))


def _bring_up_to_date(connection: Connection, metadata: sa.MetaData, migrations: Path | None) -> None:
    if migrations is None:
        metadata.create_all(connection)
        return
    heads = _heads(migrations / "versions")
    if heads and heads == _present(connection):
        return
    _upgrade(connection, metadata, migrations)


def _heads(versions: Path) -> set[str]:
    """The newest revisions, read without importing them; empty when the files say it in another way."""
    revisions: set[str] = set()
    downs: set[str] = set()
    for file in versions.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        found, down = REVISION.search(text), DOWN_REVISION.search(text)
        if found is None or down is None:
            return set()
        revisions.add(found[1])
        downs.update(re.findall(r"[\"']([^\"']+)[\"']", down[1]))
    return revisions - downs


def _present(connection: Connection) -> set[str]:
    if not sa.inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())


def _upgrade(connection: Connection, metadata: sa.MetaData, migrations: Path) -> None:
    with without("mako.ext.pygmentplugin"):  # colours for errors of templates: 0.2 s
        from alembic.config import Config
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: object, _: MigrationContext) -> Sequence[MigrationStep | RevisionStep]:
        return script._upgrade_revs("head", revision)  # type: ignore[arg-type]  # alembic.command.upgrade does the same

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        with environment.begin_transaction():
            environment.run_migrations()


def _make_kit_tables(connection: Connection, metadata: sa.MetaData) -> None:
    from services.common.database import KIT_TABLE

    tables = [table for table in metadata.sorted_tables if table.info.get(KIT_TABLE)]
    metadata.create_all(connection, tables=tables)
