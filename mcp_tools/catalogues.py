"""Tool for importing servers: `servers_import`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_tools.tool import Arguments, Tool
from registry.catalogues.importing import ImportReport, ServerImport
from registry.identity.principal import Principal


class ImportServers(Arguments):
    document: dict[str, Any] = Field(
        description="Content of a server.json, a list of an MCP registry, or a client's configuration (mcpServers)."
    )
    dry_run: bool = Field(True, description="Only tell what would be registered.")


class ImportTools:
    def __init__(self, imports: ServerImport) -> None:
        self._imports = imports

    def tools(self) -> list[Tool[Any]]:
        return [
            Tool(
                "servers_import",
                "Import servers",
                "Register the MCP servers that a client's configuration or an MCP registry names, or tell what would "
                "be registered.",
                "mcp:servers:create",
                ImportServers,
                self._import,
            )
        ]

    async def _import(self, principal: Principal, wanted: ImportServers) -> ImportReport:
        return await self._imports.run(principal, wanted.document, dry_run=wanted.dry_run)
