"""How tables are made, and brought up to date where an earlier version made them: the same SQL here and on a server."""

from __future__ import annotations

from typing import Any, Final

from services.monitor.domain.tables import Table

_SETTINGS: Final = "non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1"
"""So many of a table's last inserts are known by their tokens; what has expired goes by whole days."""


def create(table: Table, name: str, keep_days: int) -> str:
    """The statement that makes a table, under any name."""
    columns = ", ".join(
        [
            *(f"`{column}` {kind}" for column, kind in table.columns),
            *(f"`{column}` {kind}" for column, kind in table.derived),
            *(f"PROJECTION {projection} ({sql})" for projection, sql in table.projections),
        ]
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {name} "
        f"(topic LowCardinality(String), partition UInt16, offset UInt64, {columns}) "
        f"ENGINE = MergeTree PARTITION BY toYYYYMMDD({table.time}) ORDER BY (topic, partition, offset) "
        f"TTL toDateTime({table.time}) + INTERVAL {keep_days} DAY SETTINGS {_SETTINGS}"
    )


def migrate(client: Any, table: Table) -> None:
    """What a table of an earlier version lacks. Its old rows have the columns' defaults; their projections are made in
    the background.
    """
    client.command(f"ALTER TABLE {table.name} MODIFY SETTING {_SETTINGS}")
    known = {row[0] for row in client.query(f"DESCRIBE TABLE {table.name}").result_rows}
    columns = [*table.columns, *table.derived]
    if added := [f"ADD COLUMN IF NOT EXISTS `{name}` {kind}" for name, kind in columns if name not in known]:
        client.command(f"ALTER TABLE {table.name} {', '.join(added)}")
    made = client.query(
        f"SELECT name FROM system.projections WHERE table = '{table.name}' AND database = currentDatabase()"
    )
    for name, sql in table.projections:
        if name not in {row[0] for row in made.result_rows}:
            client.command(f"ALTER TABLE {table.name} ADD PROJECTION IF NOT EXISTS {name} ({sql})")
            client.command(f"ALTER TABLE {table.name} MATERIALIZE PROJECTION {name}")
