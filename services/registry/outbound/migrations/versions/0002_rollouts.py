"""A model may have a rollout: a version on its way to be champion, or an experiment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """One rollout a model."""
    op.create_table(
        "rollouts",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("champion", sa.String(16), nullable=False),
        sa.Column("challenger", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("arms", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("stage_since", sa.DateTime, nullable=False),
        sa.Column("started_by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("pairs_before", sa.BigInteger, nullable=False),
        sa.Column("pairs", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Forget rollouts; aliases stay where they are."""
    op.drop_table("rollouts")
