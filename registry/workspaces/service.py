"""Workspaces: create, list, start, stop, remove. One method per operation, whichever door it comes through.

This writes what is wanted; `registry.workspaces.lifecycle` makes it so, and is told by `WorkspaceWanted` once the
change is committed. Whether there is an engine at all is asked before a workspace is created (`Engine`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from registry.audit.service import AuditService
from registry.core.clock import Clock
from registry.core.db import Session, emit
from registry.identity.permissions import OTHERS
from registry.identity.principal import Principal
from registry.servers.contained import Network, complaint
from registry.servers.events import OffersChanged
from registry.workspaces import queries
from registry.workspaces.errors import (
    QuotaExceeded,
    WorkspaceForbidden,
    WorkspaceInvalid,
    WorkspaceNameInvalid,
    WorkspaceNameTaken,
    WorkspaceNotFound,
)
from registry.workspaces.events import WorkspaceWanted
from registry.workspaces.models import Workspace, WorkspaceEvent
from registry.workspaces.names import acceptable, slug_of
from registry.workspaces.views import UsageReport, usage_report

READ = "workspaces:read"
MANAGE = "workspaces:manage"
USAGE_DAYS = 31
Status = Literal["active", "inactive", "deleted"]


class Engine(Protocol):
    def require(self) -> Awaitable[None]:
        """Raises `EngineMissing` if no engine answers."""
        ...


@dataclass(frozen=True, slots=True)
class Creation:
    """What a caller says of a workspace that it wants.

    Args:
        image: another than the gateway's own; it must be on the operator's list.
        hosts: for the network `allowlist`: `example.org`, `*.example.org`, with an optional port.
        nexusgate_service_id: what it is known as elsewhere, which only `users:manage` may say.
    """

    name: str
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    image: str | None = None
    network: Network | None = None
    hosts: tuple[str, ...] = ()
    nexusgate_service_id: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator allows.

    Args:
        per_user: workspaces that one user may have.
        images: that may be asked for, beside the gateway's own.
        network: of a workspace that asks for none.
    """

    per_user: int = 20
    images: frozenset[str] = frozenset()
    network: Network = "none"


class WorkspaceService:
    """Operations on workspaces. Every method checks the principal's permission itself."""

    def __init__(self, clock: Clock, audit: AuditService, engine: Engine, terms: Terms) -> None:
        self._clock = clock
        self._audit = audit
        self._engine = engine
        self._terms = terms

    async def create(self, session: Session, principal: Principal, wanted: Creation) -> Workspace:
        """Take note of a new workspace of the principal's; its container follows.

        Raises:
            WorkspaceNameInvalid, WorkspaceNameTaken, WorkspaceInvalid
            QuotaExceeded: the principal has as many as one user may.
            EngineMissing: there is nothing to run it.
        """
        principal.require(MANAGE)
        if wanted.nexusgate_service_id is not None:
            principal.require(OTHERS)
        self._check(wanted)
        await self._engine.require()
        owner = await queries.lock_owner(session, principal.user_id) if principal.user_id else None
        if owner is None:
            raise WorkspaceForbidden
        if await queries.find_by_name(session, owner.id, wanted.name) is not None:
            raise WorkspaceNameTaken(wanted.name)
        if len(await queries.owned(session, owner.id)) >= self._terms.per_user:
            raise QuotaExceeded(self._terms.per_user)
        now = self._clock.now()
        made = Workspace(
            org_id=principal.org_id,
            user_id=owner.id,
            name=wanted.name,
            slug=slug_of(wanted.name, await queries.slugs_taken(session, principal.org_id)),
            status="active",
            container_status="starting",
            image=wanted.image,
            network=wanted.network or self._terms.network,
            allowed_hosts=list(wanted.hosts),
            details=wanted.metadata,
            nexusgate_service_id=wanted.nexusgate_service_id,
            created_at=now,
            updated_at=now,
            used_at=now,
        )
        session.add(made)
        await session.flush()
        await self._note(session, principal, made, "create", f"created in network {made.network}")
        emit(session, OffersChanged(made.org_id))
        return made

    def _check(self, wanted: Creation) -> None:
        if not acceptable(wanted.name):
            raise WorkspaceNameInvalid
        if wanted.image is not None and wanted.image not in self._terms.images:
            raise WorkspaceInvalid(
                f"The image {wanted.image!r} is not on the operator's list (GATEHOUSE_WORKSPACE_IMAGES).", field="image"
            )
        if wrong := complaint(wanted.network, wanted.hosts):
            raise WorkspaceInvalid(wrong[1], field=wrong[0])

    async def page(
        self,
        session: Session,
        principal: Principal,
        *,
        status: Status | None = None,
        user_id: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> tuple[Sequence[Workspace], int]:
        """One's own workspaces, or with `users:manage` those of all users or of one; deleted ones if asked for.

        Raises:
            WorkspaceForbidden: another user's, without that permission.
        """
        principal.require(READ)
        if user_id is not None and user_id != principal.user_id and not principal.may(OTHERS):
            raise WorkspaceForbidden
        return await queries.page(session, principal, status=status, user_id=user_id, limit=limit, offset=offset)

    async def get(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        """One workspace.

        Raises:
            WorkspaceNotFound: the organisation has none of that id.
            WorkspaceForbidden: it is another user's.
        """
        return await self.find(session, principal, workspace_id, READ)

    async def find(self, session: Session, principal: Principal, workspace_id: int, permission: str) -> Workspace:
        """The same, for what needs another permission than to look."""
        principal.require(permission)
        return await self._find(session, principal, workspace_id)

    async def of_user(self, session: Session, principal: Principal, user_id: str) -> Sequence[Workspace]:
        """The workspaces of a user whom the principal may see."""
        if not principal.may(READ) or (user_id != principal.user_id and not principal.may(OTHERS)):
            return ()
        return await queries.owned(session, user_id)

    async def start(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        """Let it run. Raises as `get`, and `EngineMissing`."""
        found = await self._wanted(session, principal, workspace_id)
        if found.container_status != "running":
            found.container_status = "starting"
        await self._note(session, principal, found, "start", "start was asked for")
        return found

    async def _wanted(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        principal.require(MANAGE)
        await self._engine.require()
        found = await self._find(session, principal, workspace_id)
        found.status, found.retry_at, found.failures = "active", None, 0
        found.used_at = self._clock.now()
        return found

    async def stop(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        """Let it sleep, until it is started or called. Raises as `get`."""
        principal.require(MANAGE)
        found = await self._find(session, principal, workspace_id)
        found.status = "inactive"
        if found.container_status in ("running", "starting"):
            found.container_status = "stopping"
        await self._note(session, principal, found, "stop", "stop was asked for")
        return found

    async def restart(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        """End whatever runs in it and let it run anew. Raises as `start`."""
        found = await self._wanted(session, principal, workspace_id)
        found.container_status = "restarting"
        await self._note(session, principal, found, "restart", "restart was asked for")
        return found

    async def remove(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        """Mark it as deleted; its container goes at once, its name and slug are free again. Raises as `get`."""
        principal.require(MANAGE)
        found = await self._find(session, principal, workspace_id)
        found.status, found.deleted_at = "deleted", self._clock.now()
        found.container_status = "stopping"
        await self._note(session, principal, found, "delete", "deleted")
        emit(session, OffersChanged(found.org_id))
        return found

    async def events(
        self, session: Session, principal: Principal, workspace_id: int, limit: int = 100
    ) -> Sequence[WorkspaceEvent]:
        """What happened to it, newest first. Raises as `get`."""
        found = await self.get(session, principal, workspace_id)
        return await queries.events_of(session, found.id, limit)

    async def usage(self, session: Session, principal: Principal, workspace_id: int) -> UsageReport:
        """What it used, by hours, of the last `USAGE_DAYS`. Raises as `get`."""
        found = await self.get(session, principal, workspace_id)
        since: datetime = self._clock.now() - timedelta(days=USAGE_DAYS)
        calls = await queries.calls_of(session, found.org_id, found.id, since)
        return usage_report(await queries.usage_of(session, found.id, since), calls)

    async def counts(self, session: Session) -> tuple[int, int]:
        """How many workspaces the gateway has, and how many of them are to run: for its health."""
        return await queries.counts(session)

    async def _find(self, session: Session, principal: Principal, workspace_id: int) -> Workspace:
        found = await queries.find(session, principal, workspace_id)
        if found is None:
            raise WorkspaceNotFound
        if found.user_id != principal.user_id and not principal.may(OTHERS):
            raise WorkspaceForbidden
        return found

    async def _note(self, session: Session, principal: Principal, found: Workspace, verb: str, message: str) -> None:
        now = self._clock.now()
        found.updated_at = now
        session.add(WorkspaceEvent(workspace_id=found.id, at=now, kind=verb, message=message))
        await self._audit.record(
            session,
            principal,
            f"workspaces.{verb}",
            target=("workspace", str(found.id)),
            detail={"name": found.name, "owner": found.user_id},
        )
        emit(session, WorkspaceWanted(found.id))
