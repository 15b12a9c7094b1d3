"""How tables are made, and brought up to date where an earlier version made them: the same SQL here and on a server."""

from __future__ import annotations

from typing import Any, Final

from services.monitor.domain.tables import Table

_WINDOW: Final = "non_replicated_deduplication_window = 1000"
"""So many of a table's last inserts are known by their tokens."""


def create(table: Table, name: str, keep_days: int) -> str:
    """The statement that makes a table, under any name."""
    columns = ", ".join(f"`{column}` {kind}" for column, kind in table.columns)
    return (
        f"CREATE TABLE IF NOT EXISTS {name} "
        f"(topic LowCardinality(String), partition UInt16, offset UInt64, {columns}) "
        f"ENGINE = MergeTree PARTITION BY toYYYYMMDD({table.time}) ORDER BY (topic, partition, offset) "
        f"TTL toDateTime({table.time}) + INTERVAL {keep_days} DAY"
    )


def migrate(client: Any, table: Table) -> None:
    """Columns and settings that a table of an earlier version lacks; its old rows have the columns' defaults there."""
    client.command(f"ALTER TABLE {table.name} MODIFY SETTING {_WINDOW}")
    known = {row[0] for row in client.query(f"DESCRIBE TABLE {table.name}").result_rows}
    added = [f"ADD COLUMN IF NOT EXISTS `{name}` {kind}" for name, kind in table.columns if name not in known]
    if added:
        client.command(f"ALTER TABLE {table.name} {', '.join(added)}")
