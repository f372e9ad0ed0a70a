"""Workspaces in the Workspaces API: list, create, get, delete. Source: `octoprox.md`, Workspaces.

What the document does not have (start, stop, logs, …) is `control`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.shared.route import Caller, Front, Session
from gateway.api.workspaces.shared import PER_PAGE, Meta, Page, PerPage, UserId, Wrapped, WrappedPage, documents_router
from registry.workspaces.offer import tools_offered
from registry.workspaces.service import Creation, Network, WorkspaceService
from registry.workspaces.views import EndpointOf, ToolView, WorkspaceView, workspace_view


class CreateBody(BaseModel):
    """`name` is judged by the service, whose answer to a bad one is the document's."""

    name: Annotated[str, Field(max_length=10_000)]
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    image: Annotated[str, Field(max_length=255)] | None = None
    network: Network | None = None
    allowed_hosts: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list[str])
    nexusgate_service_id: Annotated[str, Field(max_length=200)] | None = None


class WorkspacesData(BaseModel):
    workspaces: list[WorkspaceView]


class WorkspaceDetail(WorkspaceView):
    tools: list[ToolView]


def router(front: Front, workspaces: WorkspaceService, endpoint_of: EndpointOf) -> APIRouter:
    api = documents_router(front, "Workspaces")

    @api.get("/api/v1/workspaces")
    async def list_workspaces(
        session: Session,
        caller: Caller,
        page: Page = 1,
        per_page: PerPage = PER_PAGE,
        status: Literal["active", "inactive", "deleted"] | None = None,
        user_id: UserId | None = None,
    ) -> WrappedPage[WorkspacesData]:
        offset = (page - 1) * per_page
        rows, total = await workspaces.page(
            session, caller, status=status, user_id=user_id, limit=per_page, offset=offset
        )
        found = WorkspacesData(workspaces=[workspace_view(row, endpoint_of) for row in rows])
        return WrappedPage(data=found, meta=Meta(page=page, per_page=per_page, total=total))

    @api.post("/api/v1/workspaces", status_code=201)
    async def create_workspace(body: CreateBody, session: Session, caller: Caller) -> Wrapped[WorkspaceView]:
        wanted = Creation(
            name=body.name,
            metadata=body.metadata,
            image=body.image,
            network=body.network,
            hosts=tuple(body.allowed_hosts),
            nexusgate_service_id=body.nexusgate_service_id,
        )
        return Wrapped(data=workspace_view(await workspaces.create(session, caller, wanted), endpoint_of))

    @api.get("/api/v1/workspaces/{workspace_id}")
    async def get_workspace(workspace_id: int, session: Session, caller: Caller) -> Wrapped[WorkspaceDetail]:
        view = workspace_view(await workspaces.get(session, caller, workspace_id), endpoint_of)
        return Wrapped(data=WorkspaceDetail(**view.model_dump(), tools=tools_offered()))

    @api.delete("/api/v1/workspaces/{workspace_id}", status_code=204)
    async def delete_workspace(workspace_id: int, session: Session, caller: Caller) -> None:
        await workspaces.remove(session, caller, workspace_id)

    return api
