"""A workspace as callers see it. Source: `octoprox.md`, Workspaces; the fields beyond it are ours.

REST and MCP tools show the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
        calls: of its tools.
    """

    hour: datetime
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_gb_seconds: float = 0.0
    calls: int = 0


class UsageReport(BaseModel):
    """By hours, and all of them together."""

    hours: list[UsageView]
    seconds: float
    cpu_seconds: float
    memory_gb_seconds: float
    calls: int


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


def usage_report(used: Iterable[WorkspaceUsage], calls: Mapping[datetime, int]) -> UsageReport:
    """What containers used and calls came, joined by the hour."""
    hours = {
        row.hour: UsageView(
            hour=row.hour,
            seconds=row.seconds,
            cpu_seconds=row.cpu_seconds,
            memory_gb_seconds=row.memory_byte_seconds / 1e9,
        )
        for row in used
    }
    for hour, number in calls.items():
        hours.setdefault(hour, UsageView(hour=hour)).calls = number
    listed = [hours[hour] for hour in sorted(hours)]
    return UsageReport(
        hours=listed,
        seconds=sum(hour.seconds for hour in listed),
        cpu_seconds=sum(hour.cpu_seconds for hour in listed),
        memory_gb_seconds=sum(hour.memory_gb_seconds for hour in listed),
        calls=sum(hour.calls for hour in listed),
    )


def credential_view(kept: GitCredential) -> CredentialView:
    return CredentialView(id=kept.id, origin=kept.origin, username=kept.username, updated_at=kept.updated_at)
