"""Codes and tokens: what comes of a person's consent, how long it lasts, and how it ends.

Methods that a client calls give their refusal instead of raising it, because what led to it (a code that was used up,
a grant that was ended) has to be committed.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Database, Session, as_uuid, emit
from registry.core.errors import Forbidden, NotFound
from registry.core.security import Digester
from registry.identity.events import CredentialsChanged
from registry.identity.models import User
from registry.identity.principal import Principal
from registry.identity.refresh import REFRESH_MARK, RefreshTokens
from registry.identity.service import permissions_of
from registry.oauth.clients import OAuthClients
from registry.oauth.consent import Consents, Wish
from registry.oauth.documents import Client, ClientDocuments
from registry.oauth.errors import OAuthRefused, OAuthTokenInvalid
from registry.oauth.models import AuthorizationCode, OAuthGrant, OAuthToken
from registry.oauth.scopes import SCOPES, audience_of

TOKEN_MARK = "oat_"
"""How access tokens begin."""
CODE_LIFETIME = timedelta(seconds=60)
GRANT_LIFETIME = timedelta(days=90)
"""After so long a person is asked again."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The answer of the token endpoint."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    scope: str


class OAuthService:
    """The authorization server, and the recognizer of its access tokens.

    Args:
        access_token_minutes: how long an access token is valid.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        audit: AuditService,
        master: bytes,
        documents: ClientDocuments,
        *,
        access_token_minutes: int = 60,
    ) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._codes = Digester(master, "oauth-codes")
        self._tokens = Digester(master, "oauth-tokens")
        self._refresh_tokens = RefreshTokens(clock, master)
        self.clients = OAuthClients(clock, master, documents)
        self.consents = Consents(clock, self.clients, master)
        self._lifetime = timedelta(minutes=access_token_minutes)

    # Tokens to principals

    def recognizes(self, credential: str) -> bool:
        return credential.startswith(TOKEN_MARK)

    async def authenticate(self, credential: str) -> Principal:
        """The principal of an access token. Raises `OAuthTokenInvalid`."""
        async with self._database.reading() as session:
            found = await self._live(session, credential)
        if found is None:
            raise OAuthTokenInvalid("The access token is not valid, or no longer: refresh it, or sign in again.")
        token, grant, user = found
        whole = permissions_of(user) & SCOPES.keys()
        return Principal(
            org_id=grant.org_id,
            user_id=user.id,
            role=user.role,
            permissions=whole & frozenset(token.scopes),
            email=user.email,
            audience=grant.audience,
            consentable=whole - frozenset(token.scopes),
        )

    async def _live(self, session: Session, token: str) -> tuple[OAuthToken, OAuthGrant, User] | None:
        statement = (
            select(OAuthToken, OAuthGrant, User)
            .join(OAuthGrant, OAuthGrant.id == OAuthToken.grant_id)
            .join(User, User.id == OAuthGrant.user_id)
            .where(OAuthToken.token_hash == self._tokens.digest(token))
        )
        row = (await session.execute(statement)).one_or_none()
        if row is None or row[0].expires_at <= self._clock.now() or not self._holds(row[1]) or not row[2].is_active:
            return None
        return row[0], row[1], row[2]

    def _holds(self, grant: OAuthGrant) -> bool:
        return grant.revoked_at is None and grant.expires_at > self._clock.now()

    # Consent

    async def approve(self, session: Session, principal: Principal, wish: Wish) -> str:
        """Grant a client what it wished, as far as the person may do it themselves; gives the code.

        Raises:
            Forbidden: not signed in in person, or nothing of it is theirs to give.
        """
        if principal.user_id is None or principal.session_id is None:
            raise Forbidden("Only a person who has signed in can grant this.")
        scopes = [name for name in wish.scopes if principal.may(name)]
        if not scopes:
            raise Forbidden("You may do nothing of what the application asks for.")
        now = self._clock.now()
        grant = OAuthGrant(
            org_id=principal.org_id,
            user_id=principal.user_id,
            client_id=wish.client_id,
            client_name=wish.client_name,
            scopes=scopes,
            audience=wish.audience,
            created_at=now,
            expires_at=now + GRANT_LIFETIME,
        )
        session.add(grant)
        await session.flush()
        code = secrets.token_urlsafe(32)
        session.add(
            AuthorizationCode(
                code_hash=self._codes.digest(code),
                grant_id=grant.id,
                redirect_uri=wish.redirect_uri,
                redirect_given=wish.redirect_given,
                challenge=wish.challenge,
                expires_at=now + CODE_LIFETIME,
            )
        )
        detail = {"client": wish.client_id, "name": wish.client_name, "scopes": scopes, "address": wish.audience}
        await self._audit.record(session, principal, "grants.create", target=("grant", grant.id), detail=detail)
        return code

    async def grants(self, session: Session, principal: Principal) -> list[OAuthGrant]:
        """What the person has granted, newest first."""
        statement = (
            select(OAuthGrant)
            .where(
                OAuthGrant.user_id == principal.user_id,
                OAuthGrant.revoked_at.is_(None),
                OAuthGrant.expires_at > self._clock.now(),
            )
            .order_by(OAuthGrant.created_at.desc(), OAuthGrant.id)
        )
        return list(await session.scalars(statement))

    async def end_grant(self, session: Session, principal: Principal, grant_id: str) -> None:
        """Take back what was granted, at once. Raises `NotFound` for what is not the person's own."""
        grant = await session.get(OAuthGrant, as_uuid(grant_id)) if as_uuid(grant_id) else None
        if grant is None or grant.user_id != principal.user_id or grant.revoked_at is not None:
            raise NotFound("Grant not found")
        await self._end(session, grant, principal, "grants.revoke")

    # What clients ask for

    async def exchange_code(
        self,
        session: Session,
        client: Client,
        base: str,
        *,
        code: str,
        redirect_uri: str | None,
        verifier: str,
        resource: str | None,
    ) -> Issued | OAuthRefused:
        """Tokens for a code. It is used up by the attempt, whatever else is wrong with it."""
        now = self._clock.now()
        digest = self._codes.digest(code)
        claim = (
            update(AuthorizationCode)
            .where(AuthorizationCode.code_hash == digest, AuthorizationCode.spent_at.is_(None))
            .values(spent_at=now)
            .returning(AuthorizationCode.code_hash)
        )
        won = (await session.execute(claim)).scalar_one_or_none() is not None
        record = await session.get(AuthorizationCode, digest)
        if record is None:
            return OAuthRefused("invalid_grant", "The code is not valid.")
        grant = await session.get_one(OAuthGrant, record.grant_id)
        if not won:
            await self._end(session, grant, await self._owner(session, grant), "grants.code_reused")
            return OAuthRefused("invalid_grant", "The code was used before: what came of it has ended.")
        if (
            record.expires_at <= now
            or grant.client_id != client.client_id
            or (record.redirect_given and redirect_uri != record.redirect_uri)
            or (redirect_uri is not None and redirect_uri != record.redirect_uri)
            or not _proves(verifier, record.challenge)
        ):
            return OAuthRefused("invalid_grant", "The code has expired, or client, address or verifier are others.")
        if refused := _other_target(base, resource, grant):
            return refused
        return await self._issue(session, grant, list(grant.scopes))

    async def refresh(
        self, session: Session, client: Client, base: str, *, token: str, scope: str | None, resource: str | None
    ) -> Issued | OAuthRefused:
        """The next tokens of a grant. A refresh token that was used before ends the grant."""
        invalid = OAuthRefused("invalid_grant", "The refresh token is not valid, or was used before.")
        spent = await self._refresh_tokens.spend(session, token)
        grant = await session.get(OAuthGrant, spent.family_id) if spent else None
        if spent is None or grant is None or not self._holds(grant):
            return invalid
        if spent.reused or grant.client_id != client.client_id:
            # In another client's hands it was copied as well.
            await self._end(session, grant, await self._owner(session, grant), "grants.refresh_token_reused")
            return invalid
        if not spent.fresh:
            return invalid
        if refused := _other_target(base, resource, grant):
            return refused
        wanted = scope.split() if scope else list(grant.scopes)
        if not set(wanted) <= set(grant.scopes):
            return OAuthRefused("invalid_scope", "More than was granted: ask the person again.")
        return await self._issue(session, grant, wanted)

    async def revoke(self, session: Session, client: Client, token: str) -> None:
        """End a token (RFC 7009): a refresh token with all that came of its grant. An unknown one is no error."""
        if token.startswith(REFRESH_MARK):
            family = await self._refresh_tokens.family_of(session, token)
            grant = await session.get(OAuthGrant, family) if family else None
            if grant is not None and grant.client_id == client.client_id and grant.revoked_at is None:
                await self._end(session, grant, await self._owner(session, grant), "grants.revoke")
            return
        found = await self._live(session, token)
        if found is not None and found[1].client_id == client.client_id:
            await session.delete(found[0])
            emit(session, CredentialsChanged(found[1].org_id, found[1].user_id, None))

    async def introspect(self, session: Session, token: str, client: Client | None) -> dict[str, Any]:
        """What a token is (RFC 7662). A client learns of its own tokens only; `None` stands for a trusted asker."""
        if token.startswith(REFRESH_MARK):
            family = await self._refresh_tokens.family_of(session, token)
            grant = await session.get(OAuthGrant, family) if family else None
            if grant is None or not self._holds(grant):
                return {"active": False}
            user = await session.get_one(User, grant.user_id)
            scopes, kind, expires_at = grant.scopes, "refresh_token", grant.expires_at
        else:
            found = await self._live(session, token)
            if found is None:
                return {"active": False}
            record, grant, user = found
            scopes, kind, expires_at = record.scopes, "Bearer", record.expires_at
        if not user.is_active or (client is not None and grant.client_id != client.client_id):
            return {"active": False}
        return {
            "active": True,
            "scope": " ".join(scopes),
            "client_id": grant.client_id,
            "username": user.email,
            "sub": user.id,
            "org": grant.org_id,
            "role": user.role,
            "token_type": kind,
            "aud": grant.audience,
            "iat": int(grant.created_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }

    async def _issue(self, session: Session, grant: OAuthGrant, scopes: list[str]) -> Issued:
        now = self._clock.now()
        await session.execute(delete(OAuthToken).where(OAuthToken.grant_id == grant.id, OAuthToken.expires_at <= now))
        token = f"{TOKEN_MARK}{secrets.token_urlsafe(32)}"
        expires_at: datetime = min(now + self._lifetime, grant.expires_at)
        session.add(
            OAuthToken(
                token_hash=self._tokens.digest(token),
                grant_id=grant.id,
                scopes=scopes,
                created_at=now,
                expires_at=expires_at,
            )
        )
        following = await self._refresh_tokens.issue(session, grant.id, grant.expires_at)
        return Issued(token, following, int((expires_at - now).total_seconds()), " ".join(scopes))

    async def _owner(self, session: Session, grant: OAuthGrant) -> Principal:
        user = await session.get_one(User, grant.user_id)
        return Principal(grant.org_id, user.id, user.role, frozenset(), email=user.email)

    async def _end(self, session: Session, grant: OAuthGrant, actor: Principal, action: str) -> None:
        if grant.revoked_at is None:
            grant.revoked_at = self._clock.now()
        await self._audit.record(session, actor, action, target=("grant", grant.id))
        emit(session, CredentialsChanged(grant.org_id, grant.user_id, None))


def _proves(verifier: str, challenge: str) -> bool:
    """RFC 7636 section 4.6, the method S256."""
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return secrets.compare_digest(made, challenge.encode())


def _other_target(base: str, resource: str | None, grant: OAuthGrant) -> OAuthRefused | None:
    if resource is None:
        return None
    try:
        same = audience_of(base, resource) == grant.audience
    except OAuthRefused as refused:
        return refused
    return None if same else OAuthRefused("invalid_target", "The person granted access to another address.")
