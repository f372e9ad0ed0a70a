"""Tools for workspaces: `workspaces_list`, `workspaces_create`, `workspaces_start`, …; see `registry.workspaces`.

What an agent does inside a workspace are the tools of the workspace itself.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import OPERATE, Principal
from registry.workspaces.console import Console, Executed, LogEntry, StatsView
from registry.workspaces.models import Workspace
from registry.workspaces.service import MANAGE, READ, Creation, Network, WorkspaceService
from registry.workspaces.views import (
    EndpointOf,
    EventView,
    UsageReport,
    WorkspaceView,
    event_view,
    workspace_view,
)


class ListWorkspaces(Arguments):
    status: Literal["active", "inactive", "deleted"] | None = Field(None, description="Only those with this status.")
    user_id: str | None = Field(None, description="Only those of this user; for administrators.")
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0)


class WorkspacePage(BaseModel):
    workspaces: list[WorkspaceView]
    total: int
    limit: int
    offset: int


class CreateWorkspace(Arguments):
    name: str = Field(description="Letters, digits, hyphens, dots and underscores; at most 128.")
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    image: str | None = Field(None, description="Another image, from the operator's list.")
    network: Network | None = Field(None, description="What it may reach: nothing, allowed_hosts, or anything public.")
    allowed_hosts: list[str] = Field(default_factory=list[str], description="For the network 'allowlist'.")


class OneWorkspace(Arguments):
    workspace_id: int


class LogsOf(OneWorkspace):
    tail: int = Field(100, ge=1, le=10_000, description="So many of the last lines.")


class Logs(BaseModel):
    lines: list[LogEntry]


class Events(BaseModel):
    events: list[EventView]


class RunIn(OneWorkspace):
    command: list[str] = Field(min_length=1, description="The program and its arguments; no shell reads them.")
    timeout: float = Field(60.0, gt=0, le=600, description="Seconds.")


class BuildImage(Arguments):
    pass


class BuiltImage(BaseModel):
    image: str


class WorkspaceTools:
    """The tools' bodies: each is one call of the service."""

    def __init__(
        self, database: Database, workspaces: WorkspaceService, console: Console, endpoint_of: EndpointOf
    ) -> None:
        self._database = database
        self._workspaces = workspaces
        self._console = console
        self._endpoint_of = endpoint_of

    def tools(self) -> list[Tool[Any]]:
        return [*self._reading(), *self._changing(), *self._others()]

    def _reading(self) -> list[Tool[Any]]:
        def reads(verb: str, title: str, description: str, run: Any, of: type[Any] = OneWorkspace) -> Tool[Any]:
            return Tool(f"workspaces_{verb}", title, description, READ, of, run, read_only=True)

        return [
            reads("list", "List workspaces", "List your workspaces and their state.", self._list, ListWorkspaces),
            reads("get", "Show a workspace", "Show one workspace: its state, its address.", self._get),
            reads("logs", "Logs of a workspace", "The last lines that its container logged.", self._logs, LogsOf),
            reads("stats", "What a workspace uses", "Processor time, memory and processes now.", self._stats),
            reads("events", "Events of a workspace", "What happened to it, newest first.", self._events),
            reads("usage", "Usage of a workspace", "What it used, hour by hour.", self._usage),
        ]

    def _changing(self) -> list[Tool[Any]]:
        return [
            Tool(
                "workspaces_create",
                "Create a workspace",
                "Create a container to work in, with files, git and a shell. Its tools appear in the gateway's list.",
                MANAGE,
                CreateWorkspace,
                self._create,
            ),
            Tool(
                "workspaces_start",
                "Start a workspace",
                "Let a workspace run. A call to one of its tools does so too.",
                MANAGE,
                OneWorkspace,
                self._start,
                idempotent=True,
            ),
            Tool(
                "workspaces_stop",
                "Stop a workspace",
                "End what runs in a workspace. Its files stay, and the next call wakes it.",
                MANAGE,
                OneWorkspace,
                self._stop,
                destructive=True,
                idempotent=True,
            ),
            Tool(
                "workspaces_restart",
                "Restart a workspace",
                "End what runs in a workspace and start it anew. Its files stay.",
                MANAGE,
                OneWorkspace,
                self._restart,
                destructive=True,
            ),
            Tool(
                "workspaces_delete",
                "Delete a workspace",
                "Remove a workspace. Its tools leave the gateway's list at once.",
                MANAGE,
                OneWorkspace,
                self._delete,
                destructive=True,
            ),
        ]

    def _others(self) -> list[Tool[Any]]:
        return [
            Tool(
                "workspaces_exec",
                "Run a command in a workspace",
                "Run a command in a running workspace, past its own tools.",
                MANAGE,
                RunIn,
                self._exec,
                destructive=True,
            ),
            Tool(
                "workspaces_build_image",
                "Build the image of workspaces",
                "Build the image that workspaces are made of anew. It takes minutes.",
                OPERATE,
                BuildImage,
                self._build_image,
                idempotent=True,
            ),
        ]

    def _view(self, row: Workspace) -> WorkspaceView:
        return workspace_view(row, self._endpoint_of)

    async def _list(self, principal: Principal, wanted: ListWorkspaces) -> WorkspacePage:
        async with self._database.reading() as session:
            rows, total = await self._workspaces.page(session, principal, **wanted.model_dump())
            views = [self._view(row) for row in rows]
        return WorkspacePage(workspaces=views, total=total, limit=wanted.limit, offset=wanted.offset)

    async def _get(self, principal: Principal, wanted: OneWorkspace) -> WorkspaceView:
        async with self._database.reading() as session:
            return self._view(await self._workspaces.get(session, principal, wanted.workspace_id))

    async def _logs(self, principal: Principal, wanted: LogsOf) -> Logs:
        return Logs(lines=await self._console.logs(principal, wanted.workspace_id, wanted.tail))

    async def _stats(self, principal: Principal, wanted: OneWorkspace) -> StatsView:
        return await self._console.stats(principal, wanted.workspace_id)

    async def _events(self, principal: Principal, wanted: OneWorkspace) -> Events:
        async with self._database.reading() as session:
            found = await self._workspaces.events(session, principal, wanted.workspace_id)
        return Events(events=[event_view(event) for event in found])

    async def _usage(self, principal: Principal, wanted: OneWorkspace) -> UsageReport:
        async with self._database.reading() as session:
            return await self._workspaces.usage(session, principal, wanted.workspace_id)

    async def _exec(self, principal: Principal, wanted: RunIn) -> Executed:
        return await self._console.run(principal, wanted.workspace_id, wanted.command, wanted.timeout)

    async def _build_image(self, principal: Principal, _wanted: BuildImage) -> BuiltImage:
        return BuiltImage(image=await self._console.build_image(principal))

    async def _create(self, principal: Principal, wanted: CreateWorkspace) -> WorkspaceView:
        creation = Creation(wanted.name, wanted.metadata, wanted.image, wanted.network, tuple(wanted.allowed_hosts))
        async with self._database.transaction() as session:
            return self._view(await self._workspaces.create(session, principal, creation))

    async def _start(self, principal: Principal, wanted: OneWorkspace) -> WorkspaceView:
        async with self._database.transaction() as session:
            return self._view(await self._workspaces.start(session, principal, wanted.workspace_id))

    async def _stop(self, principal: Principal, wanted: OneWorkspace) -> WorkspaceView:
        async with self._database.transaction() as session:
            return self._view(await self._workspaces.stop(session, principal, wanted.workspace_id))

    async def _restart(self, principal: Principal, wanted: OneWorkspace) -> WorkspaceView:
        async with self._database.transaction() as session:
            return self._view(await self._workspaces.restart(session, principal, wanted.workspace_id))

    async def _delete(self, principal: Principal, wanted: OneWorkspace) -> WorkspaceView:
        async with self._database.transaction() as session:
            return self._view(await self._workspaces.remove(session, principal, wanted.workspace_id))
