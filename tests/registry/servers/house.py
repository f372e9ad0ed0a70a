"""Servers of one organisation, looked at by a prober that answers what the test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from registry.audit.service import AuditService
from registry.core.db import Database
from registry.core.security import Sealer
from registry.servers.connection import Connection, Offer, Offered
from registry.servers.discovery import Discovery
from registry.servers.models import Server
from registry.servers.service import Registration, ServerService
from tests.support.clock import SettableClock
from tests.support.identity import MASTER, Person, add_organization, add_user

UP = Offer(reachable=True, era="legacy", offered=(Offered("tool", "say", '{"name":"say"}'),))
DOWN = Offer(reachable=False, error="nobody is there")


@dataclass
class Prober:
    """Counts its looks. While `gate` is closed, none ends."""

    answer: Offer = DOWN
    looks: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def probe(self, connection: Connection, *, within: float) -> Offer:
        self.looks.append(connection.slug)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        return self.answer


@dataclass
class House:
    database: Database
    clock: SettableClock
    admin: Person
    servers: ServerService
    prober: Prober

    @property
    def discovery(self) -> Discovery:
        return Discovery(self.database, self.servers, self.prober)

    async def register(self, name: str, url: str = "http://127.0.0.1:1/mcp") -> Server:
        return await self.discovery.register(self.admin.principal, Registration(name, url))

    async def offered(self, server: Server) -> list[str]:
        async with self.database.reading() as session:
            return [row.name for row in await self.servers.capabilities(session, server)]


async def furnish(database: Database) -> House:
    clock = SettableClock()
    org_id = await add_organization(database, clock, "acme")
    admin = await add_user(database, clock, org_id, "ada@acme.test", role="admin", is_operator=True)
    prober = Prober()
    prober.gate.set()
    servers = ServerService(clock, Sealer(MASTER, "servers"), AuditService(clock))
    return House(database, clock, admin, servers, prober)
