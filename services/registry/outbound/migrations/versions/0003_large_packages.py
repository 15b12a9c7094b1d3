"""Packages of more than 2 GiB; SQLite's integers always took them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A size of eight bytes."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("versions", "size_bytes", type_=sa.BigInteger())
