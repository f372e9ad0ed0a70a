"""Records of OAuth clients and of what people have granted them. Codes, tokens and secrets are kept as digests."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from registry.core.db import Base, UuidKey


class OAuthClient(Base):
    """A client that registered itself (RFC 7591). Those with a metadata document are read anew, and not kept."""

    __tablename__ = "oauth_clients"

    client_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    redirect_uris: Mapped[list[str]]
    auth_method: Mapped[str] = mapped_column(String(32))
    secret_hash: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class OAuthGrant(UuidKey, Base):
    """What a person has allowed a client. Its end is the end of all tokens that came of it."""

    __tablename__ = "oauth_grants"

    org_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("organizations.id"))
    user_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("users.id"), index=True)
    client_id: Mapped[str] = mapped_column(Text)
    client_name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[list[str]]
    audience: Mapped[str] = mapped_column(String(200))
    """The path that the tokens open; see `Principal.audience`."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class AuthorizationCode(Base):
    """Stands between consent and tokens for a minute. Shown a second time, it ends the grant that came of it."""

    __tablename__ = "oauth_codes"

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    grant_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("oauth_grants.id"))
    redirect_uri: Mapped[str] = mapped_column(Text)
    redirect_given: Mapped[bool]
    """The client named the address, so it has to name it again."""
    challenge: Mapped[str] = mapped_column(String(128))
    expires_at: Mapped[datetime]
    spent_at: Mapped[datetime | None]


class OAuthToken(Base):
    """An access token."""

    __tablename__ = "oauth_tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    grant_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), ForeignKey("oauth_grants.id"), index=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
