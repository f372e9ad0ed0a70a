"""The gateway's own tools as a server of every organisation's catalog; they are called through `upstream.local`."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.mcp.catalog import ServerEntry
from gateway.mcp.definitions import read_definition
from gateway.mcp.upstream.local import SLUG
from registry.servers.connection import Connection


def own_server(org_id: str, definitions: Iterable[tuple[str, str, str]]) -> ServerEntry:
    """The entry of the server `gatehouse`.

    Args:
        definitions: name, definition as JSON, and permission of each tool.
    """
    read = (read_definition("tool", name, text, permission=permission) for name, text, permission in definitions)
    return ServerEntry(
        connection=Connection(server_id=SLUG, org_id=org_id, slug=SLUG, transport="streamable-http"),
        title="Gatehouse",
        public=False,
        price_usd=0.0,
        capabilities={"tools": {}},
        instructions=None,
        ttl_ms=None,
        definitions=tuple(definition for definition in read if definition is not None),
    )
