"""The first table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs."""
    op.create_table(
        "runs",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("model", sa.String(128), nullable=False, index=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("request_id", sa.String(128), nullable=False, unique=True),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("dataset", sa.String(128), nullable=False),
        sa.Column("dataset_version", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("from_scratch", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, index=True),
        sa.Column("labels_since", sa.DateTime),
        sa.Column("labels_wanted", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime),
        sa.Column("waiting_for", sa.Text, nullable=False),
        sa.Column("warm_start_from", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("weights", sa.String(64), nullable=False),
        sa.Column("condition_labels", sa.Integer, nullable=False),
        sa.Column("package", sa.LargeBinary, nullable=False),
        sa.Column("report", sa.LargeBinary, nullable=False),
        sa.Column("class_names", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """Back to nothing."""
    op.drop_table("runs")
