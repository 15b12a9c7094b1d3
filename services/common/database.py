"""A service's own database: one writer thread, a few readers, SQLAlchemy Core, SQLite or PostgreSQL by URL.

A piece of work is a plain function of a Connection; it runs in one transaction, off the event loop. Two replicas may
share one SQLite file or one schema of PostgreSQL: writers queue on its lock.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, PendingRollbackError

from services.common.errors import IrisloopError, Transient, Unavailable
from services.common.metrics import DATABASE_SECONDS
from services.common.settings import CommonSettings, Durability

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")

READERS: Final = 3
BUSY_MS: Final = 10_000
KIT_TABLE: Final = "irisloop_kit"
"""Key of `Table.info`: the table belongs to the kit, which makes it when it is missing."""
DRIVER: Final = (DBAPIError, PendingRollbackError, sqlite3.Error)
"""What a database throws; SQLite's own while a connection is being prepared, the second after a lost connection."""
FOR_A_PERSON: Final = ("DATABASE_CORRUPT", "DATABASE_UNUSABLE")
"""Reasons that no waiting mends: a service does not start with them; one that runs keeps what it has not written."""
OUTBOX_FILLED: Final = "irisloop_outbox_filled"
"""Key of `Connection.info`: the transaction put events into the outbox."""


def sqlite_url(home: Path, service: str) -> str:
    """The URL of the service's file under `home/db`."""
    return f"sqlite:///{home.absolute() / 'db' / service}.sqlite"


class Database:
    """An async context manager; entered, it has applied the migrations and takes work."""

    def __init__(
        self,
        url: str,
        metadata: sa.MetaData,
        *,
        durability: Durability = "process",
        migrations: Path | None = None,
        schema: str = "",
    ) -> None:
        """Tables are those of `metadata`; without `migrations` they are made as they stand there.

        `migrations` is a folder with `versions/` in it. `schema` is PostgreSQL's, made when missing; SQLite has none.
        """
        self.url: Final = sa.make_url(url)
        self.metadata: Final = metadata
        self.schema: Final = schema
        self.is_sqlite: Final = self.url.get_backend_name() == "sqlite"
        self._durability: Final = durability
        self._migrations: Final = migrations
        self._listeners: list[Callable[[], None]] = []
        self._writer: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._write_engine: Engine | None = None
        self._read_engine: Engine | None = None

    @classmethod
    def of(
        cls, common: CommonSettings, service: str, metadata: sa.MetaData, migrations: Path | None = None
    ) -> Database:
        """The service's database as settings say: `database_url` with a schema of its own, else a file under home."""
        url = common.database_url.get_secret_value()
        return cls(
            url or sqlite_url(common.home, service),
            metadata,
            durability=common.durability,
            migrations=migrations,
            schema=service if url else "",
        )

    @property
    def path(self) -> Path | None:
        """SQLite's file; None for PostgreSQL."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def __repr__(self) -> str:
        """Names the database without its password."""
        return f"database {self.path or self.url.render_as_string(hide_password=True)}"

    async def __aenter__(self) -> Self:
        """Open, migrate, start the threads. Raises `Unavailable` when it cannot be reached, else `IrisloopError`."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._open)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is under way and close."""
        await self._close()

    def on_outbox(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, in the writer's thread, after each commit that put events into the outbox."""
        self._listeners.append(listener)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one write transaction and commit it; an error rolls back and is raised.

        Raises `Transient` when the database is busy, full or away. A cancelled caller does not undo a commit.
        """
        return await self._submit(self._writer, self._write, work, "write")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a read-only snapshot, beside the writer. Raises `Transient` like `transact`."""
        return await self._submit(self._readers, self._read, work, "read")

    async def _submit(
        self,
        pool: ThreadPoolExecutor | None,
        run: Callable[[Callable[[Connection], T]], T],
        work: Callable[[Connection], T],
        kind: str,
    ) -> T:
        if pool is None:
            raise self._closed()
        started = time.perf_counter()
        context = contextvars.copy_context()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, context.run, run, work)
        finally:
            DATABASE_SECONDS.labels(kind).observe(time.perf_counter() - started)

    def _write(self, work: Callable[[Connection], T]) -> T:
        filled = False
        try:
            with self._opened(self._write_engine).begin() as connection:
                try:
                    result = work(connection)
                finally:
                    filled = bool(connection.info.pop(OUTBOX_FILLED, False))
        except DRIVER as error:
            raise explained(error, self) from error
        if filled:
            for listener in self._listeners:
                listener()
        return result

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._opened(self._read_engine).begin() as connection:
                return work(connection)
        except DRIVER as error:
            raise explained(error, self) from error

    def _opened(self, engine: Engine | None) -> Engine:
        if engine is None:  # work was asked for while the migrations ran
            raise self._closed()
        return engine

    def _closed(self) -> Unavailable:
        return Unavailable(f"The {self!r} is not open.", reason="DATABASE_CLOSED")

    def _open(self) -> None:
        from services.common.migrations import migrate

        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            migrate(self.url, self.metadata, self._migrations, self.schema)
            self._write_engine = self._engine(pool_size=1, writing=True)
            self._read_engine = self._engine(pool_size=READERS, writing=False)
        except DRIVER as error:
            problem = explained(error, self)
            if isinstance(problem, IrisloopError) and problem.reason in FOR_A_PERSON:
                raise IrisloopError(str(problem), reason=problem.reason) from error
            raise problem from error
        except OSError as error:
            raise IrisloopError(f"The {self!r} cannot be opened: {error}.", reason="DATABASE_UNUSABLE") from error

    def _engine(self, *, pool_size: int, writing: bool) -> Engine:
        if self.is_sqlite:
            return sqlite_engine(self.url, pool_size=pool_size, writing=writing, durability=self._durability)
        engine = postgres_engine(self.url, pool_size=pool_size, writing=writing, schema=self.schema)
        if writing:
            sa.event.listen(engine, "begin", partial(_take_turn, crc32(f"irisloop writer {self.schema}".encode())))
        return engine

    async def _close(self) -> None:
        pools = [pool for pool in (self._writer, self._readers) if pool is not None]
        self._writer = self._readers = None
        for pool in pools:
            await asyncio.to_thread(pool.shutdown, wait=True)
        for engine in (self._read_engine, self._write_engine):
            if engine is not None:
                await asyncio.to_thread(engine.dispose)
        self._read_engine = self._write_engine = None


def sqlite_engine(
    url: sa.URL, *, pool_size: int, writing: bool, durability: Durability, foreign_keys: bool = True
) -> Engine:
    """An engine whose transactions begin as SQLite should: writers with the lock in hand, readers on a snapshot."""
    engine = sa.create_engine(
        url, pool_size=pool_size, max_overflow=0, connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000}
    )
    synchronous = "FULL" if durability == "power" else "NORMAL"

    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions at moments of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.execute("PRAGMA temp_store=MEMORY")
        if not writing:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)
    return engine


def postgres_engine(url: sa.URL, *, pool_size: int, writing: bool, schema: str) -> Engine:
    """An engine that works in `schema`; readers see one snapshot a transaction and cannot write."""
    options = f"-csearch_path={schema}" if schema else ""
    isolation: dict[str, Any] = {} if writing else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={"options": options, "connect_timeout": 5, "application_name": "irisloop"},
        execution_options=isolation,
    )


def _take_turn(key: int, connection: Connection) -> None:
    """One writer a schema at a time, as with SQLite: what a transaction reads is still so when it writes."""
    turn = "SELECT set_config('lock_timeout', %s, true), pg_advisory_xact_lock(%s)"
    connection.exec_driver_sql(turn, (str(BUSY_MS), key))


PROBLEMS: Final = (
    ("locked|busy|lock timeout", "DATABASE_LOCKED", "is locked by another process"),
    ("is full|no space|disk full", "DISK_FULL", "has no space left on its disk: free some"),
    (
        "malformed|not a database",
        "DATABASE_CORRUPT",
        "is damaged: stop the service and put back a backup of the file",
    ),
    ("disk i/o error|readonly|read-only|unable to open", "DATABASE_UNUSABLE", "cannot be read or written"),
)
"""What the driver says, the reason, and the rest of the sentence."""


def explained(error: Exception, database: object) -> Exception:
    """The driver's error as one of ours; a broken constraint, or a wrong statement, stays what it is."""
    original = error.orig if isinstance(error, DBAPIError) else error
    text = str(original).strip()
    if isinstance(error, IntegrityError):
        return error
    for pattern, reason, sentence in PROBLEMS:
        if re.search(pattern, text, re.IGNORECASE):
            return Transient(f"The {database!r} {sentence} ({text}).", reason=reason)
    away = isinstance(error, OperationalError | InterfaceError | PendingRollbackError) and not isinstance(
        original, sqlite3.Error
    )
    return Unavailable(f"The {database!r} does not answer: {text}", reason="DATABASE_AWAY") if away else error
