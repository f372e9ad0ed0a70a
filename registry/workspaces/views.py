"""A workspace as callers see it. Source: `octoprox.md`, Workspaces; the fields beyond it are ours.

REST and MCP tools show the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from registry.workspaces.models import GitCredential, Workspace, WorkspaceEvent, WorkspaceUsage

EndpointOf = Callable[[str], str]
"""The address of a workspace's MCP endpoint, by its name."""


class ToolView(BaseModel):
    name: str
    description: str


class WorkspaceView(BaseModel):
    """Times are in UTC; `metadata` is what the creator gave."""

    id: int
    name: str
    user_id: str
    status: str
    endpoint_url: str
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    nexusgate_service_id: str | None
    container_id: str | None
    container_status: str
    slug: str
    problem: str | None
    image: str | None
    network: str
    allowed_hosts: list[str]
    started_at: datetime | None
    last_used_at: datetime


class EventView(BaseModel):
    at: datetime
    kind: str
    message: str


class UsageView(BaseModel):
    """What was used in one hour.

    Args:
        memory_gb_seconds: billions of bytes, times the seconds that they were used.
    """

    hour: datetime
    seconds: float
    cpu_seconds: float
    memory_gb_seconds: float


class CredentialView(BaseModel):
    """A credential without its password."""

    id: str
    origin: str
    username: str
    updated_at: datetime


def workspace_view(workspace: Workspace, endpoint_of: EndpointOf) -> WorkspaceView:
    return WorkspaceView(
        id=workspace.id,
        name=workspace.name,
        user_id=workspace.user_id,
        status=workspace.status,
        endpoint_url=endpoint_of(workspace.name),
        created_at=workspace.created_at,
        updated_at=workspace.updated_at,
        metadata=workspace.details,
        nexusgate_service_id=workspace.nexusgate_service_id,
        container_id=workspace.container_id,
        container_status=workspace.container_status,
        slug=workspace.slug,
        problem=workspace.problem,
        image=workspace.image,
        network=workspace.network,
        allowed_hosts=workspace.allowed_hosts,
        started_at=workspace.started_at,
        last_used_at=workspace.used_at,
    )


def event_view(event: WorkspaceEvent) -> EventView:
    return EventView(at=event.at, kind=event.kind, message=event.message)


def usage_view(usage: WorkspaceUsage) -> UsageView:
    return UsageView(
        hour=usage.hour,
        seconds=usage.seconds,
        cpu_seconds=usage.cpu_seconds,
        memory_gb_seconds=usage.memory_byte_seconds / 1e9,
    )


def credential_view(kept: GitCredential) -> CredentialView:
    return CredentialView(id=kept.id, origin=kept.origin, username=kept.username, updated_at=kept.updated_at)
