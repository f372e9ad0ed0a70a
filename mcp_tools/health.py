"""Tools for health: `health_get` for the gateway and all its servers, `health_server` for one of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.health.service import HealthService, SystemHealth
from registry.identity.principal import Principal
from registry.servers.circuit import Circuits
from registry.servers.service import ServerService
from registry.servers.views import ServerHealth, server_health

MOST_SERVERS = 1000


class GetHealth(Arguments):
    pass


class GetServerHealth(Arguments):
    server: str = Field(description="Id or slug of the server.")


class Health(BaseModel):
    gateway: SystemHealth
    servers: dict[str, str]
    """Health status by slug."""


class HealthTools:
    def __init__(self, database: Database, servers: ServerService, health: HealthService, circuits: Circuits) -> None:
        self._database = database
        self._servers = servers
        self._health = health
        self._circuits = circuits

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "health_get",
                "Health of the gateway",
                "Tell whether the gateway and the MCP servers registered with it are healthy.",
                "mcp:health:read",
                GetHealth,
                self._get,
                read_only=True,
            ),
            Tool(
                "health_server",
                "Health of a server",
                "Tell the health of one registered MCP server: its checks, its response time, its last error.",
                "mcp:health:read",
                GetServerHealth,
                self._get_server,
                read_only=True,
            ),
        ]

    async def _get(self, principal: Principal, _wanted: GetHealth) -> Health:
        system = await self._health.check()
        async with self._database.reading() as session:
            rows, _ = await self._servers.list(session, principal, limit=MOST_SERVERS)
            return Health(gateway=system, servers={row.slug: row.health_status for row in rows})

    async def _get_server(self, principal: Principal, wanted: GetServerHealth) -> ServerHealth:
        async with self._database.reading() as session:
            server = await self._servers.get_by_id_or_slug(session, principal, wanted.server)
            return server_health(server, self._circuits.circuit(server.id))
