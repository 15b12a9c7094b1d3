"""Ingest's tables. Rows of assets and rejections keep what is searched as columns and the whole as protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from services.common.outbox import outbox_tables

METADATA: Final = sa.MetaData()
MIGRATIONS: Final = Path(__file__).parent / "migrations"
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")

CAMERAS: Final = sa.Table(
    "cameras",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),  # JSON object of texts
    sa.Column("registered_at", sa.BigInteger, nullable=False),  # times: microseconds since 1970
    sa.Column("last_frame_at", sa.BigInteger),
    sa.Column("frames", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("thumbnail", sa.LargeBinary),
    sqlite_with_rowid=False,
)

ASSETS: Final = sa.Table(
    "assets",
    METADATA,
    sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("camera_id", sa.Text, nullable=False),
    sa.Column("stored_at", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    # Empty when the asset was deleted: the row stays, so that a late repeat of its frame is still known.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("deleted_at", sa.BigInteger),
    sa.Index("assets_by_camera", "camera_id", "seq"),
    sa.Index("assets_by_time", "stored_at"),
    sqlite_autoincrement=True,
)

OBJECTS: Final = sa.Table(
    "objects",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("first_asset_id", sa.Text, nullable=False),
    sa.Column("uses", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

REJECTIONS: Final = sa.Table(
    "rejections",
    METADATA,
    sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("camera_id", sa.Text, nullable=False),
    sa.Column("stored_at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("rejections_by_camera", "camera_id", "seq"),
    sa.Index("rejections_by_time", "stored_at"),
    sa.Index("rejections_by_reason", "reason", "camera_id"),
    sqlite_autoincrement=True,
)

REMOVALS: Final = sa.Table(
    "removals",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)

outbox_tables(METADATA)
