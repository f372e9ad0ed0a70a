"""Signing people in by an OIDC provider: the authorization code flow with PKCE, as its relying party.

Source: OpenID Connect Core 1.0, RP-Initiated Logout 1.0; RFC 7636, RFC 9207. Where browsers come from and go to is
`gateway.api.registry.oidc`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

import msgspec
from sqlalchemy import delete

from registry.core.clock import Clock
from registry.core.db import Database
from registry.core.egress import EgressClient
from registry.core.errors import GatehouseError
from registry.core.security import Digester, SealBroken, Sealer
from registry.identity.principal import Principal
from registry.oidc.errors import IssuerBroken, OidcLoginFailed
from registry.oidc.issuer import FETCH_SECONDS, MAX_BYTES, Issuer
from registry.oidc.models import OidcLogin, OidcSession
from registry.oidc.people import People

WITHIN = timedelta(minutes=10)
"""How long a person may take at the provider."""
SCOPES = "openid email profile"


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that has begun.

    Args:
        url: where to send the browser.
        browser: what it has to bring back, in a cookie.
    """

    url: str
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proved:
    """Who came back: a user, with the provider's token to remember, and where they were going."""

    user_id: str
    id_token: str = field(repr=False)
    following: str


class _Waiting(msgspec.Struct):
    nonce: str
    verifier: str
    redirect_uri: str
    following: str


class OidcService:
    """The relying party.

    Args:
        issuer: the provider.
        scopes: asked for at the provider.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        egress: EgressClient,
        master: bytes,
        issuer: Issuer,
        people: People,
        *,
        client_id: str,
        client_secret: str | None,
        scopes: str = SCOPES,
    ) -> None:
        self._database = database
        self._clock = clock
        self._egress = egress
        self._states = Digester(master, "oidc-states")
        self._sealer = Sealer(master, "oidc-logins")
        self._tokens = Sealer(master, "oidc-sessions")
        self._issuer = issuer
        self._people = people
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = scopes

    async def begin(self, redirect_uri: str, following: str) -> Begun:
        """Prepare to send a person to the provider. Raises `IssuerBroken`."""
        metadata = await self._issuer.metadata()
        endpoint = self._issuer.endpoint(metadata, "authorization_endpoint")
        state, browser = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        waiting = _Waiting(secrets.token_urlsafe(32), secrets.token_urlsafe(48), redirect_uri, following)
        now = self._clock.now()
        record = OidcLogin(
            state_hash=self._states.digest(state),
            sealed=self._sealer.seal(msgspec.json.encode(waiting), browser),
            expires_at=now + WITHIN,
        )
        async with self._database.transaction() as session:
            await session.execute(delete(OidcLogin).where(OidcLogin.expires_at <= now))
            session.add(record)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(waiting.verifier.encode()).digest()).rstrip(b"=")
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": redirect_uri,
                "scope": self._scopes,
                "state": state,
                "nonce": waiting.nonce,
                "code_challenge": challenge.decode(),
                "code_challenge_method": "S256",
            }
        )
        return Begun(f"{endpoint}{'&' if '?' in endpoint else '?'}{query}", browser)

    async def finish(self, answer: Mapping[str, str], browser: str | None) -> Proved:
        """Take the provider's answer. Its state serves once, and only for the browser that was sent.

        Raises:
            OidcLoginFailed: it is not the answer to a question of ours, or tells of a failure.
            NotAdmitted: the person is not let in here.
            IssuerBroken: the provider cannot be asked.
        """
        waiting = await self._take(answer.get("state", ""), browser)
        metadata = await self._issuer.metadata()
        named = answer.get("iss")
        must_name = metadata.get("authorization_response_iss_parameter_supported") is True
        if (named is not None or must_name) and named != self._issuer.url:
            raise OidcLoginFailed("The answer came from another issuer than the one that was asked.")
        if "error" in answer or not answer.get("code"):
            raise OidcLoginFailed("The provider did not sign you in.")
        tokens = await self._exchange(metadata, answer["code"], waiting)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise OidcLoginFailed("The provider gave no id token.")
        claims = await self._issuer.verified(id_token, self._client_id)
        self._check(claims, waiting)
        claims = await self._with_user_info(metadata, claims, tokens.get("access_token"))
        async with self._database.transaction() as session:
            user = await self._people.admit(session, self._issuer.url, claims)
        return Proved(user.id, id_token, waiting.following)

    async def remember(self, session_id: str, proved: Proved) -> None:
        """Keep with a login session what its logout needs."""
        sealed = self._tokens.seal(proved.id_token.encode(), session_id)
        async with self._database.transaction() as session:
            session.add(OidcSession(session_id=session_id, sealed_id_token=sealed))

    async def logout_url(self, principal: Principal, back_to: str | None) -> str:
        """Where the person ends their session with the provider. Raises `IssuerBroken`."""
        endpoint = self._issuer.endpoint(await self._issuer.metadata(), "end_session_endpoint")
        parameters = {"client_id": self._client_id}
        async with self._database.reading() as session:
            kept = await session.get(OidcSession, principal.session_id) if principal.session_id else None
        if kept is not None:
            parameters["id_token_hint"] = self._tokens.open(kept.sealed_id_token, kept.session_id).decode()
        if back_to is not None:
            parameters["post_logout_redirect_uri"] = back_to
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"

    async def _take(self, state: str, browser: str | None) -> _Waiting:
        failed = OidcLoginFailed("This sign-in was not begun in this browser, took too long, or is over: begin again.")
        taken = (
            delete(OidcLogin)
            .where(OidcLogin.state_hash == self._states.digest(state))
            .returning(OidcLogin.sealed, OidcLogin.expires_at)
        )
        async with self._database.transaction() as session:
            row = (await session.execute(taken)).one_or_none()
        if row is None or browser is None or row.expires_at <= self._clock.now():
            raise failed
        try:
            return msgspec.json.decode(self._sealer.open(row.sealed, browser), type=_Waiting)
        except SealBroken:
            raise failed from None

    def _check(self, claims: Mapping[str, Any], waiting: _Waiting) -> None:
        audience = claims["aud"]
        several = isinstance(audience, list) and len(cast("list[Any]", audience)) > 1
        party = claims.get("azp")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not secrets.compare_digest(nonce.encode(), waiting.nonce.encode()):
            raise OidcLoginFailed("The id token is not the answer to this sign-in.")
        if (several or party is not None) and party != self._client_id:
            raise OidcLoginFailed("The id token was made for another application.")
        if "iat" not in claims:
            raise OidcLoginFailed("The id token does not say when it was made.")

    async def _exchange(self, metadata: dict[str, Any], code: str, waiting: _Waiting) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": waiting.redirect_uri,
            "code_verifier": waiting.verifier,
        }
        headers = {"Accept": "application/json"}
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._client_secret is not None and "client_secret_basic" in methods:
            pair = f"{quote(self._client_id, safe='')}:{quote(self._client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self._client_id
            if self._client_secret is not None:
                form["client_secret"] = self._client_secret
        answer = await self._ask("POST", self._issuer.endpoint(metadata, "token_endpoint"), headers, form)
        if answer is None:
            raise OidcLoginFailed("The provider did not accept the code: begin again.")
        return answer

    async def _with_user_info(
        self, metadata: dict[str, Any], claims: dict[str, Any], access_token: object
    ) -> dict[str, Any]:
        """The claims, with those that the provider tells only when asked."""
        if "email" in claims or "userinfo_endpoint" not in metadata or not isinstance(access_token, str):
            return claims
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        told = await self._ask("GET", self._issuer.endpoint(metadata, "userinfo_endpoint"), headers, None)
        return told | claims if told is not None and told.get("sub") == claims["sub"] else claims

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None
    ) -> dict[str, Any] | None:
        try:
            answer = await self._egress.request(
                method, url, headers=headers, data=form, timeout=FETCH_SECONDS, max_bytes=MAX_BYTES
            )
            said = answer.json() if answer.ok else None
        except GatehouseError as error:
            raise IssuerBroken(f"{self._issuer.url} cannot be asked: {error.message}") from None
        return cast("dict[str, Any]", said) if isinstance(said, dict) else None
