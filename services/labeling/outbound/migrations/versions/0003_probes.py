"""Blind probes, and the assets that were drawn for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "probes",
        sa.Column("id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("class_names", sa.Text(), nullable=False),
        sa.Column("cameras", sa.Text(), nullable=False),
        sa.Column("answered_before", sa.BigInteger(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("drawn", sa.BigInteger(), nullable=False),
        sa.Column("annotators", sa.Text(), nullable=False),
        sa.Column("ended", sa.Integer(), nullable=True),
    )
    op.create_table(
        "readings",
        sa.Column("task_id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("probe_id", sa.Text(), nullable=False),
        sa.Column("asset_id", sa.Text(), nullable=False),
        sa.Column("camera_id", sa.Text(), nullable=False),
        sa.Column("captured_at", sa.BigInteger(), nullable=False),
        sa.Column("class_before", sa.Text(), nullable=False),
        sa.Column("annotated_before_by", sa.Text(), nullable=False),
        sa.Column("annotated_before_at", sa.BigInteger(), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=False),
        sa.Column("class_now", sa.Text(), nullable=False),
        sa.Column("annotated_now_by", sa.Text(), nullable=False),
        sa.Column("annotated_now_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index("readings_by_probe", "readings", ["probe_id"])


def downgrade() -> None:
    """Forget the probes; tasks of theirs that are open are closed."""
    op.execute("UPDATE tasks SET state = 5 WHERE origin = 100 AND state IN (1, 2)")
    op.drop_table("readings")
    op.drop_table("probes")
