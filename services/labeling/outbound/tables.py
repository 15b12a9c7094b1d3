"""Labeling's tables; times are microseconds since the epoch. The outbox and the inbox of the kit stand beside them."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import postgresql, sqlite

from services.common.outbox import outbox_tables

metadata: Final = MetaData()
outbox_tables(metadata)

_sequence = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _number(name: str, **options: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=False, **options)


assets: Final = Table(
    "assets",
    metadata,
    _text("id", primary_key=True),
    _text("camera_id"),
    _number("captured_at"),
    _text("digest"),
    _number("size_bytes"),
    _text("content_type"),
    Column("deleted", Boolean, nullable=False),
    Index("assets_by_time", "captured_at"),
)

predictions: Final = Table(
    "predictions",
    metadata,
    _text("asset_id", primary_key=True),
    _text("model", primary_key=True),
    _text("role", primary_key=True),
    _text("id"),
    _text("version"),
    _text("class_name"),
    Column("score", Float, nullable=False),
    Column("features", LargeBinary),
    Column("margin", Float, nullable=False),
    _text("boxes", server_default=""),
    _text("camera_id"),
    _number("captured_at"),
    Index("predictions_by_time", "captured_at"),
    Index("predictions_by_model", "model", "role", "captured_at"),
)

revisions: Final = Table(
    "annotations",
    metadata,
    Column("sequence", _sequence, primary_key=True, autoincrement=True),
    _text("id", unique=True),
    _text("asset_id"),
    Column("revision", Integer, nullable=False),
    Column("newest", Boolean, nullable=False),
    Column("forgotten", Boolean, nullable=False),
    _text("camera_id"),
    _number("captured_at"),
    _text("digest"),
    _number("size_bytes"),
    _text("content_type"),
    _text("class_name"),
    _text("labels"),
    _text("annotated_by"),
    _number("annotated_at"),
    _number("valid_from"),
    Column("superseded_at", BigInteger),
    _text("superseded_by"),
    Column("source", Integer, nullable=False),
    _text("task_id"),
    Index("annotations_by_asset", "asset_id", "revision", unique=True),
    Index("annotations_by_time", "newest", "captured_at"),
    Index("annotations_by_camera", "camera_id", "sequence"),
    Index("annotations_by_change", "superseded_by"),
    sqlite_autoincrement=True,
)

PENDING: Final = (1, 2)
"""Task states in which a person may still be asked: open and leased."""

tasks: Final = Table(
    "tasks",
    metadata,
    Column("sequence", _sequence, primary_key=True, autoincrement=True),
    _text("id", unique=True),
    _text("asset_id"),
    _text("camera_id"),
    _number("captured_at"),
    Column("state", Integer, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("propensity", Float, nullable=False),
    _text("prediction_id"),
    _text("model"),
    _text("version"),
    _text("role"),
    _text("class_name"),
    Column("score", Float, nullable=False),
    _text("boxes", server_default=""),
    _text("dataset"),
    _text("cause"),
    _number("created_at"),
    _number("leased_until"),
    _text("leased_by"),
    Index("tasks_to_hand_out", "state", "origin", "captured_at"),
    Index("tasks_leased", "state", "leased_until"),
    Index("tasks_by_state", "state", "sequence"),
    Index("tasks_by_cause", "cause", "state"),
    Index("tasks_by_asset", "asset_id"),
    Index(
        "tasks_one_pending",
        "asset_id",
        unique=True,
        sqlite_where=sa.text("state IN (1, 2)"),
        postgresql_where=sa.text("state IN (1, 2)"),
    ),
    sqlite_autoincrement=True,
)

datasets: Final = Table(
    "datasets",
    metadata,
    _text("name", primary_key=True),
    _text("class_names"),
    _text("cameras"),
    _number("created_at"),
)

versions: Final = Table(
    "versions",
    metadata,
    _text("dataset", primary_key=True),
    Column("number", Integer, primary_key=True),
    _text("digest"),
    _text("manifest_digest"),
    _number("manifest_bytes"),
    _text("class_names"),
    _text("splits"),
    _text("classes"),
    _number("superseded_left_out"),
    _number("created_at"),
    _text("created_by"),
    _text("request_id"),
    Column("condition_since", BigInteger),
    _number("condition_labels"),
    _number("forgotten"),
    Index("versions_by_time", "created_at"),
)

members: Final = Table(
    "members",
    metadata,
    _text("asset_id", primary_key=True),
    _text("dataset", primary_key=True),
    Column("number", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

splits: Final = Table(
    "splits",
    metadata,
    _text("dataset", primary_key=True),
    _text("key", primary_key=True),
    _text("split"),
    sqlite_with_rowid=False,
)

requests: Final = Table(
    "requests",
    metadata,
    _text("id", primary_key=True),
    _text("dataset"),
    Column("labels_since", BigInteger),
    _number("labels_wanted"),
    _text("model"),
    _text("requested_by"),
    _number("requested_at"),
    _text("cameras", server_default="[]"),
    _text("state", index=True),
    Column("version", Integer, nullable=False),
)

incidents: Final = Table(
    "incidents",
    metadata,
    _text("id", primary_key=True),
    _text("model"),
    Column("revision", Integer, nullable=False),
    _text("cameras"),
    _number("began_at"),
    Column("drawing", Boolean, nullable=False, index=True),
    _number("drawn"),
)

concept_changes: Final = Table(
    "concept_changes",
    metadata,
    _text("incident_id", primary_key=True),
    _text("class_names"),
    _number("began_at"),
    _text("cameras"),
)

probes: Final = Table(
    "probes",
    metadata,
    _text("id", primary_key=True),
    _text("model"),
    _text("incident_id"),
    _text("class_names"),
    _text("cameras"),
    _number("answered_before"),
    _number("assets"),
    _number("requested_at"),
    _number("until"),
    _number("drawn"),
    _text("annotators"),
    Column("ended", Integer),
)

readings: Final = Table(
    "readings",
    metadata,
    _text("task_id", primary_key=True),
    _text("probe_id"),
    _text("asset_id"),
    _text("camera_id"),
    _number("captured_at"),
    _text("class_before"),
    _text("annotated_before_by"),
    _number("annotated_before_at"),
    Column("propensity", Float, nullable=False),
    _text("class_now"),
    _text("annotated_now_by"),
    _number("annotated_now_at"),
    Column("revision", Integer, nullable=False),
    Index("readings_by_probe", "probe_id"),
)


def insert_new(connection: sa.Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that leaves rows alone which break a unique key."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def insert_or_replace(
    connection: sa.Connection, table: Table, values: dict[str, Any]
) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that overwrites the row with the same primary key."""
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in keys}
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).values(**values).on_conflict_do_update(index_elements=keys, set_=rest)
    return postgresql.insert(table).values(**values).on_conflict_do_update(index_elements=keys, set_=rest)
