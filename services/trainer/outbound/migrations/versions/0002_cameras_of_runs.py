"""A run may name the cameras whose labels it waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs made before wait for the labels of all cameras."""
    op.add_column("runs", sa.Column("cameras", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    """Forget the cameras."""
    op.drop_column("runs", "cameras")
