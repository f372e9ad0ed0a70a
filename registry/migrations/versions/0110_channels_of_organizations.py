"""Notification channels of whole organisations: those without a server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0110"
down_revision = "0090"


def upgrade() -> None:
    with op.batch_alter_table("notification_channels") as table:
        table.alter_column("server_id", existing_type=sa.Uuid(as_uuid=False), nullable=True)
    op.create_index("ix_notification_channels_org_id", "notification_channels", ["org_id"])


def downgrade() -> None:
    op.drop_index("ix_notification_channels_org_id", "notification_channels")
    op.execute("DELETE FROM notification_channels WHERE server_id IS NULL")
    with op.batch_alter_table("notification_channels") as table:
        table.alter_column("server_id", existing_type=sa.Uuid(as_uuid=False), nullable=False)
