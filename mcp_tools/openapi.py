"""The tool `servers_import_openapi`: a REST service becomes a server; see `registry.openapi`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_tools.tool import Arguments, Tool
from registry.core.db import Database
from registry.identity.principal import Principal
from registry.openapi.service import Import, OpenApiImport
from registry.servers.service import Environment, ServerService
from registry.servers.views import ServerDetail, server_detail


class ImportOpenApi(Arguments):
    name: str = Field(min_length=1, max_length=255)
    url: str | None = Field(None, description="Address of the OpenAPI description; or give document.")
    document: str | None = Field(None, description="The description itself, as JSON or YAML text.")
    base_url: str | None = Field(None, description="Where the service is; else the description's first server.")
    include: list[str] = Field(
        default_factory=list[str],
        description="Operations to take: patterns on operationId, tag:NAME, METHOD, or METHOD /path. None means all.",
    )
    exclude: list[str] = Field(default_factory=list[str], description="Operations to leave out, like include.")
    headers: dict[str, str] = Field(default_factory=dict[str, str], description="Sent with each call; kept secret.")
    environment: Environment = "development"


class ImportedServer(ServerDetail):
    warnings: list[str]


class OpenApiTools:
    def __init__(self, database: Database, servers: ServerService, imports: OpenApiImport) -> None:
        self._database = database
        self._servers = servers
        self._imports = imports

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "servers_import_openapi",
                "Import a REST service",
                "Register a REST service by its OpenAPI 3.0 or 3.1 description. Each of its operations becomes a tool.",
                "mcp:servers:create",
                ImportOpenApi,
                self._import,
            )
        ]

    async def _import(self, principal: Principal, wanted: ImportOpenApi) -> ImportedServer:
        fields = wanted.model_dump()
        fields |= {name: tuple(fields[name]) for name in ("include", "exclude")}
        ready = await self._imports.prepare(principal, Import(**fields))
        async with self._database.transaction() as session:
            server = await self._servers.register(session, principal, ready.registration, ready.connection, ready.offer)
            detail = server_detail(server, await self._servers.capabilities(session, server))
        return ImportedServer(**detail.model_dump(), warnings=list(ready.offer.warnings))
