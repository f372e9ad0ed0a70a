"""Stdio servers that run in a container."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict

revision = "0121"
down_revision = "0120"


def upgrade() -> None:
    op.add_column("servers", sa.Column("container", JSONDict))


def downgrade() -> None:
    op.drop_column("servers", "container")
