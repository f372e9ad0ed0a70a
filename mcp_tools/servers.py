"""Tools for registered servers: `servers_list`, `servers_get`, `servers_register`, …; see `registry.servers`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.servers.circuit import Circuits
from registry.servers.connection import Transport
from registry.servers.discovery import Discovery
from registry.servers.service import Changes, Environment, PinningMode, Registration, ServerService, Status
from registry.servers.views import ServerDetail, ServerView, server_detail, server_view


class ListServers(Arguments):
    environment: Environment | None = Field(None, description="Only servers of this environment.")
    status: Status | None = Field(None, description="Only servers with this status.")
    health_status: Literal["healthy", "unhealthy", "degraded", "unknown"] | None = None
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0)


class ServerPage(BaseModel):
    servers: list[ServerView]
    total: int
    limit: int
    offset: int


class OneServer(Arguments):
    server: str = Field(description="Id or slug of the server.")


class RegisterServer(Arguments):
    name: str = Field(min_length=1, max_length=255)
    base_url: str = Field(description="Address of the server's MCP endpoint.")
    description: str | None = None
    environment: Environment = "development"
    tags: list[str] = Field(default_factory=list[str])
    transport: Transport | None = Field(None, description="Guessed from the address when left out.")
    headers: dict[str, str] = Field(default_factory=dict[str, str], description="Sent with each request; kept secret.")
    public: bool = Field(False, description="Answer anybody, without a credential; needs gateway:operate.")


class UpdateServer(OneServer):
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = None
    environment: Environment | None = None
    status: Status | None = None
    tags: list[str] | None = None
    base_url: str | None = None
    public: bool | None = Field(None, description="Whether anybody is answered; true needs gateway:operate.")
    pinning: PinningMode | None = Field(
        None, description="What waits for a person: changed definitions (hold), new ones too (strict), nothing (off)."
    )


class RemovedServer(BaseModel):
    id: str
    slug: str
    removed: bool = True
    cleanup_job_id: str


class DiscoveredServer(BaseModel):
    server: ServerDetail
    error: str | None
    warnings: list[str]


class ServerTools:
    """The tools' bodies: each is one transaction around one call of the service."""

    def __init__(self, database: Database, servers: ServerService, discovery: Discovery, circuits: Circuits) -> None:
        self._database = database
        self._servers = servers
        self._discovery = discovery
        self._circuits = circuits

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "servers_list",
                "List servers",
                "List the MCP servers registered with this gateway, with their health.",
                "mcp:servers:read",
                ListServers,
                self._list,
                read_only=True,
            ),
            Tool(
                "servers_get",
                "Show a server",
                "Show one registered MCP server: how it is reached, its health, and what it offers.",
                "mcp:servers:read",
                OneServer,
                self._get,
                read_only=True,
            ),
            Tool(
                "servers_register",
                "Register a server",
                "Register an MCP server by its address. Its tools appear in the gateway's own list.",
                "mcp:servers:create",
                RegisterServer,
                self._register,
            ),
            Tool(
                "servers_update",
                "Change a server",
                "Change a registered MCP server. What is left out stays as it is.",
                "mcp:servers:update",
                UpdateServer,
                self._update,
                idempotent=True,
            ),
            Tool(
                "servers_remove",
                "Remove a server",
                "Remove a registered MCP server. Its tools leave the gateway's list at once.",
                "mcp:servers:delete",
                OneServer,
                self._remove,
                destructive=True,
            ),
            Tool(
                "servers_discover",
                "Ask a server anew",
                "Ask a registered MCP server what it offers now, and store that.",
                "mcp:capabilities:discover",
                OneServer,
                self._discover,
                idempotent=True,
            ),
        ]

    async def _list(self, principal: Principal, wanted: ListServers) -> ServerPage:
        async with self._database.reading() as session:
            rows, total = await self._servers.list(session, principal, **wanted.model_dump())
            views = [server_view(row) for row in rows]
        return ServerPage(servers=views, total=total, limit=wanted.limit, offset=wanted.offset)

    async def _get(self, principal: Principal, wanted: OneServer) -> ServerDetail:
        async with self._database.reading() as session:
            server = await self._servers.get_by_id_or_slug(session, principal, wanted.server)
            capabilities = await self._servers.capabilities(session, server)
            return server_detail(server, capabilities, self._circuits.circuit(server.id))

    async def _register(self, principal: Principal, wanted: RegisterServer) -> ServerDetail:
        fields: dict[str, Any] = wanted.model_dump() | {"tags": tuple(wanted.tags)}
        server = await self._discovery.register(principal, Registration(**fields))
        return await self._get(principal, OneServer(server=server.id))

    async def _update(self, principal: Principal, wanted: UpdateServer) -> ServerDetail:
        fields: dict[str, Any] = wanted.model_dump(exclude={"server"}) | {
            "tags": None if wanted.tags is None else tuple(wanted.tags)
        }
        async with self._database.transaction() as session:
            server = await self._servers.get_by_id_or_slug(session, principal, wanted.server)
            await self._servers.update(session, principal, server.id, Changes(**fields))
            return server_detail(server, await self._servers.capabilities(session, server))

    async def _remove(self, principal: Principal, wanted: OneServer) -> RemovedServer:
        async with self._database.transaction() as session:
            server = await self._servers.get_by_id_or_slug(session, principal, wanted.server)
            _, job_id = await self._servers.remove(session, principal, server.id)
            return RemovedServer(id=server.id, slug=server.slug, cleanup_job_id=job_id)

    async def _discover(self, principal: Principal, wanted: OneServer) -> DiscoveredServer:
        async with self._database.reading() as session:
            server = await self._servers.get_by_id_or_slug(session, principal, wanted.server)
        server, offer = await self._discovery.discover(principal, server.id)
        detail = await self._get(principal, OneServer(server=server.id))
        return DiscoveredServer(server=detail, error=offer.error, warnings=list(offer.warnings))
