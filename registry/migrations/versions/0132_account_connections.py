"""What became of a person who was sent to a server's issuer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0132"
down_revision = "0121"


def upgrade() -> None:
    op.add_column("account_connections", sa.Column("state", sa.String(12), nullable=False, server_default="waiting"))
    op.add_column("account_connections", sa.Column("failure", sa.Text()))


def downgrade() -> None:
    op.drop_column("account_connections", "failure")
    op.drop_column("account_connections", "state")
