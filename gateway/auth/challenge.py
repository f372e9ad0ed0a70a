"""What an MCP client without a sufficient token is told: where the metadata is, and which scopes to ask for.

Source: RFC 6750 section 3, RFC 9728 section 5.1; MCP specification 2026-07-28, basic/authorization.
"""

from __future__ import annotations

from gateway.auth.origin import Origin, Scope
from gateway.auth.token_endpoints import PROTECTED
from registry.oauth.scopes import DEFAULT_SCOPES, audience_at


class Challenges:
    """Makes `WWW-Authenticate` values."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def sign_in(self, scope: Scope, *, invalid: bool) -> bytes:
        """For a request without a good credential.

        Args:
            invalid: there was one, and it is not good.
        """
        return self._value(scope, ' error="invalid_token",' if invalid else "", " ".join(DEFAULT_SCOPES))

    def step_up(self, scope: Scope, wanted: str) -> bytes:
        """For a token that lacks these scopes, which the person could grant."""
        return self._value(scope, ' error="insufficient_scope",', wanted)

    def _value(self, scope: Scope, error: str, scopes: str) -> bytes:
        path = audience_at(scope["path"]) or ""
        metadata = f"{self._origin.of(scope)}{PROTECTED}{path}"
        return f'Bearer realm="gatehouse",{error} scope="{scopes}", resource_metadata="{metadata}"'.encode("latin-1")
