"""Servers in the Registry API: register, list, get, update, delete, discover, test.

Source: `sprintconnect.md`, MCP Server Management and Capabilities Discovery; own fields as in DESIGN §3.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.shared.paging import PageLimit, PageOffset
from gateway.api.shared.rate_limits import Limit
from gateway.api.shared.route import Caller, Front, Session
from registry.servers.circuit import Circuits
from registry.servers.connection import Deadlines, Offer, Transport
from registry.servers.contained import Contained, Network
from registry.servers.discovery import Discovery
from registry.servers.service import Changes, Environment, PinningMode, Registration, ServerService, Status
from registry.servers.views import ServerDetail, ServerView, server_detail, server_view

SERVERS = Limit("mcp-servers", 100, 60, "user")
DISCOVERY = Limit("discovery", 50, 60, "user")


class DeadlinesBody(BaseModel):
    """Seconds."""

    model_config = ConfigDict(extra="forbid")

    connect: float = Field(5.0, gt=0, le=60)
    first_byte: float = Field(60.0, gt=0, le=3600)
    idle: float = Field(60.0, gt=0, le=3600)
    total: float = Field(300.0, gt=0, le=86400)


class ContainerBody(BaseModel):
    """Where a command runs instead of on the gateway's machine.

    Args:
        image: another than the gateway's own, from the operator's list.
    """

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(None, max_length=255)
    network: Network = "none"
    allowed_hosts: list[Annotated[str, Field(max_length=300)]] = Field(default_factory=list[str], max_length=100)


class RegisterBody(BaseModel):
    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    base_url: str | None = Field(None, max_length=2048)
    environment: Environment = "development"
    tags: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list[str], max_length=100)
    capabilities: dict[str, Any] = Field(default_factory=dict[str, Any])
    transport: Transport | None = None
    command: str | None = Field(None, max_length=4096)
    args: list[str] = Field(default_factory=list[str], max_length=200)
    env: dict[str, str] = Field(default_factory=dict[str, str], max_length=200)
    container: ContainerBody | None = None
    headers: dict[str, str] = Field(default_factory=dict[str, str], max_length=50)
    public: bool = False
    price_usd: float | None = Field(None, ge=0, le=1_000_000)
    deadlines: DeadlinesBody | None = None
    pinning: PinningMode = "hold"


class UpdateBody(BaseModel):
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    base_url: str | None = Field(None, max_length=2048)
    environment: Environment | None = None
    status: Status | None = None
    tags: list[Annotated[str, Field(max_length=100)]] | None = Field(None, max_length=100)
    command: str | None = Field(None, max_length=4096)
    args: list[str] | None = Field(None, max_length=200)
    env: dict[str, str] | None = Field(None, max_length=200)
    headers: dict[str, str] | None = Field(None, max_length=50)
    public: bool | None = None
    price_usd: float | None = Field(None, ge=0, le=1_000_000)
    deadlines: DeadlinesBody | None = None
    pinning: PinningMode | None = None


class ServersAnswer(BaseModel):
    servers: list[ServerView]
    total: int
    limit: int
    offset: int


class DeletedAnswer(BaseModel):
    message: str = "MCP server deleted successfully"
    deleted_at: datetime | None
    cleanup_job_id: str
    """Its state is at `/v1/jobs/{job_id}`."""


class DiscoveredAnswer(BaseModel):
    server_id: str
    discovered_at: datetime | None
    capabilities: dict[str, dict[str, Any]]
    resources: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    errors: list[str]
    warnings: list[str]


def router(
    front: Front, servers: ServerService, discovery: Discovery, *, operator_token: str, circuits: Circuits
) -> APIRouter:
    """The routes.

    Args:
        operator_token: the content of `DIR/operator.token`, proof of access to the machine.
    """
    api = front.router(tags=["Servers"], limit=SERVERS)

    @api.post("/v1/mcp/servers/register", status_code=201)
    @api.post("/v1/mcp/servers", status_code=201)
    async def register_server(
        body: RegisterBody,
        session: Session,
        caller: Caller,
        x_gatehouse_operator: Annotated[str | None, Header()] = None,
    ) -> ServerDetail:
        registration = _registration(body, proof=_is(x_gatehouse_operator, operator_token))
        connection, offer = await discovery.look(caller, registration)
        server = await servers.register(session, caller, registration, connection, offer)
        return server_detail(server, await servers.capabilities(session, server))

    @api.get("/v1/mcp/servers")
    async def list_servers(
        session: Session,
        caller: Caller,
        environment: Environment | None = None,
        status: Status | None = None,
        health_status: Literal["healthy", "unhealthy", "degraded", "unknown"] | None = None,
        limit: PageLimit = 50,
        offset: PageOffset = 0,
    ) -> ServersAnswer:
        wanted = {"environment": environment, "status": status, "health_status": health_status}
        found, total = await servers.list(session, caller, **wanted, limit=limit, offset=offset)
        return ServersAnswer(servers=[server_view(row) for row in found], total=total, limit=limit, offset=offset)

    @api.get("/v1/mcp/servers/{server_id}")
    async def get_server(server_id: str, session: Session, caller: Caller) -> ServerDetail:
        server = await servers.get(session, caller, server_id)
        return server_detail(server, await servers.capabilities(session, server), circuits.circuit(server.id))

    @api.put("/v1/mcp/servers/{server_id}")
    async def update_server(
        server_id: str,
        body: UpdateBody,
        session: Session,
        caller: Caller,
        x_gatehouse_operator: Annotated[str | None, Header()] = None,
    ) -> ServerDetail:
        changes = _changes(body, proof=_is(x_gatehouse_operator, operator_token))
        server = await servers.update(session, caller, server_id, changes)
        return server_detail(server, await servers.capabilities(session, server))

    @api.delete("/v1/mcp/servers/{server_id}")
    async def delete_server(server_id: str, session: Session, caller: Caller) -> DeletedAnswer:
        server, job_id = await servers.remove(session, caller, server_id)
        return DeletedAnswer(deleted_at=server.deleted_at, cleanup_job_id=job_id)

    return api


def discovery_router(front: Front, servers: ServerService, discovery: Discovery) -> APIRouter:
    """Routes that ask a server something; they have a limit of their own."""
    api = front.router(tags=["Capabilities"], limit=DISCOVERY)

    @api.post("/v1/mcp/servers/{server_id}/capabilities/discover")
    async def discover_capabilities(server_id: str, session: Session, caller: Caller) -> DiscoveredAnswer:
        server, offer = await discovery.discover(caller, server_id)
        return _discovered(server.id, server.discovered_at, offer)

    return api


def _registration(body: RegisterBody, *, proof: bool) -> Registration:
    fields = body.model_dump(exclude={"tags", "args", "deadlines", "container"})
    asked = body.container
    container = Contained(asked.image, asked.network, tuple(asked.allowed_hosts)) if asked else None
    deadlines = Deadlines(**body.deadlines.model_dump()) if body.deadlines else Deadlines()
    return Registration(
        **fields,
        tags=tuple(body.tags),
        args=tuple(body.args),
        container=container,
        deadlines=deadlines,
        proof=proof,
    )


def _changes(body: UpdateBody, *, proof: bool) -> Changes:
    fields = body.model_dump(exclude={"tags", "args", "deadlines"})
    return Changes(
        **fields,
        tags=None if body.tags is None else tuple(body.tags),
        args=None if body.args is None else tuple(body.args),
        deadlines=None if body.deadlines is None else Deadlines(**body.deadlines.model_dump()),
        proof=proof,
    )


def _discovered(server_id: str, discovered_at: datetime | None, offer: Offer) -> DiscoveredAnswer:
    found: dict[str, dict[str, Any]] = {"tools": {}, "resources": {}, "prompts": {}}
    places = {"tool": "tools", "resource": "resources", "template": "resources", "prompt": "prompts"}
    for item in offer.offered:
        found[places[item.kind]][item.name] = msgspec.json.decode(item.definition)
    return DiscoveredAnswer(
        server_id=server_id,
        discovered_at=discovered_at,
        capabilities=found,
        resources=list(found["resources"].values()),
        tools=list(found["tools"].values()),
        errors=[offer.error] if offer.error else [],
        warnings=list(offer.warnings),
    )


def _is(given: str | None, wanted: str) -> bool:
    return given is not None and hmac.compare_digest(given.strip().encode(), wanted.encode())
