"""A server as callers see it: the fields of the Registry API's server model and our own. Never a secret.

Source: `sprintconnect.md`, Data Models. REST and MCP tools show the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from registry.servers.circuit import Circuit
from registry.servers.health_config import HealthConfig
from registry.servers.models import Capability, Server


class ServerView(BaseModel):
    id: str
    slug: str
    name: str
    description: str | None
    base_url: str | None
    endpoint_url: str | None
    transport: str
    command: str | None
    args: list[str]
    container: dict[str, Any] | None = None
    """Of a command that runs in one: its image, network and allowed hosts."""
    environment: str
    status: str
    health_status: str
    public: bool
    price_usd: float | None
    pinning: str
    deadlines: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    org_id: str
    owner_user_id: str | None
    tags: list[str]


class ServerDetail(ServerView):
    capabilities: dict[str, Any]
    server_metadata: dict[str, Any]
    circuit: Circuit | None = None
    """`None`: it has not been called since the gateway started."""


class ServerHealth(BaseModel):
    """Source: `sprintconnect.md`, Server Health Status."""

    server_id: str
    health_status: str
    last_check_at: str | None
    uptime_percentage: float | None
    response_time_ms: float | None
    error_message: str | None
    checks: dict[str, str]
    circuit: Circuit | None = None


def server_view(server: Server) -> ServerView:
    return ServerView.model_validate(server, from_attributes=True)


def server_detail(server: Server, capabilities: Iterable[Capability], circuit: Circuit | None = None) -> ServerDetail:
    names: dict[str, list[str]] = {"tools": [], "resources": [], "prompts": []}
    places = {"tool": "tools", "resource": "resources", "template": "resources", "prompt": "prompts"}
    for capability in capabilities:
        names[places[capability.kind]].append(capability.name)
    if server.discovered_at is None:
        # Nothing has been found yet: what was declared is all there is to show.
        names |= {name: value for name, value in server.declared_capabilities.items() if isinstance(value, list)}
    told = server.server_metadata
    metadata = {"version": None, "protocol_version": None, **told, "health_config": _watched(server)}
    return ServerDetail(
        **server_view(server).model_dump(), capabilities=names, server_metadata=metadata, circuit=circuit
    )


def health_config_of(server: Server) -> HealthConfig:
    return HealthConfig.model_validate(server.health_config or {})


def _watched(server: Server) -> dict[str, Any]:
    fields = {"enabled", "check_interval_seconds", "timeout_seconds", "retry_count"}
    return health_config_of(server).model_dump(include=fields)


def server_health(server: Server, circuit: Circuit | None = None) -> ServerHealth:
    unknown = {"connectivity": "unknown", "handshake": "unknown", "capabilities": "unknown"}
    return ServerHealth(
        server_id=server.id,
        health_status=server.health_status,
        last_check_at=server.health.get("last_check_at"),
        uptime_percentage=None,
        response_time_ms=server.health.get("response_time_ms"),
        error_message=server.health.get("error_message"),
        checks=server.health.get("checks") or unknown,
        circuit=circuit,
    )
