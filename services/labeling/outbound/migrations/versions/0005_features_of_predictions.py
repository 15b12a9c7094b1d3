"""A prediction keeps its features, so that a label can be said with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Predictions noted before have none."""
    op.add_column("predictions", sa.Column("features", sa.LargeBinary()))


def downgrade() -> None:
    """Forget the features."""
    op.drop_column("predictions", "features")
