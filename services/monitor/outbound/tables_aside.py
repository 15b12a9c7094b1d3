"""New tables beside those in use, filled from the topics' beginning and then exchanged with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.monitor.domain.rows import Rows
from services.monitor.domain.tables import TABLES, Table
from services.monitor.outbound.writing import insert_rows

_SUFFIX: Final = "_rebuilt"


class TablesAside:
    """Blocking calls of one client, in the thread that owns it. `begins`: the first offset that each (topic, partition)
    still holds; rows from before it are taken over from the old tables.
    """

    def __init__(self, client: Any, create: Callable[[Table, str], str], begins: Mapping[tuple[str, int], int]) -> None:
        """What an earlier rebuild that was broken off has left is dropped."""
        self._client, self._begins = client, begins
        for table in TABLES:
            client.command(f"DROP TABLE IF EXISTS {table.name}{_SUFFIX} SYNC")
            client.command(create(table, table.name + _SUFFIX))

    def insert(self, rows: Rows) -> None:
        """Rows that no insert before has brought."""
        insert_rows(self._client, rows.table.name + _SUFFIX, [rows])

    def swap(self) -> dict[str, int]:
        """Take over what has expired, exchange every table, drop the old ones; returns rows by table."""
        counts = {}
        for table in TABLES:
            new = table.name + _SUFFIX
            names = ", ".join(["topic", "partition", "offset", *(f"`{name}`" for name in table.names)])
            for (topic, partition), begin in self._begins.items():
                if begin:
                    place = {"topic": topic, "partition": partition, "begin": begin}
                    self._client.command(
                        f"INSERT INTO {new} ({names}) SELECT {names} FROM {table.name} "
                        "WHERE topic = {topic:String} AND partition = {partition:UInt16} AND offset < {begin:UInt64}",
                        parameters=place,
                    )
            self._client.command(f"EXCHANGE TABLES {new} AND {table.name}")
            self._client.command(f"DROP TABLE {new} SYNC")
            counts[table.name] = int(self._client.query(f"SELECT count() FROM {table.name}").result_rows[0][0])
        return counts

    def drop(self) -> None:
        """Leave nothing behind."""
        for table in TABLES:
            self._client.command(f"DROP TABLE IF EXISTS {table.name}{_SUFFIX} SYNC")
