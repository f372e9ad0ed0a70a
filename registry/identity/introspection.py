"""What a token is, told to other services in the words of RFC 7662.

Whether it holds is the authenticator's to say; this is only the shape, the same for whatever credential it is.
"""

from __future__ import annotations

import hmac

from pydantic import BaseModel

from registry.core.errors import Unauthenticated
from registry.identity.directory import username_of
from registry.identity.principal import Principal
from registry.identity.service import KEY_MARK, SESSION_MARK


class IntrospectionRefused(Unauthenticated):
    def __init__(self) -> None:
        super().__init__(
            "Introspection needs the secret of GATEHOUSE_INTROSPECT_SECRET in the header X-Introspect-Secret."
        )


class Introspection(BaseModel):
    """Source: RFC 7662 section 2.2, and `octoprox.md`. An inactive token is told nothing of but that."""

    active: bool
    sub: str | None = None
    username: str | None = None
    role: str | None = None
    token_type: str | None = None


def check_secret(wanted: str | None, given: str | None) -> None:
    """Raises `IntrospectionRefused` where a secret is configured and another one, or none, is given."""
    if wanted is not None and not hmac.compare_digest(wanted.encode(), (given or "").encode()):
        raise IntrospectionRefused


def introspection(token: str, principal: Principal | None) -> Introspection:
    """The answer for a token; `principal` is `None` for one that does not hold."""
    if principal is None:
        return Introspection(active=False)
    kind = "api_key" if token.startswith(KEY_MARK) else "session" if token.startswith(SESSION_MARK) else "jwt"
    return Introspection(
        active=True,
        sub=principal.user_id,
        username=username_of(principal.email),
        role=principal.role,
        token_type=kind,
    )
