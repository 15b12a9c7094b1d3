"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Bindings and their revision."""
    op.create_table(
        "bindings",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("role", sa.String(128), primary_key=True),
        sa.Column("cameras", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
    )
    op.create_table(
        "revisions",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Back to nothing."""
    op.drop_table("bindings")
    op.drop_table("revisions")
