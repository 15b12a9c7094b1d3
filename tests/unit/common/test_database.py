"""One writer, a few readers, one transaction a piece of work, on a real SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.common.database import OUTBOX_FILLED, Database, explained, sqlite_url
from services.common.errors import IrisloopError, Transient, Unavailable
from services.common.outbox import outbox_tables
from services.common.settings import CommonSettings
from tests.waiting import PATIENCE_S

METADATA = sa.MetaData()
SITES = sa.Table("sites", METADATA, sa.Column("name", sa.Text, primary_key=True), sa.Column("size", sa.Integer))
CAMERAS = sa.Table(
    "cameras", METADATA, sa.Column("id", sa.Text, primary_key=True), sa.Column("site", sa.ForeignKey("sites.name"))
)
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("sites", sa.Column("name", sa.Text, primary_key=True))
    op.create_table(
        "cameras",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, sa.ForeignKey("sites.name", ondelete="CASCADE")),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade():
    op.execute("INSERT INTO sites (name) SELECT 'made by 0002' WHERE NOT EXISTS (SELECT 1 FROM sites)")
    with op.batch_alter_table("sites", recreate="always") as table:
        table.add_column(sa.Column("size", sa.Integer))
"""


def insert_site(connection: Connection, name: str) -> None:
    connection.execute(sa.insert(SITES).values(name=name, size=1))


def site_names(connection: Connection) -> list[str]:
    return list(connection.execute(sa.select(SITES.c.name).order_by(SITES.c.name)).scalars())


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(sqlite_url(tmp_path, "sample"), METADATA) as opened:
        yield opened


async def test_what_a_transaction_wrote_is_read_after_it(database: Database) -> None:
    await database.transact(lambda connection: insert_site(connection, "north"))
    assert await database.read(site_names) == ["north"]


async def test_an_error_undoes_the_whole_transaction(database: Database) -> None:
    def work(connection: Connection) -> None:
        insert_site(connection, "north")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transact(work)
    assert await database.read(site_names) == []


async def test_a_broken_constraint_stays_what_it_is(database: Database) -> None:
    await database.transact(lambda connection: insert_site(connection, "north"))
    with pytest.raises(IntegrityError):
        await database.transact(lambda connection: insert_site(connection, "north"))


async def test_foreign_keys_are_kept(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.transact(lambda connection: connection.execute(sa.insert(CAMERAS).values(id="a", site="none")))


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Transient, match="cannot be read or written"):
        await database.read(lambda connection: insert_site(connection, "north"))


async def test_a_reader_sees_one_snapshot_while_the_writer_goes_on(database: Database) -> None:
    reading, written = threading.Event(), threading.Event()

    def read_twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = site_names(connection)
        reading.set()
        assert written.wait(PATIENCE_S)
        return before, site_names(connection)

    reader = asyncio.create_task(database.read(read_twice))
    await asyncio.to_thread(reading.wait, PATIENCE_S)
    await database.transact(lambda connection: insert_site(connection, "north"))
    written.set()
    assert await reader == ([], [])


async def test_writers_of_one_process_never_overlap(database: Database) -> None:
    inside: list[int] = []
    worst: list[int] = []

    def work(connection: Connection) -> None:
        inside.append(1)
        worst.append(len(inside))
        insert_site(connection, f"site-{len(worst)}")
        inside.pop()

    await asyncio.gather(*(database.transact(work) for _ in range(50)))
    assert max(worst) == 1
    assert len(await database.read(site_names)) == 50


async def test_two_replicas_share_one_file(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path, "sample")
    async with Database(url, METADATA) as one, Database(url, METADATA) as two:

        def increase(connection: Connection) -> None:
            size = connection.execute(sa.select(SITES.c.size)).scalar_one()
            connection.execute(sa.update(SITES).values(size=size + 1))

        await one.transact(lambda connection: insert_site(connection, "north"))
        await asyncio.gather(*(database.transact(increase) for _ in range(100) for database in (one, two)))
        assert await two.read(lambda connection: connection.execute(sa.select(SITES.c.size)).scalar_one()) == 201


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
async def test_durability_decides_when_the_file_is_synced(tmp_path: Path, durability: str, synchronous: int) -> None:
    common = CommonSettings(home=tmp_path, durability=durability)  # type: ignore[arg-type]
    async with Database.of(common, "sample", METADATA) as database:

        def pragmas(connection: Connection) -> tuple[int, str]:
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("synchronous", "journal_mode")
            ]
            return found[0], found[1]

        assert await database.transact(pragmas) == (synchronous, "wal")
        assert database.path == tmp_path / "db" / "sample.sqlite"


async def test_listeners_hear_of_commits_that_filled_the_outbox_and_of_no_others(database: Database) -> None:
    heard: list[int] = []
    database.on_outbox(lambda: heard.append(1))

    def fill(connection: Connection) -> None:
        connection.info[OUTBOX_FILLED] = True

    def fill_and_fail(connection: Connection) -> None:
        fill(connection)
        raise ValueError("no")

    await database.transact(fill)
    await database.transact(site_names)
    with pytest.raises(ValueError, match="no"):
        await database.transact(fill_and_fail)
    await database.transact(site_names)
    assert heard == [1]


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path, "sample"), METADATA)
    with pytest.raises(Unavailable, match="is not open"):
        await database.read(site_names)


async def test_work_asked_for_while_the_database_opens_is_told_so_or_done(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path, "sample"), METADATA)
    opening = asyncio.create_task(database.__aenter__())
    await asyncio.sleep(0)
    reading = asyncio.create_task(database.read(site_names))
    assert isinstance((await asyncio.gather(reading, return_exceptions=True))[0], Unavailable | list)
    await opening
    await database.__aexit__()


async def test_work_under_way_ends_before_the_database_closes(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path, "sample")
    async with Database(url, METADATA) as database:
        entered, go = threading.Event(), threading.Event()

        def work(connection: Connection) -> None:
            entered.set()
            assert go.wait(PATIENCE_S)
            insert_site(connection, "late")

        writing = asyncio.create_task(database.transact(work))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        asyncio.get_running_loop().call_later(0.05, go.set)
    await writing
    async with Database(url, METADATA) as again:
        assert await again.read(site_names) == ["late"]


# ---- what goes wrong ----


async def test_a_lock_that_is_not_given_back_is_transient(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await database.transact(lambda connection: connection.exec_driver_sql("SELECT 1"))

    def hurry(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout=20")

    await database.transact(hurry)
    other = sqlite3.connect(str(database.path), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient, match="locked by another process"):
            await database.transact(site_names)
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert await database.transact(site_names) == []


async def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "db" / "sample.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"this is not a database, whatever its name says " * 100)
    with pytest.raises(IrisloopError, match=r"is damaged: stop the service and put back a backup") as caught:
        async with Database(sqlite_url(tmp_path, "sample"), METADATA):
            pass
    assert caught.value.reason == "DATABASE_CORRUPT"
    assert not isinstance(caught.value, Transient)


async def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("a file stands here")
    with pytest.raises(IrisloopError, match="cannot be opened"):
        async with Database(sqlite_url(tmp_path, "sample"), METADATA):
            pass


async def test_a_full_disk_is_transient_and_says_what_to_do(database: Database) -> None:
    def limit(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    await database.transact(limit)
    with pytest.raises(Transient, match="no space left on its disk: free some") as caught:
        await database.transact(lambda connection: insert_site(connection, "x" * 100_000))
    assert caught.value.reason == "DISK_FULL"


def test_a_server_that_is_away_is_unavailable() -> None:
    error = sa.exc.OperationalError("SELECT 1", {}, ConnectionError("connection refused"))
    assert isinstance(explained(error, "database x"), Unavailable)


# ---- migrations ----


def write_versions(folder: Path, *texts: str) -> Path:
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts, 1):
        (folder / "versions" / f"{number:04}_step.py").write_text(text, encoding="utf-8")
    return folder


def revision(connection: Connection) -> str:
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


async def test_migrations_are_applied_step_by_step_and_keep_the_rows(tmp_path: Path) -> None:
    url, folder = sqlite_url(tmp_path, "sample"), write_versions(tmp_path / "m", FIRST)
    async with Database(url, METADATA, migrations=folder) as database:
        assert await database.read(revision) == "0001"

        def fill(connection: Connection) -> None:
            connection.exec_driver_sql("INSERT INTO sites (name) VALUES ('north')")
            connection.exec_driver_sql("INSERT INTO cameras (id, site) VALUES ('gate', 'north')")

        await database.transact(fill)
    write_versions(folder, FIRST, SECOND)
    async with Database(url, METADATA, migrations=folder) as database:
        assert await database.read(revision) == "0002"
        await database.transact(lambda connection: insert_site(connection, "south"))
        assert await database.read(site_names) == ["north", "south"]
        count = sa.select(sa.func.count()).select_from(CAMERAS)
        assert await database.read(lambda connection: connection.execute(count).scalar_one()) == 1


async def test_a_migration_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    url, folder = (
        sqlite_url(tmp_path, "sample"),
        write_versions(tmp_path / "m", FIRST, SECOND + "    raise KeyError(1)\n"),
    )
    with pytest.raises(KeyError):
        async with Database(url, METADATA, migrations=folder):
            pass
    async with Database(url, sa.MetaData()) as database:
        tables = await database.read(lambda connection: sa.inspect(connection).get_table_names())
    assert tables == []


async def test_replicas_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url, folder = sqlite_url(tmp_path, "sample"), write_versions(tmp_path / "m", FIRST, SECOND)
    databases = [Database(url, METADATA, migrations=folder) for _ in range(4)]
    await asyncio.gather(*(database.__aenter__() for database in databases))
    try:
        assert await databases[3].read(site_names) == ["made by 0002"]
    finally:
        for database in databases:
            await database.__aexit__()


async def test_the_kit_makes_its_own_tables_beside_the_migrations(tmp_path: Path) -> None:
    metadata = sa.MetaData()
    outbox_tables(metadata)
    folder = write_versions(tmp_path / "m", FIRST)
    async with Database(sqlite_url(tmp_path, "sample"), metadata, migrations=folder) as database:
        tables = await database.read(lambda connection: sa.inspect(connection).get_table_names())
    assert set(tables) == {"alembic_version", "cameras", "inbox", "outbox", "sites"}
