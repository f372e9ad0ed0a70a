"""What a token may do and where: scopes are names of permissions, audiences are addresses of the gateway."""

from __future__ import annotations

import re

from registry.identity.permissions import AGENT, OPERATOR, PERMISSIONS
from registry.oauth.errors import OAuthRefused

_NEVER = OPERATOR | {"keys:manage", "users:manage"}
# The first is for people alone; with the others a client could make itself an access that outlives its grant.

SCOPES: dict[str, str] = {name: words for name, words in PERMISSIONS.items() if name not in _NEVER}
"""Every scope with what it means."""

DEFAULT_SCOPES = tuple(sorted(AGENT))
"""What a client is given that asks for nothing in particular, and what it is told to ask for at first."""

DEFAULT_AUDIENCE = "/mcp"
WHOLE = "/"
_AUDIENCE = re.compile(r"/|/mcp|/(?:servers|sets)/[a-z0-9][a-z0-9-]{0,63}/mcp|/ws/[A-Za-z0-9._-]{1,128}/mcp")


def scopes_wanted(scope: str) -> tuple[str, ...]:
    """The scopes of a request. Names that are not ours are passed over (RFC 6749 section 3.3).

    Raises:
        OAuthRefused: `invalid_scope`, if none of them is ours.
    """
    names = scope.split()
    if not names:
        return DEFAULT_SCOPES
    known = tuple(sorted(set(names) & SCOPES.keys()))
    if not known:
        raise OAuthRefused("invalid_scope", "None of the scopes is known here: see scopes_supported.")
    return known


def audience_of(base: str, resource: str) -> str:
    """The address that a resource indicator (RFC 8707) means. Raises `OAuthRefused`: `invalid_target`."""
    origin = base.rstrip("/")
    if resource.lower().startswith(origin.lower()):
        path = resource[len(origin) :].rstrip("/") or WHOLE
        if _AUDIENCE.fullmatch(path):
            return path
    raise OAuthRefused("invalid_target", "resource must be an MCP address of this gateway.")


def audience_at(path: str) -> str | None:
    """The audience that a path is by itself; `None` for what only a token for the whole gateway opens."""
    path = path.rstrip("/")
    return path if path and _AUDIENCE.fullmatch(path) else None


def resource_of(base: str, audience: str) -> str:
    """The resource indicator of an address."""
    return base if audience == WHOLE else base + audience
