"""Who is calling: the one principal type that every credential becomes.

It is a plain value without SQL, so that the data path can hold it. `registry.identity.service` makes it from stored
users and keys; `gateway.auth` finds the credential in a request.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from registry.core.errors import Forbidden

OPERATE = "gateway:operate"
ANY_TOOL: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Args:
        org_id: the organisation that owns everything this principal can see.
        user_id: the person behind the credential; `None` only for public access.
        role: role name from `registry.identity.permissions.ROLES`; `public` for public access.
        permissions: what the role grants, narrowed by the key where one was used.
        key_id: the API key used, if one was.
        session_id: the login session used, if one was.
        tools: patterns (`fnmatch`, on the exposed name `server__tool`) of the tools, prompts and resources
            that may be used; a key may narrow it.
        place: the one MCP address that may be used, like `servers/notes`; set for public access only.
        audience: the one path that the credential was issued for, such as `/mcp`; `/` is the whole gateway. `None`
            for credentials that are not bound to an address.
        consentable: permissions that the person has and that a wider consent would give this credential as well.
    """

    org_id: str
    user_id: str | None
    role: str
    permissions: frozenset[str]
    email: str | None = None
    key_id: int | None = None
    session_id: str | None = None
    tools: tuple[str, ...] = ANY_TOOL
    place: str | None = None
    audience: str | None = None
    consentable: frozenset[str] = frozenset()
    grant: str = field(init=False, default="")

    def __post_init__(self) -> None:
        text = "\n".join((self.org_id, self.place or "", *sorted(self.permissions), "--", *sorted(self.tools)))
        # Principals with the same grant see the same lists, so lists are prepared once per grant.
        object.__setattr__(self, "grant", hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def subject(self) -> str:
        """Stable name of the credential's holder, for binding sessions and sealed state."""
        if self.key_id is not None:
            return f"key:{self.key_id}"
        return f"user:{self.user_id}" if self.user_id is not None else f"public:{self.place}"

    @property
    def operates(self) -> bool:
        """Holds `gateway:operate`: may act over all organisations."""
        return OPERATE in self.permissions

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def may_use(self, exposed_name: str) -> bool:
        """Whether the tool patterns admit this exposed name."""
        return self.tools == ANY_TOOL or any(fnmatchcase(exposed_name, pattern) for pattern in self.tools)

    def require(self, permission: str) -> None:
        """Raises `Forbidden` naming the permission that is missing."""
        if permission not in self.permissions:
            raise Forbidden(f"This needs the permission {permission}.", details={"permission": permission})
