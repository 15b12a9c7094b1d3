"""Registry's tables; the outbox and the inbox of the kit stand beside them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from services.common.outbox import outbox_tables

metadata = MetaData()
outbox_tables(metadata)

models = Table(
    "models",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("dataset", String(128), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("signature", Text, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("dataset", String(128), nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("class_names", Text, nullable=False),
    Column("gates", Text, nullable=False),
    Column("report", LargeBinary, nullable=False),
    Column("registered_at", DateTime, nullable=False, index=True),
    Column("registered_by", String(128), nullable=False),
)
Index(
    "ix_versions_run",
    versions.c.run_id,
    versions.c.model,
    unique=True,
    sqlite_where=versions.c.run_id != "",
    postgresql_where=versions.c.run_id != "",
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("version", String(16), nullable=False),
)

moves = Table(
    "moves",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(128), nullable=False, index=True),
    Column("alias", String(64), nullable=False),
    Column("from_version", String(16), nullable=False),
    Column("to_version", String(16), nullable=False),
    Column("moved_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("moved_at", DateTime, nullable=False),
    UniqueConstraint("id"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("id", String(36), nullable=False),
    Column("champion", String(16), nullable=False),
    Column("challenger", String(16), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("arms", Text, nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("stage_since", DateTime, nullable=False),
    Column("started_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("pairs_before", BigInteger, nullable=False),
    Column("pairs", BigInteger, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", String(16), primary_key=True),
    Column("principal", String(128), primary_key=True),
    Column("approved", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", DateTime, nullable=False),
)
