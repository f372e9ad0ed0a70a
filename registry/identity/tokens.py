"""JWT access tokens: made at login, checked at every door.

What they claim is never the last word on what a user may do: `registry.identity.service` looks the user up, so that
the token of a dismissed one opens nothing.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.core.clock import Clock
from registry.core.errors import Unauthenticated
from registry.core.security import derive_key

ALGORITHM = "HS256"
TYPE = "at+jwt"
ISSUER = "gatehouse"
AUDIENCE = "gatehouse:api"

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_REQUIRED = ["sub", "org", "role", "sid", "exp", "iat", "iss", "aud", "jti"]
_MAX_LENGTH = 4096
# Replicas' clocks differ a little; a token is never accepted this long before it was made.
_LEEWAY_SECONDS = 60


class TokenInvalid(Unauthenticated):
    """Not an access token of ours, or no longer one."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `session_id` names the login session, whose end is the token's end."""

    user_id: str
    org_id: str
    role: str
    session_id: str
    expires_at: int


class AccessTokens:
    """Signs and verifies with one algorithm and one key; a token's header chooses neither.

    Args:
        minutes: how long a token is valid.
    """

    def __init__(self, master: bytes, clock: Clock, minutes: int) -> None:
        self._key = derive_key(master, "access-tokens")
        self._clock = clock
        self.lifetime_seconds = minutes * 60

    def issue(self, *, user_id: str, org_id: str, role: str, session_id: str) -> str:
        # Heavy vendor, imported at the first login.
        import jwt

        now = int(self._clock.now().timestamp())
        claims = {
            "sub": user_id,
            "org": org_id,
            "role": role,
            "sid": session_id,
            "iat": now,
            "exp": now + self.lifetime_seconds,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": TYPE})

    def verify(self, token: str) -> Claims:
        """Raises `TokenInvalid` for anything but an access token of ours that has not expired."""
        if len(token) > _MAX_LENGTH or not _SHAPE.fullmatch(token):
            raise TokenInvalid("The access token is malformed.")
        payload = self._decode(token)
        now = self._clock.now()
        if payload["exp"] <= now.timestamp():
            raise TokenInvalid("The access token has expired: log in again.")
        if _from_the_future(payload["iat"], now):
            raise TokenInvalid("The access token is not valid yet.")
        return Claims(payload["sub"], payload["org"], payload["role"], payload["sid"], payload["exp"])

    def _decode(self, token: str) -> dict[str, Any]:
        # Heavy vendor, imported with the first token.
        import jwt

        try:
            # Times are checked by the caller, against the injected clock.
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWTError:
            raise TokenInvalid("The access token is not valid.") from None
        payload: dict[str, Any] = decoded["payload"]
        texts = ("sub", "org", "role", "sid")
        if (
            decoded["header"].get("typ") != TYPE
            or not all(payload[name] and isinstance(payload[name], str) for name in texts)
            or not all(isinstance(payload[name], int) for name in ("exp", "iat"))
        ):
            raise TokenInvalid("The access token is not valid.")
        return payload


def _from_the_future(issued_at: int, now: datetime) -> bool:
    return issued_at > now.timestamp() + _LEEWAY_SECONDS
