"""Serving's tables: the bindings, and a revision by which replicas see that they changed."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, Text

metadata = MetaData()

bindings = Table(
    "bindings",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("role", String(128), primary_key=True),
    Column("cameras", Text, nullable=False),
    Column("tags", Text, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("revision", Integer, nullable=False),
)
