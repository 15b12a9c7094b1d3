"""Events leave with the state they belong to: written in its transaction, published after it, gone when acknowledged.

The inbox is the other half: what arrived and was handled is noted in the same transaction, so that a repeat is known.
Both tables belong to the kit; `outbox_tables(metadata)` adds them, and the database makes them when they are missing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from services.common.bus.api import Bus, Event, Topic
from services.common.database import KIT_TABLE, OUTBOX_FILLED, Database, explained
from services.common.errors import InvalidMessage, Transient
from services.common.metrics import (
    INBOX_REPEATS,
    OUTBOX_AGE,
    OUTBOX_DELAY,
    OUTBOX_FAILURES,
    OUTBOX_PUBLISHED,
    OUTBOX_ROWS,
)
from services.common.relay_lock import RelayLock, only_one
from services.common.telemetry import current_traceparent, log, new_traceparent

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

BATCH: Final = 1_000
HEADROOM_BYTES: Final = 4_096
"""What key and headers may take of a topic's largest record."""
LOOK_ALONE_S: Final = 0.5
LOOK_SHARED_S: Final = 0.02
BACKOFF_S: Final = (0.05, 5.0)
MEASURE_S: Final = 2.0
STOP_S: Final = 3.0
PRUNE_S: Final = 600.0
PRUNE_ROWS: Final = 10_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_own = sa.MetaData()
OUTBOX: Final = sa.Table(
    "outbox",
    _own,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("ce_id", sa.Text, nullable=False),
    sa.Column("ce_time_us", sa.BigInteger, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("enqueued_at", sa.Float, nullable=False),
    info={KIT_TABLE: True},
    sqlite_autoincrement=True,
)
INBOX: Final = sa.Table(
    "inbox",
    _own,
    sa.Column("handler", sa.Text, primary_key=True),
    sa.Column("ce_id", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.Float, nullable=False, index=True),
    info={KIT_TABLE: True},
    sqlite_with_rowid=False,
)

_FRESH_SQLITE: Final = sa.text(
    "INSERT OR IGNORE INTO inbox (handler, ce_id, seen_at) SELECT :handler, value, :now FROM json_each(:ids) "
    "RETURNING ce_id"
)
_FRESH_POSTGRES: Final = sa.text(
    "INSERT INTO inbox (handler, ce_id, seen_at) SELECT :handler, value, :now "
    "FROM (SELECT DISTINCT value FROM json_array_elements_text(CAST(:ids AS json)) AS value ORDER BY value) AS wanted "
    "ON CONFLICT DO NOTHING RETURNING ce_id"
)


def outbox_tables(metadata: sa.MetaData) -> None:
    """Add the tables `outbox` and `inbox` to a service's metadata."""
    OUTBOX.to_metadata(metadata)
    INBOX.to_metadata(metadata)


def enqueue(connection: Connection, events: Sequence[Event[Any]]) -> None:
    """Add events to the transaction; they are published in this order once it commits, and never if it does not.

    Raises `InvalidMessage` for an event that its topic would not take.
    """
    if not events:
        return
    now, inherited = time.time(), current_traceparent()
    connection.execute(sa.insert(OUTBOX), [_row(event, now, inherited) for event in events])
    connection.info[OUTBOX_FILLED] = True


def _row(event: Event[Any], now: float, inherited: str) -> dict[str, Any]:
    value = event.value.SerializeToString()
    if len(value) + HEADROOM_BYTES > event.topic.max_message_bytes > 0:
        raise InvalidMessage(
            f"An event of {len(value)} bytes does not fit {event.topic.name}, which takes "
            f"{event.topic.max_message_bytes}.",
            reason="EVENT_TOO_LARGE",
        )
    _topics.setdefault(event.topic.name, event.topic)
    return {
        "topic": event.topic.name,
        "key": event.key,
        "partition": event.partition,
        "value": value,
        "ce_id": event.ce_id,
        "ce_time_us": (event.ce_time - EPOCH) // timedelta(microseconds=1),
        "traceparent": event.traceparent or inherited or new_traceparent(),
        "enqueued_at": now,
    }


def fresh(connection: Connection, handler: str, ce_ids: Sequence[str]) -> set[str]:
    """Note the ids as handled by `handler`, in this transaction; return those that were not noted before."""
    if not ce_ids:
        return set()
    statement = _FRESH_SQLITE if connection.dialect.name == "sqlite" else _FRESH_POSTGRES
    values = {"handler": handler, "now": time.time(), "ids": json.dumps(ce_ids)}
    new = set(connection.execute(statement, values).scalars())
    repeats = len(ce_ids) - len(new)
    if repeats:
        INBOX_REPEATS.labels(handler).inc(repeats)
    return new


def prune(connection: Connection, older_than: datetime) -> int:
    """Forget what was handled before `older_than` (aware), at most 10,000 rows a call; returns how many."""
    oldest = (
        sa.select(INBOX.c.handler, INBOX.c.ce_id)
        .where(INBOX.c.seen_at < older_than.timestamp())
        .order_by(INBOX.c.seen_at)
        .limit(PRUNE_ROWS)
        .subquery()
    )
    chosen = sa.tuple_(INBOX.c.handler, INBOX.c.ce_id).in_(sa.select(oldest.c.handler, oldest.c.ce_id))
    return connection.execute(sa.delete(INBOX).where(chosen)).rowcount


_topics: dict[str, Topic[Any]] = {}
"""The topics that this process has seen, by name."""


def topic_named(name: str) -> Topic[Any] | None:
    """The topic of that name among those enqueued here and those of the contracts."""
    if name not in _topics:
        import irisloop.topics as contracts

        _topics.update({value.name: value for value in vars(contracts).values() if isinstance(value, Topic)})
    return _topics.get(name)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Let what is being published be acknowledged and deleted also when we are told to stop: no repeat at the start."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([task], timeout=STOP_S)
        if not done:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


class OutboxRelay:
    """Publishes what the outbox holds, in order, within a millisecond or so of the commit.

    Of all the relays of one database only one works at a time; the others wait to take over.
    """

    def __init__(self, database: Database, bus: Bus, *, remember: timedelta = timedelta(days=31)) -> None:
        """`remember` is how long the inbox is kept: the longest retention of a topic heard, and a day."""
        self._database = database
        self._bus = bus
        self._remember = remember
        self._wake = asyncio.Event()
        self._look = LOOK_ALONE_S
        self._measured = 0.0
        self._pruned = 0.0
        self._unknown: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Publish until cancelled. What is left then goes out at the next start."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._wake.set)

        self._database.on_outbox(wake)
        while True:
            try:
                async with only_one(self._database) as lock:
                    await self._relay(lock)
            except Exception as error:  # the lock's own connection, or its file: PostgreSQL may be away for a while
                await self._failed(explained(error, self._database), BACKOFF_S[1])

    async def _relay(self, lock: RelayLock) -> None:
        delay = BACKOFF_S[0]
        while await lock.held():
            try:
                woken = self._wake.is_set()
                self._wake.clear()
                count = await _to_its_end(self._publish_batch())
                await self._housekeeping()
                delay = BACKOFF_S[0]
            except Exception as error:  # whatever it is, the rows stay, and the next attempt may get through
                await self._failed(error, delay)
                delay = min(delay * 2, BACKOFF_S[1])
                continue
            if count < BATCH:
                self._look = LOOK_SHARED_S if count and not woken else self._look
                await self._rest()

    async def _failed(self, error: Exception, delay: float) -> None:
        OUTBOX_FAILURES.inc()
        with suppress(Exception):  # the gauges may wait for the database; the error in hand is what has to be said
            await self._measure(force=True)
        if isinstance(error, Transient):
            log.warning("outbox_waits", reason=error.reason, error=str(error), retry_in_s=delay)
        else:
            log.error("outbox_failed", error=repr(error), retry_in_s=delay, exc_info=error)
        await asyncio.sleep(delay)

    async def _rest(self) -> None:
        """Until this process commits events, or it is time to look for those of another replica."""
        try:
            # Not wait_for: Python 3.11's forgets a cancellation that comes together with the event.
            async with asyncio.timeout(self._look):
                await self._wake.wait()
        except TimeoutError:
            self._look = min(self._look * 1.05, LOOK_ALONE_S)

    async def _publish_batch(self) -> int:
        rows = self._known(await self._database.read(lambda connection: _oldest(connection, self._unknown)))
        if not rows:
            return 0
        await self._bus.publish([_event(row) for row in rows])
        now = time.time()
        OUTBOX_PUBLISHED.inc(len(rows))
        OUTBOX_DELAY.observe(max(0.0, now - rows[0].enqueued_at))
        ids = [row.id for row in rows]
        await self._database.transact(lambda connection: _forget(connection, ids))
        return len(rows)

    def _known(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Without those of topics that this version does not know: they wait for one that does, and block nobody."""
        unknown = {row.topic for row in rows if topic_named(row.topic) is None}
        if unknown:
            log.error("outbox_topics_unknown", topics=sorted(unknown))
            self._unknown |= unknown
        return [row for row in rows if row.topic not in unknown]

    async def _housekeeping(self) -> None:
        await self._measure()
        now = time.monotonic()
        if now - self._pruned > PRUNE_S:
            self._pruned = now
            bound = datetime.now(UTC) - self._remember
            more = True
            while more:
                more = await self._database.transact(lambda connection: prune(connection, bound)) == PRUNE_ROWS

    async def _measure(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._measured < MEASURE_S:
            return
        self._measured = now
        rows, oldest = await self._database.read(_backlog)
        OUTBOX_ROWS.set(rows)
        OUTBOX_AGE.set(max(0.0, time.time() - oldest) if rows else 0.0)


def _oldest(connection: Connection, unknown: Collection[str]) -> Sequence[Any]:
    oldest = sa.select(OUTBOX).order_by(OUTBOX.c.id).limit(BATCH)
    return connection.execute(oldest.where(OUTBOX.c.topic.not_in(unknown)) if unknown else oldest).all()


def _forget(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))


def _backlog(connection: Connection) -> tuple[int, float]:
    row = connection.execute(sa.select(sa.func.count(), sa.func.min(OUTBOX.c.enqueued_at)).select_from(OUTBOX)).one()
    return int(row[0]), float(row[1] or 0.0)


def _event(row: Any) -> Event[Any]:
    topic = _topics[row.topic]
    return Event(
        topic=topic,
        key=row.key,
        value=topic.message.FromString(row.value),
        ce_id=row.ce_id,
        ce_time=EPOCH + timedelta(microseconds=row.ce_time_us),
        traceparent=row.traceparent,
        partition=row.partition,
    )
