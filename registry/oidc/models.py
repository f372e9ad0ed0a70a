"""Records of sign-ins under way, of whom an issuer's subjects are here, and of what a provider needs at logout."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class OidcLogin(Base):
    """A person who was sent to the provider and has not come back. Taken out by whoever brings its state, once."""

    __tablename__ = "oidc_logins"

    state_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[str] = mapped_column(Text)
    """Nonce, PKCE verifier and where to go on, sealed with the browser's token as associated data."""
    expires_at: Mapped[datetime]


class ExternalIdentity(UuidKey, Base):
    """Who an issuer's subject is here."""

    __tablename__ = "external_identities"
    __table_args__ = (Index("uq_external_identities_issuer_subject", "issuer", "subject", unique=True),)

    issuer: Mapped[str] = mapped_column(String(500))
    subject: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime]


class OidcSession(Base):
    """The provider's side of a login session: its id token, sealed with the session's id as associated data."""

    __tablename__ = "oidc_sessions"

    session_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("login_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    sealed_id_token: Mapped[str] = mapped_column(Text)
