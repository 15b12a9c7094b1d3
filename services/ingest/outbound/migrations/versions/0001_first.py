"""The first tables: cameras, assets, objects, rejections, removals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables and the indexes of the lists."""
    op.create_table(
        "cameras",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.Column("last_frame_at", sa.BigInteger),
        sa.Column("frames", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("thumbnail", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assets",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("deleted_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("assets_by_camera", "assets", ["camera_id", "seq"])
    op.create_index("assets_by_time", "assets", ["stored_at"])
    op.create_table(
        "objects",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("first_asset_id", sa.Text, nullable=False),
        sa.Column("uses", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejections",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("camera_id", sa.Text, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rejections_by_camera", "rejections", ["camera_id", "seq"])
    op.create_index("rejections_by_time", "rejections", ["stored_at"])
    op.create_index("rejections_by_reason", "rejections", ["reason", "camera_id"])
    op.create_table("removals", sa.Column("digest", sa.Text, primary_key=True), sqlite_with_rowid=False)


def downgrade() -> None:
    """Drop them."""
    for table in ("removals", "rejections", "objects", "assets", "cameras"):
        op.drop_table(table)
