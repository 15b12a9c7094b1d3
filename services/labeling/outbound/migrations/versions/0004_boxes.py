"""Predictions, and tasks drawn from them, keep what a detector found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Predictions of before have no boxes."""
    for table in ("predictions", "tasks"):
        op.add_column(table, sa.Column("boxes", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget the boxes."""
    for table in ("predictions", "tasks"):
        op.drop_column(table, "boxes")
