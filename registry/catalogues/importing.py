"""Importing: registers the servers that a file names, each by itself, and tells what became of each."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import select

from registry.catalogues.reading import Draft, read
from registry.core.db import Database
from registry.core.errors import GatehouseError
from registry.identity.principal import Principal
from registry.servers.discovery import Discovery
from registry.servers.models import Server
from registry.servers.service import Registration

AT_ONCE = 8


class Imported(BaseModel):
    """What became of one entry.

    Args:
        outcome: `would_register` in a dry run only; `skipped`: it is there already, or cannot be registered as it is.
        where: the address, or the program that it starts; never its arguments, which may be secrets.
    """

    name: str
    outcome: Literal["registered", "would_register", "skipped", "failed"]
    reason: str | None = None
    where: str | None = None
    slug: str | None = None
    health_status: str | None = None


class ImportReport(BaseModel):
    dry_run: bool
    servers: list[Imported]


class ServerImport:
    def __init__(self, database: Database, discovery: Discovery) -> None:
        self._database = database
        self._discovery = discovery

    async def run(
        self, principal: Principal, document: dict[str, Any], *, dry_run: bool, proof: bool = False
    ) -> ImportReport:
        """Register what `document` names and is not there yet, by name.

        Args:
            dry_run: only tell what would be done.
            proof: see `registry.servers.service.Registration`.

        Raises:
            FileNotUnderstood
        """
        principal.require("mcp:servers:create")
        drafts = read(document)
        async with self._database.reading() as session:
            live = select(Server.name).where(Server.org_id == principal.org_id, Server.deleted_at.is_(None))
            known = set((await session.scalars(live)).all())
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(draft: Draft, *, known_already: bool) -> Imported:
            where = draft.url or draft.command
            if draft.problem is not None:
                return Imported(name=draft.name, outcome="skipped", reason=draft.problem)
            if known_already:
                reason = "A server of this name is registered already."
                return Imported(name=draft.name, outcome="skipped", reason=reason, where=where)
            if dry_run:
                return Imported(name=draft.name, outcome="would_register", where=where)
            async with slots:
                return await self._register(principal, draft, where, proof=proof)

        tasks: list[Any] = []
        for draft in drafts:
            tasks.append(one(draft, known_already=draft.name in known))
            known.add(draft.name)
        return ImportReport(dry_run=dry_run, servers=await asyncio.gather(*tasks))

    async def _register(self, principal: Principal, draft: Draft, where: str | None, *, proof: bool) -> Imported:
        registration = Registration(
            draft.name,
            draft.url,
            draft.description,
            transport=draft.transport,
            command=draft.command,
            args=draft.args,
            env=draft.env,
            headers=draft.headers,
            proof=proof,
        )
        try:
            server = await self._discovery.register(principal, registration)
        except GatehouseError as error:
            return Imported(name=draft.name, outcome="failed", reason=error.message, where=where)
        return Imported(
            name=draft.name, outcome="registered", where=where, slug=server.slug, health_status=server.health_status
        )
