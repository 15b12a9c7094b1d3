"""ClickHouse through clickhouse-connect: the engine in process (chdb) under home, or a server; the same SQL for both.

Exactly once: one writer a partition inserts a day's rows by offset, each insert whole or not at all, and asks the table
for the last offset that it holds of that day before it goes on after a start or a failure. A token of the ranges is a
second net, should an insert be sent twice. What waits while an insert is under way goes into the next one together: an
insert costs as much as thousands of rows.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.telemetry import log
from services.monitor.domain.rows import Batch, Messages, Rows
from services.monitor.domain.tables import TABLES, Table
from services.monitor.errors import AnalyticsClosed
from services.monitor.outbound.messages import MessageInserter
from services.monitor.outbound.schema import create, migrate
from services.monitor.outbound.tables_aside import TablesAside
from services.monitor.outbound.writing import Writer

T = TypeVar("T")

_WAIT_S: Final = 5.0
_GATHER_S: Final = 0.1
"""So long predictions wait for those of other partitions: else every other insert would be of the fastest one alone."""
_ACCURACY: Final = """
SELECT countIf(p.class_name = a.truth), count()
FROM (
    SELECT asset_id, argMax(class_name, revision) AS truth
    FROM annotations GROUP BY asset_id HAVING truth != ''
) AS a
INNER JOIN (
    SELECT asset_id, class_name FROM predictions
    WHERE model = {model:String} AND error = '' AND role != 'direct'
      AND ({version:String} = '' OR version = {version:String})
      AND ({role:String} = '' OR role = {role:String})
      AND captured_at >= fromUnixTimestamp64Micro({since:Int64})
      AND ({until:Int64} = 0 OR captured_at < fromUnixTimestamp64Micro({until:Int64}))
) AS p ON p.asset_id = a.asset_id
"""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that is to be inserted, and what became of it."""

    batch: Batch
    failure: Exception | None = None


class ClickHouse:
    """Opened aside, in one thread that alone speaks to it: the first opening of a folder takes seconds."""

    def __init__(self, path: Path, url: str, keep_days: int) -> None:
        """`url` is http(s)://user:password@host:port/database; the engine in process keeps to `path` when it is
        empty.
        """
        self.path, self._url, self._keep_days = path, url, keep_days
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        self._opened = asyncio.Event()
        self._client: Any = None
        self._writer: Writer | None = None
        self._queues: dict[str, deque[_Waiting]] = defaultdict(deque)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._call(self._client.close)
        self._thread.shutdown(wait=True)

    async def open(self) -> None:
        """Open until it works; a task of its own, so that nothing waits for it."""
        delay = 1.0
        while not self._opened.is_set():
            try:
                await self._call(self._open)
                self._opened.set()
                log.info("analytics_opened", embedded=not self._url)
            except Exception as error:
                log.warning("analytics_closed", error=str(error), retry_in_s=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 30.0)

    async def opened(self) -> None:
        """Wait until it is."""
        await self._opened.wait()

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        import clickhouse_connect

        if self._url:
            self._client = clickhouse_connect.get_client(**_server(self._url))
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            self._client = clickhouse_connect.get_client(interface="chdb", path=str(self.path))
        for table in TABLES:
            self._client.command(self._create(table))
            migrate(self._client, table)
        inserting = self.path.with_name(f"{self.path.name}-inserting")
        self._writer = Writer(self._client, None if self._url else MessageInserter(self._client, inserting))

    def _create(self, table: Table, name: str = "") -> str:
        return create(table, name or table.name, self._keep_days)

    async def _ready(self) -> None:
        if self._opened.is_set():  # `wait_for` of Python 3.11 would forget a cancellation
            return
        try:
            await asyncio.wait_for(self._opened.wait(), _WAIT_S)
        except TimeoutError as error:
            raise AnalyticsClosed("ClickHouse is still opening") from error

    @property
    def takes_messages(self) -> bool:
        """The engine in process does; a server reads no file of ours."""
        return not self._url

    async def insert(self, rows: Batch) -> None:
        """Add the rows that are not there yet, in an insert of all that wait. Raises `AnalyticsClosed`."""
        await self._ready()
        one, queue = _Waiting(rows), self._queues[rows.table.name]
        queue.append(one)
        try:
            await asyncio.sleep(_GATHER_S if isinstance(rows, Messages) else 0)
        except asyncio.CancelledError:
            with suppress(ValueError):  # It is under way already.
                queue.remove(one)
            raise
        await self._call(lambda: self._flush(rows.table.name))
        if one.failure is not None:
            raise one.failure

    def _flush(self, table: str) -> None:
        """Insert what waits, unless an earlier call has; what fails together is tried apart, so that no partition
        answers for another's record.
        """
        waiting, later = _one_a_partition(self._queues[table])
        self._queues[table].extendleft(reversed(later))
        for one in waiting if not self._inserted(waiting) else ():
            self._inserted([one])

    def _inserted(self, waiting: list[_Waiting]) -> bool:
        assert self._writer is not None
        try:
            if waiting:
                self._writer.insert([one.batch for one in waiting])
        except Exception as error:
            for one in waiting:
                one.failure = error
            return False
        for one in waiting:
            one.failure = None
        return True

    @asynccontextmanager
    async def aside(self, begins: Mapping[tuple[str, int], int]) -> AsyncIterator[Aside]:
        """New tables beside those in use; whatever goes wrong before `swap`, those in use stay as they are. `begins`:
        the first offset that each (topic, partition) still holds. Raises `AnalyticsClosed`.
        """
        await self._ready()
        tables = await self._call(lambda: TablesAside(self._client, self._create, begins))
        try:
            yield Aside(tables, self._call)
        finally:
            await self._call(tables.drop)
            self.forget()

    def forget(self) -> None:
        """Ask again what is held before the next insert of each partition: another instance may have written."""
        if self._writer is not None:
            self._writer.forget()

    def _rows(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return list(self._client.query(query, parameters=dict(parameters)).result_rows)

    async def query(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a SELECT. Raises `AnalyticsClosed`."""
        await self._ready()
        return await self._call(lambda: self._rows(query, parameters or {}))

    async def accuracy(self, request: pb.GetAccuracyRequest) -> tuple[int, int]:
        """(right, labels) of the newest revision of each label, joined to the predictions asked for."""
        since, until = getattr(request, "from"), request.to
        parameters = {
            "model": request.model,
            "version": request.version,
            "role": request.role,
            "since": since.seconds * 1_000_000 + since.nanos // 1000,
            "until": until.seconds * 1_000_000 + until.nanos // 1000,
        }
        right, labels = (await self.query(_ACCURACY, parameters))[0]
        return int(right), int(labels)


@dataclass(frozen=True, slots=True)
class Aside:
    """`TablesAside`, in ClickHouse's thread."""

    tables: TablesAside
    call: Callable[[Callable[[], Any]], Awaitable[Any]]

    async def insert(self, rows: Rows) -> None:
        """Rows that no insert before has brought."""
        await self.call(lambda: self.tables.insert(rows))

    async def swap(self) -> dict[str, int]:
        """From now on these are the tables; returns rows by table."""
        counts: dict[str, int] = await self.call(self.tables.swap)
        return counts


class NoAnalytics:
    """Stands in where this instance does not have the role."""

    async def accuracy(self, request: pb.GetAccuracyRequest) -> tuple[int, int]:
        """Raises `AnalyticsClosed`."""
        raise AnalyticsClosed("this instance does not have the role `analytics`")


def _one_a_partition(queue: deque[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """Take everything: (the first batch of each partition, what comes after it)."""
    first: dict[tuple[str, int], _Waiting] = {}
    later: list[_Waiting] = []
    while queue:
        one = queue.popleft()
        if first.setdefault((one.batch.topic, one.batch.partition), one) is not one:
            later.append(one)
    return list(first.values()), later


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or (8443 if parts.scheme == "https" else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/") or "default",
        "secure": parts.scheme == "https",
    }
