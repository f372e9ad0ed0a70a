"""Workspaces among what a budget's limit can be for: as a server, by their slug or `workspace:ID`, and their tools.

The service of budgets knows servers; where it is wired it is given these in their place.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import or_, select

from registry.budgets.scopes import SCOPES, SEPARATOR, Find, Scope, ScopeType
from registry.core.db import Session
from registry.identity.principal import Principal
from registry.workspaces.models import Workspace
from registry.workspaces.names import server_id_of, workspace_id_of
from registry.workspaces.offer import tools_offered


async def _server(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    found = await SCOPES["server"](session, principal, scope_id)
    if found is not None:
        return found
    workspace = await _find(session, principal, scope_id or "")
    if workspace is None:
        return None
    server_id = server_id_of(workspace.id)
    return Scope(server_id, f"server:{workspace.org_id}:{server_id}")


async def _tool(session: Session, principal: Principal, scope_id: str | None) -> Scope | None:
    found = await SCOPES["tool"](session, principal, scope_id)
    if found is not None:
        return found
    slug, _, name = (scope_id or "").partition(SEPARATOR)
    workspace = await _find(session, principal, slug)
    if workspace is None or name not in {tool.name for tool in tools_offered()}:
        return None
    key = f"tool:{workspace.org_id}:{server_id_of(workspace.id)}:{name}"
    return Scope(f"{workspace.slug}{SEPARATOR}{name}", key)


async def _find(session: Session, principal: Principal, name: str) -> Workspace | None:
    live = select(Workspace).where(Workspace.org_id == principal.org_id, Workspace.deleted_at.is_(None))
    return await session.scalar(live.where(or_(Workspace.slug == name, Workspace.id == workspace_id_of(name))))


WITH_WORKSPACES: Mapping[ScopeType, Find] = {**SCOPES, "server": _server, "tool": _tool}
