"""One relay a database, however many replicas: a file's lock beside SQLite, an advisory lock in PostgreSQL.

Both are let go by the kernel or the server when the process that holds them dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy import Connection

from services.common.database import Database, postgres_engine


class RelayLock:
    """Held while this relay is the one that works."""

    async def held(self) -> bool:
        """Whether it is still held; a file's lock is until it is let go."""
        return True


class PostgresRelayLock(RelayLock):
    """An advisory lock, which lives and dies with its connection."""

    def __init__(self, connection: Connection) -> None:
        """`connection` holds the lock."""
        self._connection = connection

    async def held(self) -> bool:
        """Ask over the connection itself: when it is gone, so is the lock."""
        try:
            await asyncio.to_thread(self._connection.exec_driver_sql, "SELECT 1")
        except sa.exc.DBAPIError:
            return False
        return True


@asynccontextmanager
async def only_one(database: Database) -> AsyncIterator[RelayLock]:
    """Wait for the lock, and hold it inside the block."""
    path = database.path
    if path is None:
        async with _advisory_lock(database) as lock:
            yield lock
        return
    descriptor = os.open(f"{path}.relay", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _try_flock(descriptor):
            await asyncio.sleep(0.2)
        yield RelayLock()
    finally:
        os.close(descriptor)


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _advisory_lock(database: Database) -> AsyncIterator[RelayLock]:
    engine = postgres_engine(database.url, pool_size=1, writing=True, schema=database.schema)
    engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    key = crc32(f"irisloop relay {database.schema}".encode())
    try:
        connection = await asyncio.to_thread(engine.connect)
        try:
            statement = sa.text("SELECT pg_try_advisory_lock(:key)")
            while not await asyncio.to_thread(lambda: connection.execute(statement, {"key": key}).scalar()):
                await asyncio.sleep(0.5)
            yield PostgresRelayLock(connection)
        finally:
            await asyncio.to_thread(connection.close)
    finally:
        await asyncio.to_thread(engine.dispose)
