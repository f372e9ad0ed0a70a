"""Who may ask for a person's consent: clients that registered themselves, and clients with a document.

Neither is trusted for it. A client is a name and some addresses; what it may do, a person says on the consent page.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import delete, select

from registry.core.clock import Clock
from registry.core.db import Session
from registry.core.security import Digester
from registry.oauth import redirects
from registry.oauth.documents import Client, ClientDocuments, is_document
from registry.oauth.errors import ClientUnknown, OAuthRefused
from registry.oauth.models import OAuthClient, OAuthGrant

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")
GRANT_TYPES = ("authorization_code", "refresh_token")
UNUSED_FOR = timedelta(days=1)
"""A client that nobody has granted anything after so long is forgotten."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A new client; `secret` is shown once."""

    client: Client
    issued_at: int
    secret: str | None = field(repr=False)


class _Metadata(msgspec.Struct):
    redirect_uris: list[str] = msgspec.field(default_factory=list[str])
    token_endpoint_auth_method: str = "client_secret_basic"
    grant_types: list[str] = msgspec.field(default_factory=lambda: ["authorization_code"])
    response_types: list[str] = msgspec.field(default_factory=lambda: ["code"])
    client_name: str = ""


class OAuthClients:
    def __init__(self, clock: Clock, master: bytes, documents: ClientDocuments) -> None:
        self._clock = clock
        self._digests = Digester(master, "oauth-clients")
        self._documents = documents

    async def register(self, session: Session, metadata: dict[str, Any]) -> Registered:
        """Register a client by its metadata (RFC 7591).

        Raises:
            OAuthRefused: `invalid_redirect_uri` or `invalid_client_metadata`.
        """
        try:
            wanted = msgspec.convert(metadata, _Metadata)
        except msgspec.ValidationError as error:
            raise OAuthRefused("invalid_client_metadata", f"The metadata cannot be read: {error}.") from None
        redirects.check(wanted.redirect_uris)
        method = wanted.token_endpoint_auth_method
        if method not in AUTH_METHODS:
            raise OAuthRefused("invalid_client_metadata", f"token_endpoint_auth_method: one of {AUTH_METHODS}.")
        if "authorization_code" not in wanted.grant_types or "code" not in wanted.response_types:
            raise OAuthRefused("invalid_client_metadata", "The code flow is the only one that there is.")
        await self._forget_unused(session)
        secret = None if method == "none" else secrets.token_urlsafe(32)
        now = self._clock.now()
        record = OAuthClient(
            client_id=f"client_{secrets.token_urlsafe(18)}",
            name=wanted.client_name[:200],
            redirect_uris=wanted.redirect_uris,
            auth_method=method,
            secret_hash=self._digests.digest(secret) if secret else None,
            created_at=now,
        )
        session.add(record)
        return Registered(_client(record), int(now.timestamp()), secret)

    async def find(self, session: Session, client_id: str) -> Client:
        """Raises `ClientUnknown`."""
        if is_document(client_id):
            return await self._documents.client(client_id)
        found = await session.get(OAuthClient, client_id) if len(client_id) <= 64 else None
        if found is None:
            raise ClientUnknown("The client is not known here: it has to register again.")
        return _client(found)

    async def authenticate(self, session: Session, client_id: str | None, secret: str | None) -> Client:
        """The client that asks, proved by its secret where it has one. Raises `OAuthRefused`: `invalid_client`."""
        try:
            client = await self.find(session, client_id or "")
        except ClientUnknown as error:
            raise OAuthRefused("invalid_client", error.message) from None
        if client.auth_method == "none":
            if secret:
                raise OAuthRefused("invalid_client", "The client has no secret.")
            return client
        if not self._digests.matches(secret or "", client.secret_hash):
            raise OAuthRefused("invalid_client", "The client's secret is wrong.")
        return client

    async def _forget_unused(self, session: Session) -> None:
        granted = select(OAuthGrant.client_id)
        await session.execute(
            delete(OAuthClient).where(
                OAuthClient.created_at < self._clock.now() - UNUSED_FOR, OAuthClient.client_id.not_in(granted)
            )
        )


def _client(record: OAuthClient) -> Client:
    return Client(
        record.client_id,
        record.name or "A client without a name",
        tuple(record.redirect_uris),
        record.auth_method,
        record.secret_hash,
    )
