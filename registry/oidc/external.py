"""Access tokens of other issuers, recognised by their signature and taken for the people that they name.

Each issuer has one audience here: what it was not issued for, it does not open. An id token is no access token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from registry.core.db import Database
from registry.core.errors import Forbidden
from registry.identity.principal import Principal
from registry.identity.service import principal_of
from registry.oidc.errors import ForeignTokenInvalid, IssuerBroken
from registry.oidc.issuer import Issuer
from registry.oidc.people import People

_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt", ""})
_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})


@dataclass(frozen=True, slots=True)
class Trusted:
    """An issuer whose tokens for `audience` are believed."""

    issuer: Issuer
    audience: str


class ExternalTokens:
    """A recognizer of credentials, see `gateway.auth.authenticator`."""

    def __init__(self, database: Database, people: People, trusted: Sequence[Trusted]) -> None:
        self._database = database
        self._people = people
        self._trusted = {one.issuer.url: one for one in trusted}

    def recognizes(self, credential: str) -> bool:
        return bool(self._trusted) and _issuer_of(credential) in self._trusted

    async def authenticate(self, credential: str) -> Principal:
        """The person whom the token names. Raises `ForeignTokenInvalid`."""
        trusted = self._trusted[_issuer_of(credential) or ""]
        try:
            claims = await trusted.issuer.verified(credential, trusted.audience)
        except IssuerBroken as error:
            # Not knowing is no reason to let anybody in.
            raise ForeignTokenInvalid(error.message) from None
        if claims["typ"].lower() not in _TYPES or _ID_TOKEN_CLAIMS & claims.keys():
            raise ForeignTokenInvalid("An id token is no access token.")
        return await self._person(trusted.issuer.url, claims)

    async def _person(self, issuer: str, claims: Mapping[str, Any]) -> Principal:
        async with self._database.reading() as session:
            user = await self._people.known(session, issuer, claims["sub"])
        if user is None:
            try:
                async with self._database.transaction() as session:
                    user = await self._people.admit(session, issuer, claims)
            except Forbidden as error:
                raise ForeignTokenInvalid(error.message) from None
        if not user.is_active:
            raise ForeignTokenInvalid("This user is not active.")
        return principal_of(user)


def _issuer_of(token: str) -> str | None:
    """The issuer that a token claims to be of; nothing is proved by that."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    named = cast("dict[str, Any]", claims).get("iss") if isinstance(claims, dict) else None
    return named if isinstance(named, str) else None
