"""Records of how a server wants to be signed in to, and of the accounts there. Secrets are sealed for their row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class ServerLogin(Base):
    """How callers' requests to a server are authorised.

    `kind` is `static` (each person brings headers), `client_credentials` (the gateway's own account) or
    `authorization_code` (each person connects an account).
    """

    __tablename__ = "server_logins"

    server_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(String(24))
    issuer: Mapped[str] = mapped_column(Text, default="")
    client_id: Mapped[str] = mapped_column(Text, default="")
    sealed_secret: Mapped[str | None] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text, default="")
    endpoints: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the issuer's metadata said when this was set."""
    updated_at: Mapped[datetime]


class ServerAccount(UuidKey, Base):
    """One account at one server; `holder` is a user's id, or `gateway`. It is good for one issuer only."""

    __tablename__ = "server_accounts"
    __table_args__ = (Index("uq_server_accounts_server_id_holder", "server_id", "holder", unique=True),)

    server_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"))
    holder: Mapped[str] = mapped_column(String(36))
    issuer: Mapped[str] = mapped_column(Text)
    sealed: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class AccountConnection(Base):
    """A person who was sent to a server's issuer, and what became of that.

    `state` is `waiting`, `taken` (the answer is being looked into: it serves once), `connected` or `failed`.
    """

    __tablename__ = "account_connections"

    state_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    server_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("servers.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"))
    sealed: Mapped[str] = mapped_column(Text)
    """PKCE verifier and redirect address."""
    state: Mapped[str] = mapped_column(String(12), default="waiting", server_default="waiting")
    failure: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime]
