"""Servers in the formats of others: `/v0.1/servers` as an MCP registry publishes them, and importing files.

Source: the official MCP registry's OpenAPI description. Unlike there, a credential is needed: an organisation's
servers are its own. Importing is ours.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import AwareDatetime, BaseModel

from gateway.api.registry.servers import DISCOVERY, SERVERS
from gateway.api.shared.paging import ShortPageLimit
from gateway.api.shared.route import Caller, Front, Session
from registry.catalogues.importing import ImportReport, ServerImport
from registry.catalogues.publishing import Publisher


class ImportBody(BaseModel):
    """Args: document: the content of the file."""

    document: dict[str, Any]
    dry_run: bool = False


def router(front: Front, publisher: Publisher) -> APIRouter:
    api = front.router(tags=["Catalogue"], limit=SERVERS)

    @api.get("/v0.1/servers")
    async def list_published_servers(
        session: Session,
        caller: Caller,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        limit: ShortPageLimit = 30,
        search: Annotated[str | None, Query(max_length=200)] = None,
        updated_since: AwareDatetime | None = None,
        version: Annotated[str | None, Query(max_length=255)] = None,
    ) -> dict[str, Any]:
        return await publisher.list(
            session, caller, cursor=cursor, limit=limit, search=search, updated_since=updated_since, version=version
        )

    # A name has a slash, which clients may or may not encode.
    @api.get("/v0.1/servers/{name:path}/versions/{version}")
    async def get_published_version(name: str, version: str, session: Session, caller: Caller) -> dict[str, Any]:
        return await publisher.version(session, caller, name, version)

    @api.get("/v0.1/servers/{name:path}/versions")
    async def list_published_versions(name: str, session: Session, caller: Caller) -> dict[str, Any]:
        return await publisher.versions(session, caller, name)

    @api.get("/v0.1/servers/{name:path}")
    async def get_published_server(name: str, session: Session, caller: Caller) -> dict[str, Any]:
        return await publisher.version(session, caller, name, "latest")

    return api


def import_router(front: Front, imports: ServerImport, *, operator_token: str) -> APIRouter:
    """The route.

    Args:
        operator_token: see `gateway.api.registry.servers`.
    """
    api = front.router(tags=["Servers"], limit=DISCOVERY)

    @api.post("/v1/mcp/servers/import")
    async def import_servers(
        body: ImportBody, caller: Caller, x_gatehouse_operator: Annotated[str | None, Header()] = None
    ) -> ImportReport:
        given = (x_gatehouse_operator or "").strip().encode()
        proof = hmac.compare_digest(given, operator_token.encode())
        return await imports.run(caller, body.document, dry_run=body.dry_run, proof=proof)

    return api
