"""The tables of analytics: names, columns and the time that retention goes by. Every row also says which record it came
from. Columns are only added: a table of an earlier version gets those that it lacks.

Where a message has a list of messages, there is an array for each of their fields, all of one length, and their names
begin alike (`history.at`, `history.what`, ...): ClickHouse calls that Nested, and `ARRAY JOIN history` takes it apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from services.monitor.domain.channels import FEATURES
from services.monitor.domain.events import Numbers

_NAME: Final = "LowCardinality(String)"
_TIME: Final = "DateTime64(6, 'UTC')"
_TIMES: Final = f"Array({_TIME})"
_TEXTS: Final = "Array(String)"
_NUMBERS: Final = "Array(Float64)"
_KINDS: Final = {"float": "Float64", "int": "Int64", "str": "String", "bool": "UInt8"}


@dataclass(frozen=True, slots=True)
class Table:
    """A name, columns (name, ClickHouse type), and the time column that the retention goes by; columns that
    follow from others (name, type with its SQL); and what is summed up beside the rows, as projections (name, SELECT).

    A projection is written with its rows, in the same insert: it counts each once, as they do. ClickHouse reads it
    instead of rows where a query groups and filters by its keys alone.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    time: str
    derived: tuple[tuple[str, str], ...] = ()
    projections: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(name for name, _ in self.columns)


def _named(prefix: str, *columns: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((prefix + name, kind) for name, kind in columns)


def _summed(keys: str, values: str) -> str:
    return f"SELECT {keys}, {values} GROUP BY {keys}"


_MINUTE: Final = "toStartOfMinute(captured_at)"
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
    (
        ("minute", f"DateTime('UTC') ALIAS {_MINUTE}"),
        ("failed", "UInt8 MATERIALIZED error != ''"),  # ClickHouse would read `error = ''` as the text's size.
    ),
    (
        (
            "by_camera",
            _summed(
                f"{_MINUTE}, model, version, role, camera_id, historical, failed",
                "count(), min(captured_at), max(captured_at), avg(score), avg(pixels_brightness), "
                "avg(pixels_contrast), avg(pixels_sharpness)",
            ),
        ),
        ("by_place", _summed("topic, partition", "count(), max(offset)")),
        ("by_class", _summed(f"{_MINUTE}, model, version, class_name, historical, failed", "count()")),
        (
            "delays",
            _summed(
                f"{_MINUTE}, model, version, historical, predicted_at >= captured_at",
                "quantileTDigest(0.95)(latency_ms), "
                "quantileTDigest(0.95)(dateDiff('millisecond', captured_at, predicted_at))",
            ),
        ),
    ),
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
        ("prediction_ids", _TEXTS),
        *_named("predictions.", ("model", _TEXTS), ("version", _TEXTS), ("role", _TEXTS), ("class_name", _TEXTS)),
        ("predictions.score", _NUMBERS),
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
        ("cameras", _TEXTS),
        ("class_names", _TEXTS),
        ("baseline_error", "Float64"),
        ("current_error", "Float64"),
        ("current_labels", "UInt64"),
        ("baseline_labels", "UInt64"),
        ("current_error_low", "Float64"),
        ("current_error_high", "Float64"),
        ("trigger_asset_id", "String"),
        ("scope_kind", _NAME),
        ("scope_value", "String"),
        ("scope_inside", "UInt32"),
        ("scope_inside_touched", "UInt32"),
        ("scope_outside", "UInt32"),
        ("scope_outside_touched", "UInt32"),
        ("acknowledged_at", _TIME),
        ("acknowledged_by", "String"),
        ("muted", "UInt8"),
        ("muted_until", _TIME),
        ("plan_id", "String"),
        *_named("history.", ("at", _TIMES), ("what", _TEXTS), ("by", _TEXTS), ("why", _TEXTS)),
        *_named("faults.", ("camera_id", _TEXTS), ("kind", _TEXTS), ("since", _TIMES)),
        *_named("faults.", ("before_asset_id", _TEXTS), ("after_asset_id", _TEXTS)),
        *_named("evidence.", ("channel", _TEXTS), ("camera_id", _TEXTS), ("detector", _TEXTS)),
        *_named("evidence.", ("statistic", _NUMBERS), ("threshold", _NUMBERS), ("reference_mean", _NUMBERS)),
        *_named("evidence.", ("current_mean", _NUMBERS), ("shift_sigma", _NUMBERS)),
        *_named(
            "probe_", ("id", "String"), ("verdict", _NAME), ("suspected", "UInt32"), ("suspected_changed", "UInt32")
        ),
        *_named(
            "probe_", ("others", "UInt32"), ("others_changed", "UInt32"), ("annotator", "String"), ("why", "String")
        ),
        *_named("probe_", ("asked_at", _TIME), ("until", _TIME)),
        *_named(
            "regain_", ("outlook", _NAME), ("share", "Float64"), ("share_low", "Float64"), ("share_high", "Float64")
        ),
        *_named("regain_", ("labels", "UInt32"), ("by", _NAME)),
        *_named("recurs_", ("incident_id", "String"), ("incident_began_at", _TIME)),
        *_named("recurs_", ("stored_version", _NAME), ("stored_until", _TIME)),
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
        ("version", _NAME),
        ("expires_at", _TIME),
        ("cameras", _TEXTS),
        ("class_names", _TEXTS),
        ("weighed", "UInt8"),
        *_named("numbers_", *((f.name, _KINDS[str(f.type)]) for f in fields(Numbers))),
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
        ("kind", _NAME),
    ),
    "raised_at",
)
COMMANDS: Final = Table(
    "commands",
    (
        ("id", "String"),
        ("command", _NAME),
        ("by", "String"),
        ("why", "String"),
        ("given_at", _TIME),
        ("model", _NAME),
        ("incident_id", "String"),
        ("plan_id", "String"),
        ("starts_at", _TIME),
        ("ends_at", _TIME),
        ("cameras", _TEXTS),
        *_named("labels.", ("name", _TEXTS), ("value", _TEXTS)),
    ),
    "given_at",
)
TABLES: Final = (PREDICTIONS, ANNOTATIONS, DRIFTS, DECISIONS, REJECTIONS, ALERTS, COMMANDS)
