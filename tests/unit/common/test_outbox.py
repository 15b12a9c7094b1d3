"""Events leave once their transaction stands, in order, and never two relays at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from irisloop.ingest.v1 import ingest_pb2
from irisloop.topics import CAMERA_CHANGED

from services.common import outbox
from services.common.bus.api import Bus, Event
from services.common.database import Database, sqlite_url
from services.common.errors import InvalidMessage, Unavailable
from services.common.metrics import INBOX_REPEATS, OUTBOX_FAILURES, OUTBOX_ROWS
from services.common.outbox import BATCH, INBOX, OUTBOX, OutboxRelay, enqueue, fresh, outbox_tables, prune
from services.common.telemetry import bind_trace, is_valid, new_traceparent, trace_id
from tests.waiting import PATIENCE_S, until

TIME = datetime(2024, 2, 29, 12, 30, 15, 123456, UTC)


class Outlet:
    """A bus of which only `publish` is used; it can be away, and it can take its time."""

    def __init__(self) -> None:
        self.published: list[Event[Any]] = []
        self.batches: list[int] = []
        self.away: Exception | None = None
        self.delay_s = 0.0
        self.changed = asyncio.Event()

    async def publish(self, events: Sequence[Event[Any]]) -> None:
        await asyncio.sleep(self.delay_s)
        if self.away is not None:
            raise self.away
        self.published.extend(events)
        self.batches.append(len(events))
        self.changed.set()

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.published) < count:
                self.changed.clear()
                await self.changed.wait()


def event(number: int, *, traceparent: str = "", size: int = 0) -> Event[ingest_pb2.CameraChanged]:
    camera = ingest_pb2.Camera(id=f"gate-{number % 3}", site="n" * size)
    message = ingest_pb2.CameraChanged(camera=camera)
    return Event(CAMERA_CHANGED, camera.id, message, f"id-{number}", TIME, traceparent, partition=number % 2 or None)


async def left(database: Database) -> int:
    count = sa.select(sa.func.count()).select_from(OUTBOX)
    return await database.read(lambda connection: connection.execute(count).scalar_one())


def running(database: Database, outlet: Outlet) -> asyncio.Task[None]:
    return asyncio.create_task(OutboxRelay(database, cast(Bus, outlet)).run())


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    metadata = sa.MetaData()
    outbox_tables(metadata)
    async with Database(sqlite_url(tmp_path, "sample"), metadata) as opened:
        yield opened


async def test_events_come_out_as_they_went_in_and_in_order(database: Database) -> None:
    outlet = Outlet()
    relay = running(database, outlet)
    sent = [event(number, traceparent=new_traceparent()) for number in range(20)]
    await database.transact(lambda connection: enqueue(connection, sent[:7]))
    await database.transact(lambda connection: enqueue(connection, sent[7:]))
    await outlet.holds(20)
    assert outlet.published == sent
    await until(lambda: is_empty(database))
    await ended(relay)


async def is_empty(database: Database) -> bool:
    return await left(database) == 0


async def test_a_transaction_that_is_undone_says_nothing(database: Database) -> None:
    outlet = Outlet()
    relay = running(database, outlet)

    def work(connection: sa.Connection) -> None:
        enqueue(connection, [event(1)])
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transact(work)
    await database.transact(lambda connection: enqueue(connection, [event(2)]))
    await outlet.holds(1)
    assert [published.ce_id for published in outlet.published] == ["id-2"]
    await ended(relay)


async def test_a_commit_wakes_the_relay_which_need_not_look_by_itself(database: Database) -> None:
    outlet = Outlet()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOOK_ALONE_S", "LOOK_SHARED_S"):
            patch.setattr(outbox, name, 3_600.0)
        relay = running(database, outlet)
        for number in range(60):
            await database.transact(partial(enqueue, events=[event(number)]))
            await outlet.holds(number + 1)
        await ended(relay)
    assert [published.ce_id for published in outlet.published] == [f"id-{number}" for number in range(60)]


async def test_what_an_earlier_process_left_goes_out_at_the_start(database: Database) -> None:
    await database.transact(lambda connection: enqueue(connection, [event(number) for number in range(2_500)]))
    outlet = Outlet()
    relay = running(database, outlet)
    await outlet.holds(2_500)
    assert [published.ce_id for published in outlet.published] == [f"id-{number}" for number in range(2_500)]
    assert outlet.batches == [BATCH, BATCH, 500]
    await until(lambda: is_empty(database))
    await ended(relay)


async def test_an_outage_delays_events_and_shows_the_backlog(database: Database) -> None:
    outlet = Outlet()
    outlet.away = Unavailable("Kafka does not answer.")
    relay = running(database, outlet)
    await database.transact(lambda connection: enqueue(connection, [event(number) for number in range(5)]))

    async def shown() -> bool:
        return bool(OUTBOX_ROWS._value.get() == 5)

    await until(shown)
    assert outlet.published == []
    outlet.away = None
    await outlet.holds(5)
    assert [published.ce_id for published in outlet.published] == [f"id-{number}" for number in range(5)]
    await ended(relay)


async def test_an_error_of_the_relay_itself_keeps_the_rows(database: Database) -> None:
    outlet = Outlet()
    outlet.away = ValueError("a defect")
    relay = running(database, outlet)
    await database.transact(lambda connection: enqueue(connection, [event(1)]))
    await asyncio.sleep(0.1)
    assert not relay.done()
    outlet.away = None
    await outlet.holds(1)
    await ended(relay)


async def test_of_two_relays_one_works_and_the_other_takes_over(database: Database) -> None:
    metadata = sa.MetaData()
    outbox_tables(metadata)
    first, second = Outlet(), Outlet()
    async with Database(str(database.url), metadata) as replica:
        one = running(database, first)
        await database.transact(lambda connection: enqueue(connection, [event(1)]))
        await first.holds(1)
        two = running(replica, second)
        await replica.transact(lambda connection: enqueue(connection, [event(2)]))
        await first.holds(2)
        assert second.published == []
        await ended(one)
        await replica.transact(lambda connection: enqueue(connection, [event(3)]))
        await second.holds(1)
        assert [published.ce_id for published in second.published] == ["id-3"]
        await ended(two)


async def test_a_lock_that_cannot_be_had_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BACKOFF_S", (0.01, 0.05))
    assert database.path is not None
    lock = Path(f"{database.path}.relay")
    await asyncio.to_thread(lock.mkdir)  # no file can be opened there
    outlet = Outlet()
    relay = running(database, outlet)
    await database.transact(lambda connection: enqueue(connection, [event(1)]))
    failures = OUTBOX_FAILURES._value.get()

    async def failed_again() -> bool:
        return bool(OUTBOX_FAILURES._value.get() > failures)

    await until(failed_again)
    assert outlet.published == []
    await asyncio.to_thread(lock.rmdir)
    await outlet.holds(1)
    await ended(relay)


async def test_the_trace_of_the_work_in_hand_is_inherited(database: Database) -> None:
    outlet = Outlet()
    relay = running(database, outlet)
    with bind_trace("") as traceparent:
        await database.transact(lambda connection: enqueue(connection, [event(1)]))
    await database.transact(lambda connection: enqueue(connection, [event(2)]))
    await outlet.holds(2)
    assert trace_id(outlet.published[0].traceparent) == trace_id(traceparent)
    assert is_valid(outlet.published[1].traceparent)
    await ended(relay)


async def test_an_event_larger_than_its_topic_takes_is_refused_at_once(database: Database) -> None:
    huge = event(1, size=CAMERA_CHANGED.max_message_bytes)
    with pytest.raises(InvalidMessage, match=r"does not fit irisloop\.ingest\.camera\.changed\.v1"):
        await database.transact(lambda connection: enqueue(connection, [huge]))
    assert await left(database) == 0


async def test_rows_of_an_unknown_topic_stay_and_the_others_go_out(database: Database) -> None:
    foreign = {
        "topic": "irisloop.other.thing.done.v9",
        "key": "k",
        "value": b"",
        "ce_id": "f",
        "ce_time_us": 0,
        "traceparent": "",
        "enqueued_at": 0.0,
    }
    await database.transact(lambda connection: connection.execute(sa.insert(OUTBOX).values(**foreign)))
    outlet = Outlet()
    relay = running(database, outlet)
    await database.transact(lambda connection: enqueue(connection, [event(1)]))
    await outlet.holds(1)

    async def only_the_foreign_one() -> bool:
        return await left(database) == 1

    await until(only_the_foreign_one)
    await ended(relay)
    assert await left(database) == 1


# ---- inbox ----


async def test_what_was_handled_once_is_not_fresh_again(database: Database) -> None:
    assert await database.transact(lambda connection: fresh(connection, "h", ["a", "b"])) == {"a", "b"}
    assert await database.transact(lambda connection: fresh(connection, "h", ["b", "c"])) == {"c"}
    assert await database.transact(lambda connection: fresh(connection, "other", ["a", "b"])) == {"a", "b"}
    assert await database.transact(lambda connection: fresh(connection, "h", [])) == set()


async def test_a_repeat_within_one_batch_is_fresh_once_and_counted(database: Database) -> None:
    before = INBOX_REPEATS.labels("counting")._value.get()
    assert await database.transact(lambda connection: fresh(connection, "counting", ["a", "a", "b'\"\\é"])) == {
        "a",
        "b'\"\\é",
    }
    assert INBOX_REPEATS.labels("counting")._value.get() == before + 1


async def test_a_transaction_that_is_undone_forgets_what_it_noted(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        fresh(connection, "h", ["a"])
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transact(work)
    assert await database.transact(lambda connection: fresh(connection, "h", ["a"])) == {"a"}


async def test_pruning_forgets_the_old_and_keeps_the_new(database: Database) -> None:
    await database.transact(lambda connection: fresh(connection, "h", ["old"]))
    past = datetime.now(UTC) - timedelta(days=9)
    await database.transact(lambda connection: connection.execute(sa.update(INBOX).values(seen_at=past.timestamp())))
    await database.transact(lambda connection: fresh(connection, "h", ["new"]))
    bound = datetime.now(UTC) - timedelta(days=8)
    assert await database.transact(lambda connection: prune(connection, bound)) == 1
    assert await database.transact(lambda connection: fresh(connection, "h", ["old", "new"])) == {"old"}


async def test_a_batch_of_500_is_noted_by_one_statement(database: Database) -> None:
    statements: list[str] = []

    def note(connection: sa.Connection) -> set[str]:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
        return fresh(connection, "h", [f"{number}-0123456789abcdef0123456789abcdef" for number in range(500)])

    assert len(await database.transact(note)) == 500
    assert len(statements) == 1
