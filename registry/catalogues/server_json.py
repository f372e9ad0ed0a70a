"""The official MCP registry's format: `server.json`, and the lists of its API (`/v0.1/servers`).

Source: the registry's OpenAPI description and schema of 2025-12. Here are the forms; what is listed is `publishing`,
what is read is `importing`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from registry.servers.models import Server

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
OFFICIAL = "io.modelcontextprotocol.registry/official"
MAX_DESCRIPTION = 100
UNKNOWN_VERSION = "0.0.0"


def namespace_of(url: str) -> str:
    """The gateway's own namespace: its host in reverse, or a local one where that is an address."""
    host = urlsplit(url).hostname or ""
    labels = host.split(".")
    if host == "localhost" or ":" in host or labels[-1].isdigit():
        return "local.gatehouse"
    return ".".join(reversed(labels))


def version_of(server: Server) -> str:
    """The version that the server told of itself."""
    told = server.server_metadata.get("version")
    return told if isinstance(told, str) and told else UNKNOWN_VERSION


def entry_of(server: Server, url: str) -> dict[str, Any]:
    """A registered server as the registry's API tells it: reached through this gateway.

    Args:
        url: of the gateway.
    """
    described = " ".join((server.description or f"{server.name}, through Gatehouse").split())
    return {
        "server": {
            "$schema": SCHEMA,
            "name": f"{namespace_of(url)}/{server.slug}",
            "title": server.name[:MAX_DESCRIPTION],
            "description": described[:MAX_DESCRIPTION],
            "version": version_of(server),
            "remotes": [
                {
                    "type": "streamable-http",
                    "url": f"{url}/servers/{server.slug}/mcp",
                    "headers": [
                        {
                            "name": "Authorization",
                            "description": "Bearer and an API key of this gateway",
                            "isRequired": not server.public,
                            "isSecret": True,
                        }
                    ],
                }
            ],
        },
        "_meta": {
            OFFICIAL: {
                "status": "active",
                "publishedAt": server.created_at.isoformat(),
                "updatedAt": server.updated_at.isoformat(),
                "isLatest": True,
            }
        },
    }
