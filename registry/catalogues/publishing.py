"""Publishing: an organisation's active servers, listed as the official MCP registry lists its own."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from registry.catalogues.server_json import entry_of, version_of
from registry.core.db import Session
from registry.core.errors import Invalid, NotFound
from registry.identity.principal import Principal
from registry.servers.models import Server
from registry.servers.queries import live_servers

LATEST = "latest"


class CursorInvalid(Invalid):
    def __init__(self) -> None:
        super().__init__("This cursor is none of ours: give the one of the page before, or none.", field="cursor")


class ServerNotPublished(NotFound):
    def __init__(self) -> None:
        super().__init__("Server not found")


class Publisher:
    """Args: url: of the gateway, through which the servers are reached."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def list(
        self,
        session: Session,
        principal: Principal,
        *,
        cursor: str | None = None,
        limit: int = 30,
        search: str | None = None,
        updated_since: datetime | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """One page, by slug.

        Args:
            search: a part of the published name, in any case.
            version: `latest`, which every entry is, or the exact one.
        """
        after = _read_cursor(cursor) if cursor else ""
        found: list[dict[str, Any]] = []
        more: str | None = None
        for server in await self._servers(session, principal):
            entry = entry_of(server, self._url)
            if (
                server.slug <= after
                or (search and search.lower() not in str(entry["server"]["name"]).lower())
                or (updated_since is not None and server.updated_at < updated_since)
                or (version not in (None, LATEST, version_of(server)))
            ):
                continue
            if len(found) == limit:
                more = found[-1]["server"]["name"].rpartition("/")[2]
                break
            found.append(entry)
        metadata: dict[str, Any] = {"count": len(found)}
        if more is not None:
            metadata["nextCursor"] = base64.urlsafe_b64encode(more.encode()).decode()
        return {"servers": found, "metadata": metadata}

    async def versions(self, session: Session, principal: Principal, name: str) -> dict[str, Any]:
        """All versions of a server that are known here, which is one. Raises `ServerNotPublished`."""
        return {"servers": [await self.version(session, principal, name, LATEST)], "metadata": {"count": 1}}

    async def version(self, session: Session, principal: Principal, name: str, version: str) -> dict[str, Any]:
        """Args: version: `latest`, or the exact one."""
        for server in await self._servers(session, principal):
            entry = entry_of(server, self._url)
            if entry["server"]["name"] == name and version in (LATEST, version_of(server)):
                return entry
        raise ServerNotPublished

    async def _servers(self, session: Session, principal: Principal) -> list[Server]:
        principal.require("mcp:servers:read")
        rows = await session.scalars(live_servers(principal).where(Server.status == "active").order_by(Server.slug))
        return list(rows)


def _read_cursor(cursor: str) -> str:
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise CursorInvalid from None
