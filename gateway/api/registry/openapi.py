"""Importing a REST service by its OpenAPI description: one more way to register a server. An own route, under `/v1`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.registry.servers import SERVERS
from gateway.api.shared.route import Caller, Front, Session
from registry.openapi.service import Import, OpenApiImport
from registry.servers.service import Environment, ServerService
from registry.servers.views import ServerDetail, server_detail

Pattern = Annotated[str, Field(min_length=1, max_length=500)]


class ImportBody(BaseModel):
    """Give `url` or `document`; patterns are those of `registry.openapi.tools.Choice`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    url: str | None = Field(None, max_length=2048)
    document: str | dict[str, Any] | None = None
    base_url: str | None = Field(None, max_length=2048)
    include: list[Pattern] = Field(default_factory=list[str], max_length=1000)
    exclude: list[Pattern] = Field(default_factory=list[str], max_length=1000)
    headers: dict[str, str] = Field(default_factory=dict[str, str], max_length=50)
    description: str | None = Field(None, max_length=10_000)
    environment: Environment = "development"
    tags: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list[str], max_length=100)


class ImportedAnswer(ServerDetail):
    warnings: list[str]


def router(front: Front, servers: ServerService, imports: OpenApiImport) -> APIRouter:
    api = front.router(tags=["Servers"], limit=SERVERS)

    @api.post("/v1/mcp/servers/openapi", status_code=201)
    async def import_openapi(body: ImportBody, session: Session, caller: Caller) -> ImportedAnswer:
        wanted = body.model_dump()
        wanted |= {name: tuple(wanted[name]) for name in ("include", "exclude", "tags")}
        ready = await imports.prepare(caller, Import(**wanted))
        server = await servers.register(session, caller, ready.registration, ready.connection, ready.offer)
        detail = server_detail(server, await servers.capabilities(session, server))
        return ImportedAnswer(**detail.model_dump(), warnings=list(ready.offer.warnings))

    return api
