"""What the services' tests hold for SQLite holds for a real PostgreSQL: the same tests, on a database of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.common import database as kit_database
from services.common.bus import MemoryBus
from services.common.database import Database
from services.common.errors import Transient, Unavailable
from services.common.outbox import enqueue, outbox_tables
from services.registry.app import MIGRATIONS
from services.registry.outbound.tables import metadata
from services.registry.wire import candidate_of_run
from tests.contract.postgres import Postgres, missing, schema_of
from tests.unit.common import test_database, test_outbox
from tests.unit.registry import test_judging, test_people, test_rollout_handlers, world

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Case = Callable[..., Coroutine[Any, Any, None]]
REGISTRY = (test_judging, test_people, test_rollout_handlers)
OF_SQLITE = (
    "test_a_reader_cannot_write",
    "test_a_full_disk_is_transient_and_says_what_to_do",
    "test_of_two_relays_one_works_and_the_other_takes_over",
)
"""They look at SQLite's file, or at what SQLite says."""
KIT = sa.MetaData()
test_database.SITES.to_metadata(KIT)
test_database.CAMERAS.to_metadata(KIT)
outbox_tables(KIT)


def cases(*modules: ModuleType, parameter: str) -> list[Any]:
    """The tests of the modules that take this parameter and no other."""
    return [
        pytest.param(test, id=f"{module.__name__.rpartition('.')[2]}-{name}")
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_")
        and name not in OF_SQLITE
        and list(inspect.signature(test).parameters) == [parameter]
    ]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """One server for all of them."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def database(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Database]:
    """With the tables of the kit's own tests."""
    async with Database(postgres.url, KIT, schema=schema_of(tmp_path)) as opened:
        yield opened


@asynccontextmanager
async def registry_on(postgres: Postgres, folder: Path) -> AsyncIterator[world.World]:
    """A replica of registry, on a bus of its own."""
    async with Database(postgres.url, metadata, migrations=MIGRATIONS, schema=schema_of(folder)) as opened:
        yield world.World(opened, MemoryBus(service="registry"), ())


@pytest.mark.parametrize("case", cases(*REGISTRY, parameter="tmp_path"))
async def test_registry(case: Case, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the case asserts, and that it was this server that it ran on."""
    opened: list[Database] = []

    def open_here(folder: Path) -> Database:
        opened.append(Database(postgres.url, metadata, migrations=MIGRATIONS, schema=schema_of(folder)))
        return opened[-1]

    monkeypatch.setattr(world, "database_in", open_here)
    await case(tmp_path)
    assert opened


@pytest.mark.parametrize("case", cases(test_database, test_outbox, parameter="database"))
async def test_the_kit(case: Case, database: Database) -> None:
    """What the case asserts, and that it left this server able to write."""
    await case(database)
    assert await database.transact(lambda connection: connection.dialect.name) == "postgresql"


@pytest.mark.parametrize("service", ["ingest", "labeling", "trainer", "registry", "serving"])
async def test_migrated_and_declared_tables_are_the_same(service: str, postgres: Postgres, tmp_path: Path) -> None:
    tables = vars(import_module(f"services.{service}.outbound.tables"))
    (declared,) = {id(one): one for one in tables.values() if isinstance(one, sa.MetaData)}.values()
    migrations = MIGRATIONS.parents[2] / service / "outbound" / "migrations"

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, declared)
        return [one for one in found if not (one[0] == "remove_table" and one[1].name == "alembic_version")]

    async with Database(postgres.url, declared, migrations=migrations, schema=schema_of(tmp_path)) as opened:
        assert await opened.read(differences) == []


async def test_two_replicas_of_a_service_lose_no_write(postgres: Postgres, database: Database) -> None:
    async with Database(postgres.url, KIT, schema=database.schema) as other:

        def increase(connection: sa.Connection) -> None:
            size = connection.execute(sa.select(test_database.SITES.c.size)).scalar_one()
            connection.execute(sa.update(test_database.SITES).values(size=size + 1))

        await database.transact(lambda connection: test_database.insert_site(connection, "north"))
        await asyncio.gather(*(one.transact(increase) for _ in range(50) for one in (database, other)))
        found = await other.read(lambda c: c.execute(sa.select(test_database.SITES.c.size)).scalar_one())
        assert found == 101


async def test_two_registries_move_aliases_one_after_the_other(postgres: Postgres, tmp_path: Path) -> None:
    async with registry_on(postgres, tmp_path) as one, registry_on(postgres, tmp_path) as two:
        for number in range(1, 4):
            await one.handlers.register_version(candidate_of_run(world.run(f"run-{number}")))
        names = [f"site-{number}" for number in range(20)]
        replicas = (one, two)
        await asyncio.gather(
            *(
                replicas[place % 2].handlers.set_alias("garments", name, str(place % 3 + 1), by="ann", reason="")
                for place, name in enumerate(names)
            )
        )
        model = await one.handlers.ledgers.read(lambda ledger: ledger.model("garments"))
        assert model.aliases == {name: str(place % 3 + 1) for place, name in enumerate(names)}
        assert model.revision == len(names)


async def test_the_relay_of_a_replica_takes_over_from_one_that_ended(postgres: Postgres, database: Database) -> None:
    first, second = test_outbox.Outlet(), test_outbox.Outlet()
    async with Database(postgres.url, KIT, schema=database.schema) as replica:
        one = test_outbox.running(database, first)
        await database.transact(lambda connection: enqueue(connection, [test_outbox.event(1)]))
        await first.holds(1)
        two = test_outbox.running(replica, second)
        await replica.transact(lambda connection: enqueue(connection, [test_outbox.event(2)]))
        await first.holds(2)
        assert second.published == []
        await test_outbox.ended(one)
        await replica.transact(lambda connection: enqueue(connection, [test_outbox.event(3)]))
        await second.holds(1)
        assert [published.ce_id for published in second.published] == ["id-3"]
        await test_outbox.ended(two)


async def test_a_server_that_crashed_and_came_back_has_every_event(postgres: Postgres, database: Database) -> None:
    outlet = test_outbox.Outlet()
    outlet.away = Unavailable("Kafka is away", reason="KAFKA_AWAY")
    relay = test_outbox.running(database, outlet)
    await database.transact(lambda connection: enqueue(connection, [test_outbox.event(n) for n in range(20)]))
    await asyncio.to_thread(postgres.kill)
    with pytest.raises(Unavailable, match="does not answer"):
        await database.transact(lambda connection: enqueue(connection, [test_outbox.event(99)]))
    await asyncio.to_thread(postgres.start)
    outlet.away = None
    await outlet.holds(20)
    assert [published.ce_id for published in outlet.published] == [f"id-{n}" for n in range(20)]
    await test_outbox.ended(relay)


async def test_a_writer_that_does_not_end_is_not_waited_for_without_end(
    postgres: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit_database, "BUSY_MS", 200)
    entered, go = threading.Event(), threading.Event()

    def hang(connection: sa.Connection) -> None:
        entered.set()
        assert go.wait(30)

    async with Database(postgres.url, KIT, schema=database.schema) as other:
        hanging = asyncio.create_task(other.transact(hang))
        await asyncio.to_thread(entered.wait, 30)
        with pytest.raises(Transient, match="is locked by another process") as refused:
            await database.transact(test_database.site_names)
        assert refused.value.reason == "DATABASE_LOCKED"
        go.set()
        await hanging
        assert await database.transact(test_database.site_names) == []


async def test_a_package_may_be_large(postgres: Postgres, tmp_path: Path) -> None:
    async with registry_on(postgres, tmp_path) as registry:
        run = world.run("run-1")
        run.package.size_bytes = 5 << 30
        version = await registry.handlers.register_version(candidate_of_run(run))
        found = await registry.handlers.ledgers.read(lambda ledger: ledger.version("garments", version.name))
        assert found.candidate.package.size_bytes == 5 << 30
