"""Health in the Registry API: of the gateway, and of a server. Source: `sprintconnect.md`, Health Monitoring."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session, public
from registry.health.service import HealthService, SystemHealth
from registry.servers.circuit import Circuits
from registry.servers.service import ServerService
from registry.servers.views import ServerHealth, server_health

HEALTH = Limit("health", 1000, 60, "user")


def system_router(front: Front, health: HealthService) -> APIRouter:
    """Health of the gateway, for people and for probes; open, and without a transaction of its own."""
    api = front.router(tags=["Health"])

    @api.get("/health")
    @public
    async def get_health() -> SystemHealth:
        return await health.check()

    return api


def router(front: Front, servers: ServerService, circuits: Circuits) -> APIRouter:
    api = front.router(tags=["Health"], limit=HEALTH)

    @api.get("/v1/mcp/servers/{server_id}/health")
    async def get_server_health(server_id: str, session: Session, caller: Caller) -> ServerHealth:
        caller.require("mcp:health:read")
        server = await servers.get(session, caller, server_id)
        return server_health(server, circuits.circuit(server.id))

    return api
