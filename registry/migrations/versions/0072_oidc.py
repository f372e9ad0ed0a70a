"""Sign-ins by an OIDC provider, and whom issuers' subjects stand for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.core.db import UTCDateTime

revision = "0072"
down_revision = "0071"


def upgrade() -> None:
    op.create_table(
        "oidc_logins",
        sa.Column("state_hash", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expires_at", UTCDateTime(), nullable=False),
    )
    op.create_table(
        "external_identities",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("user_id", sa.Uuid(as_uuid=False), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
    )
    op.create_index("uq_external_identities_issuer_subject", "external_identities", ["issuer", "subject"], unique=True)
    session = sa.ForeignKey("login_sessions.id", ondelete="CASCADE")
    op.create_table(
        "oidc_sessions",
        sa.Column("session_id", sa.Uuid(as_uuid=False), session, primary_key=True),
        sa.Column("sealed_id_token", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    for table in ("oidc_sessions", "external_identities", "oidc_logins"):
        op.drop_table(table)
