"""The tables of analytics and what they need of a warehouse; every row says which record it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.monitor.domain.channels import FEATURES

_NAME: Final = "LowCardinality(String)"
_TIME: Final = "DateTime64(6, 'UTC')"
_DAY: Final = 86_400_000_000  # Microseconds; tables are partitioned by it.


@dataclass(frozen=True, slots=True)
class Table:
    """A name, columns (name, ClickHouse type), and the time column that the retention goes by."""

    name: str
    columns: tuple[tuple[str, str], ...]
    time: str


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
        names = [name for name, _ in self.table.columns]
        days = [at // _DAY for at in self.columns[names.index(self.table.time)]]
        if len(set(days)) == 1:
            return [(days[0], self)]
        return [(day, self._only([p for p, its in enumerate(days) if its == day])) for day in sorted(set(days))]

    def _only(self, places: Sequence[int]) -> Rows:
        if len(places) == len(self.offsets):
            return self
        columns = [[column[place] for place in places] for column in self.columns]
        return Rows(self.table, self.topic, self.partition, [self.offsets[place] for place in places], columns)


class Warehouse(Protocol):
    """Keeps rows exactly once."""

    async def insert(self, rows: Rows) -> None:
        """Add the rows that are not there yet. Raises `AnalyticsClosed` while it is not open."""


PREDICTIONS: Final = Table(
    "predictions",
    (
        ("id", "String"),
        ("asset_id", "String"),
        ("camera_id", _NAME),
        ("model", _NAME),
        ("version", _NAME),
        ("role", _NAME),
        ("captured_at", _TIME),
        ("predicted_at", _TIME),
        ("latency_ms", "Float32"),
        ("class_name", _NAME),
        ("score", "Float32"),
        ("replica", _NAME),
        ("error", "String"),
        ("historical", "UInt8"),
        *((name.replace(".", "_"), "Float32") for name in FEATURES),
    ),
    "captured_at",
)
ANNOTATIONS: Final = Table(
    "annotations",
    (
        ("id", "String"),
        ("asset_id", "String"),
        ("camera_id", _NAME),
        ("captured_at", _TIME),
        ("annotated_at", _TIME),
        ("revision", "UInt32"),
        ("class_name", _NAME),
        ("annotated_by", _NAME),
        ("source", _NAME),
        ("origin", _NAME),
        ("propensity", "Float64"),
        ("prediction_ids", "Array(String)"),
    ),
    "annotated_at",
)
DRIFTS: Final = Table(
    "drifts",
    (
        ("incident_id", "String"),
        ("revision", "UInt32"),
        ("model", _NAME),
        ("version", _NAME),
        ("state", _NAME),
        ("cause", _NAME),
        ("harm", _NAME),
        ("shape", _NAME),
        ("began_at", _TIME),
        ("detected_at", _TIME),
        ("level_since", _TIME),
        ("closed_at", _TIME),
        ("cameras", "Array(String)"),
        ("class_names", "Array(String)"),
        ("baseline_error", "Float64"),
        ("current_error", "Float64"),
        ("current_labels", "UInt64"),
    ),
    "detected_at",
)
DECISIONS: Final = Table(
    "decisions",
    (
        ("id", "String"),
        ("model", _NAME),
        ("incident_id", "String"),
        ("decision", _NAME),
        ("reason", "String"),
        ("decided_at", _TIME),
        ("labels_since", _TIME),
        ("labels_wanted", "UInt32"),
    ),
    "decided_at",
)
REJECTIONS: Final = Table(
    "rejections",
    (
        ("id", "String"),
        ("camera_id", _NAME),
        ("captured_at", _TIME),
        ("rejected_at", _TIME),
        ("reason", _NAME),
        ("detail", "String"),
        ("object_digest", "String"),
        ("origin", "String"),
    ),
    "rejected_at",
)
ALERTS: Final = Table(
    "alerts",
    (
        ("id", "String"),
        ("model", _NAME),
        ("incident_id", "String"),
        ("severity", _NAME),
        ("summary", "String"),
        ("raised_at", _TIME),
    ),
    "raised_at",
)
TABLES: Final = (PREDICTIONS, ANNOTATIONS, DRIFTS, DECISIONS, REJECTIONS, ALERTS)
