"""What a limit can be for: per scope, the check that it exists, and the key by which calls find its limits.

A scope without an entry is refused. A domain above this one adds its own entries where the service is wired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import exists, select

from registry.budgets.errors import GlobalNeedsOperator, LimitInvalid
from registry.core.db import Session, as_uuid
from registry.identity.models import ApiKey, User
from registry.identity.principal import Principal
from registry.servers import queries as servers
from registry.servers.models import Capability, Server
from registry.teams import queries as teams

ScopeType = Literal["global", "organization", "team", "project", "agent", "user", "key", "server", "tool"]
SCOPE_TYPES: tuple[ScopeType, ...] = get_args(ScopeType)
SEPARATOR = "__"
"""Between a server's slug and a tool's name, as on `/mcp`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Something that exists.

    Args:
        id: as callers name it; `None` for the global scope.
        key: as calls are matched with it.
    """

    id: str | None
    key: str


Find = Callable[[Session, Principal, str | None], Awaitable[Scope | None]]
"""The scope with an id as far as the principal can see it, `None` if there is none."""


async def _global(_session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    if not principal.operates:
        raise GlobalNeedsOperator
    return Scope(None, "global") if scope_id is None else None


async def _organization(_session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    own = principal.org_id
    return Scope(own, f"organization:{own}") if scope_id is None or as_uuid(scope_id) == own else None


async def _team(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    found = await teams.find(session, principal, scope_id or "")
    return Scope(found.id, f"team:{found.id}") if found else None


async def _user(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    wanted = as_uuid(scope_id or "")
    found = await session.scalar(select(User.id).where(User.org_id == principal.org_id, User.id == wanted))
    return Scope(found, f"user:{found}") if found else None


async def _key(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    if scope_id is None or not scope_id.isascii() or not scope_id.isdigit() or len(scope_id) > 9:
        return None
    wanted = select(ApiKey.id).where(ApiKey.org_id == principal.org_id, ApiKey.id == int(scope_id))
    found = await session.scalar(wanted)
    return Scope(str(found), f"key:{found}") if found else None


async def _server(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    server = await _find_server(session, principal, scope_id or "")
    return Scope(server.id, f"server:{server.org_id}:{server.id}") if server else None


async def _tool(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    slug, separator, name = (scope_id or "").partition(SEPARATOR)
    server = await _find_server(session, principal, slug) if separator else None
    if server is None:
        return None
    offered = exists().where(Capability.server_id == server.id, Capability.kind == "tool", Capability.name == name)
    if not await session.scalar(select(offered)):
        return None
    return Scope(f"{server.slug}{SEPARATOR}{name}", f"tool:{server.org_id}:{server.id}:{name}")


async def _find_server(session: Session, principal: Principal, name: str) -> Server | None:
    return await servers.find_by_slug(session, principal, name) or await servers.find(session, principal, name)


SCOPES: Mapping[ScopeType, Find] = {
    "global": _global,
    "organization": _organization,
    "team": _team,
    "user": _user,
    "key": _key,
    "server": _server,
    "tool": _tool,
}


async def find_scope(
    finders: Mapping[ScopeType, Find],
    session: Session,
    principal: Principal,
    scope_type: ScopeType,
    scope_id: str | None,
) -> Scope:
    """The scope. Raises `LimitInvalid` if there is no such kind here, or none with this id."""
    find = finders.get(scope_type)
    if find is None:
        known = ", ".join(finders)
        raise LimitInvalid(f"There are no {scope_type}s here yet: use one of {known}.", field="scope_type")
    scope = await find(session, principal, scope_id)
    if scope is None:
        raise LimitInvalid(f"There is no {scope_type} with the id {scope_id!r}.", field="scope_id")
    return scope
