"""A request for a dataset version may name the cameras whose labels it wants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Requests made before want the labels of all cameras."""
    op.add_column("requests", sa.Column("cameras", sa.Text(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Forget the cameras."""
    op.drop_column("requests", "cameras")
