"""The operations of REST services that stand among the servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import JSONDict

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("servers", sa.Column("operations", JSONDict))


def downgrade() -> None:
    op.drop_column("servers", "operations")
