"""Trainer's table; the outbox and the inbox of the kit stand beside it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, LargeBinary, MetaData, String, Table, Text

from services.common.outbox import outbox_tables

metadata = MetaData()
outbox_tables(metadata)

runs = Table(
    "runs",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("model", String(128), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("request_id", String(128), nullable=False, unique=True),
    Column("requested_by", String(128), nullable=False),
    Column("dataset", String(128), nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("from_scratch", Boolean, nullable=False),
    Column("created_at", DateTime, nullable=False, index=True),
    Column("labels_since", DateTime),
    Column("labels_wanted", Integer, nullable=False),
    Column("cameras", Text, nullable=False, server_default="[]"),
    Column("expires_at", DateTime),
    Column("waiting_for", Text, nullable=False),
    Column("warm_start_from", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started_at", DateTime),
    Column("finished_at", DateTime),
    Column("error", Text, nullable=False),
    Column("weights", String(64), nullable=False),
    Column("condition_labels", Integer, nullable=False),
    Column("package", LargeBinary, nullable=False),
    Column("report", LargeBinary, nullable=False),
    Column("class_names", Text, nullable=False),
    Column("traceparent", String(64), nullable=False),
)
