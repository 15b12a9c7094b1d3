"""Inserts, each row once: a day's rows go in one insert, whole or not at all, after what the table holds of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from services.common.metrics import MONITOR_INSERT_SECONDS, MONITOR_ROWS, MONITOR_ROWS_TRIMMED
from services.monitor.domain.rows import Batch, Messages, Rows
from services.monitor.domain.tables import Table
from services.monitor.outbound.messages import MessageInserter

_REMEMBERED: Final = 1000
_PLACE: Final = ("topic", "partition", "offset")

Key = tuple[str, str, int, int]


class Writer:
    """Blocking, in the thread that owns the client."""

    def __init__(self, client: Any, messages: MessageInserter | None) -> None:
        """With `messages` the engine is in process, and nobody else writes to these tables: what was held after an
        insert is held until the next.
        """
        self._client, self._messages = client, messages
        self._held: dict[Key, int] = {}

    def forget(self) -> None:
        """Ask again what is held before the next insert of each partition: another instance may have written."""
        self._held.clear()

    def insert(self, batches: Sequence[Batch]) -> None:
        """Batches of one table and of different partitions, in one insert a day."""
        days: dict[int, list[Batch]] = {}
        for batch in batches:
            for day, part in batch.by_day():
                days.setdefault(day, []).append(part)
        for day in sorted(days):
            self._insert_day(day, days[day])

    def _insert_day(self, day: int, parts: Sequence[Batch]) -> None:
        keys = [(part.table.name, part.topic, part.partition, day) for part in parts]
        fresh = [part.after(self._last(key, part.table)) for key, part in zip(keys, parts, strict=True)]
        trimmed = sum(len(part.offsets) for part in parts) - sum(len(part.offsets) for part in fresh)
        MONITOR_ROWS_TRIMMED.labels(parts[0].table.name).inc(trimmed)
        lasts = {key: max(part.offsets[-1], self._held.pop(key)) for key, part in zip(keys, parts, strict=True)}
        if written := [part for part in fresh if part.offsets]:  # One that fails may have been written: ask again then.
            self.write(day, written)
        self._held |= lasts
        while len(self._held) > _REMEMBERED:
            del self._held[next(iter(self._held))]

    def write(self, day: int, parts: Sequence[Batch]) -> None:
        """One insert, whatever the table holds."""
        table = parts[0].table
        ranges = ",".join(f"{p.topic}/{p.partition}/{p.offsets[0]}-{p.offsets[-1]}" for p in parts)
        settings = {"insert_deduplication_token": f"{day}/{ranges}"}
        messages = [part for part in parts if isinstance(part, Messages)]
        rows = [part for part in parts if isinstance(part, Rows)]
        with MONITOR_INSERT_SECONDS.time():
            if messages:
                assert self._messages is not None
                self._messages.insert(messages, settings)
            if rows:
                insert_rows(self._client, table.name, rows, settings)
        MONITOR_ROWS.labels(table.name).inc(sum(len(part.offsets) for part in parts))

    def _last(self, key: Key, table: Table) -> int:
        """The last offset held of a day of a partition, -1 without one."""
        if self._messages is None or key not in self._held:
            _, topic, partition, day = key
            query = (
                f"SELECT max(offset), count() FROM {table.name} WHERE topic = {{topic:String}} "
                f"AND partition = {{partition:UInt16}} AND toDate({table.time}) = toDate({{day:UInt16}})"
            )
            asked = {"topic": topic, "partition": partition, "day": day}
            last, count = self._client.query(query, parameters=asked).result_rows[0]
            self._held[key] = int(last) if count else -1
        return self._held[key]


def insert_rows(client: Any, name: str, parts: Sequence[Rows], settings: dict[str, str] | None = None) -> None:
    """Rows of one table, in one insert."""
    columns: list[list[Any]] = [[] for _ in (*_PLACE, *parts[0].table.columns)]
    for part in parts:
        count = len(part.offsets)
        given: tuple[Sequence[Any], ...] = ([part.topic] * count, [part.partition] * count, part.offsets, *part.columns)
        for column, values in zip(columns, given, strict=True):
            column.extend(values)
    names = [*_PLACE, *parts[0].table.names]
    client.insert(name, columns, column_names=names, column_oriented=True, settings=settings)
