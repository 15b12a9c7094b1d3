"""Rows on their way into a table: of one partition, ascending by offset, as columns or as the records' own bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from services.monitor.domain.tables import Table

DAY: Final = 86_400_000_000
"""Microseconds; tables are partitioned by it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of one partition, ascending: their offsets, and a sequence of values for each of the table's columns."""

    table: Table
    topic: str
    partition: int
    offsets: Sequence[int]
    columns: Sequence[Sequence[Any]]

    def after(self, offset: int) -> Rows:
        """Without the records up to `offset`."""
        return self._only([place for place, at in enumerate(self.offsets) if at > offset])

    def by_day(self) -> list[tuple[int, Rows]]:
        """(day since 1970, its rows): ClickHouse writes an insert of one day whole or not at all, of two not so."""
        times = self.columns[self.table.names.index(self.table.time)]
        return [(day, self._only(places)) for day, places in places_by([at // DAY for at in times])]

    def _only(self, places: Sequence[int]) -> Rows:
        if len(places) == len(self.offsets):
            return self
        columns = [[column[place] for place in places] for column in self.columns]
        return Rows(self.table, self.topic, self.partition, [self.offsets[place] for place in places], columns)


@dataclass(frozen=True, slots=True)
class Messages:
    """Records of one partition, ascending, that ClickHouse takes apart itself: offsets, protobuf bytes as they
    travelled, and the day since 1970 of the table's time in each.
    """

    table: Table
    topic: str
    partition: int
    offsets: Sequence[int]
    values: Sequence[bytes]
    days: Sequence[int]

    def after(self, offset: int) -> Messages:
        """Without the records up to `offset`."""
        return self._only([place for place, at in enumerate(self.offsets) if at > offset])

    def by_day(self) -> list[tuple[int, Messages]]:
        """(day since 1970, its records), as `Rows.by_day`."""
        return [(day, self._only(places)) for day, places in places_by(self.days)]

    def _only(self, places: Sequence[int]) -> Messages:
        if len(places) == len(self.offsets):
            return self
        offsets, values = [self.offsets[p] for p in places], [self.values[p] for p in places]
        return Messages(self.table, self.topic, self.partition, offsets, values, [self.days[p] for p in places])


Batch: TypeAlias = Rows | Messages


def places_by(days: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """(day, where it stands in `days`), the earliest day first."""
    distinct = sorted(set(days))
    if len(distinct) == 1:
        return [(distinct[0], range(len(days)))]
    return [(day, [place for place, its in enumerate(days) if its == day]) for day in distinct]


class Warehouse(Protocol):
    """Keeps rows exactly once."""

    @property
    def takes_messages(self) -> bool:
        """Whether it takes predictions as `Messages`."""

    async def insert(self, rows: Batch) -> None:
        """Add the rows that are not there yet. Raises `AnalyticsClosed` while it is not open."""
