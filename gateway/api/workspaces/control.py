"""Our own routes for workspaces, beside the document's: start, stop, restart, a look inside, credentials for git."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gateway.api.shared.paging import PageLimit
from gateway.api.shared.route import Caller, Front, Session
from gateway.api.workspaces.shared import GENERAL, Wrapped
from registry.workspaces.console import Console, Executed, LogEntry, StatsView
from registry.workspaces.credentials import CredentialBook, GivenCredential
from registry.workspaces.service import WorkspaceService
from registry.workspaces.views import (
    CredentialView,
    EndpointOf,
    EventView,
    UsageReport,
    WorkspaceView,
    credential_view,
    event_view,
    workspace_view,
)


class ExecBody(BaseModel):
    """`timeout` in seconds."""

    command: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=1000)]
    timeout: Annotated[float, Field(gt=0, le=600)] = 60.0


class CredentialBody(BaseModel):
    """`url`: of the remote; its scheme, host and port are what counts."""

    url: Annotated[str, Field(min_length=1, max_length=300)]
    username: Annotated[str, Field(max_length=255)]
    password: Annotated[str, Field(min_length=1, max_length=4096)]


class CredentialsData(BaseModel):
    credentials: list[CredentialView]


class ImageData(BaseModel):
    image: str


class LogsData(BaseModel):
    lines: list[LogEntry]


class EventsData(BaseModel):
    events: list[EventView]


def router(front: Front, workspaces: WorkspaceService, console: Console, endpoint_of: EndpointOf) -> APIRouter:
    api = front.router(tags=["Workspaces"], limit=GENERAL)
    at = "/v1/workspaces/{workspace_id}"

    @api.post(f"{at}/start")
    async def start_workspace(workspace_id: int, session: Session, caller: Caller) -> Wrapped[WorkspaceView]:
        return Wrapped(data=workspace_view(await workspaces.start(session, caller, workspace_id), endpoint_of))

    @api.post(f"{at}/stop")
    async def stop_workspace(workspace_id: int, session: Session, caller: Caller) -> Wrapped[WorkspaceView]:
        return Wrapped(data=workspace_view(await workspaces.stop(session, caller, workspace_id), endpoint_of))

    @api.post(f"{at}/restart")
    async def restart_workspace(workspace_id: int, session: Session, caller: Caller) -> Wrapped[WorkspaceView]:
        return Wrapped(data=workspace_view(await workspaces.restart(session, caller, workspace_id), endpoint_of))

    @api.get(f"{at}/logs")
    async def get_logs(
        workspace_id: int, caller: Caller, tail: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> Wrapped[LogsData]:
        return Wrapped(data=LogsData(lines=await console.logs(caller, workspace_id, tail)))

    @api.get(f"{at}/stats")
    async def get_stats(workspace_id: int, caller: Caller) -> Wrapped[StatsView]:
        return Wrapped(data=await console.stats(caller, workspace_id))

    @api.post(f"{at}/exec")
    async def run_command(workspace_id: int, body: ExecBody, caller: Caller) -> Wrapped[Executed]:
        return Wrapped(data=await console.run(caller, workspace_id, body.command, body.timeout))

    @api.get(f"{at}/events")
    async def get_events(
        workspace_id: int, session: Session, caller: Caller, limit: PageLimit = 100
    ) -> Wrapped[EventsData]:
        found = await workspaces.events(session, caller, workspace_id, limit)
        return Wrapped(data=EventsData(events=[event_view(event) for event in found]))

    @api.get(f"{at}/usage")
    async def get_usage(workspace_id: int, session: Session, caller: Caller) -> Wrapped[UsageReport]:
        return Wrapped(data=await workspaces.usage(session, caller, workspace_id))

    @api.post("/v1/workspaces-image")
    async def build_image(caller: Caller) -> Wrapped[ImageData]:
        """Build the image of workspaces anew. It takes minutes, and this waits for it."""
        return Wrapped(data=ImageData(image=await console.build_image(caller)))

    return api


def credentials_router(front: Front, book: CredentialBook) -> APIRouter:
    """What the caller's own workspaces show to the remotes of git."""
    api = front.router(tags=["Workspaces"], limit=GENERAL)
    at = "/v1/workspaces-credentials"

    @api.get(at)
    async def list_credentials(session: Session, caller: Caller) -> Wrapped[CredentialsData]:
        found = [credential_view(one) for one in await book.of(session, caller)]
        return Wrapped(data=CredentialsData(credentials=found))

    @api.put(at)
    async def keep_credential(body: CredentialBody, session: Session, caller: Caller) -> Wrapped[CredentialView]:
        kept = await book.keep(session, caller, GivenCredential(body.url, body.username, body.password))
        return Wrapped(data=credential_view(kept))

    @api.delete(f"{at}/{{credential_id}}", status_code=204)
    async def forget_credential(credential_id: str, session: Session, caller: Caller) -> None:
        await book.forget(session, caller, credential_id)

    return api
