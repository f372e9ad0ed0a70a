"""Discovery: looking at servers over the network and writing down what they offer.

The look itself is done by a `Prober` from above; no transaction is open while the network is waited for.
"""

from __future__ import annotations

from registry.core.db import Database
from registry.identity.principal import Principal
from registry.servers.connection import Connection, Offer, Prober
from registry.servers.models import Server
from registry.servers.service import Registration, ServerService

REGISTER_WITHIN = 4.5
"""Seconds for the first look, so that registering answers within 5."""
DISCOVER_WITHIN = 30.0


def discoverer(org_id: str) -> Principal:
    """The gateway itself, looking at an organisation's servers of its own accord."""
    permissions = frozenset({"mcp:capabilities:discover", "mcp:servers:read"})
    return Principal(org_id=org_id, user_id=None, role="system", permissions=permissions)


class Discovery:
    def __init__(self, database: Database, servers: ServerService, prober: Prober) -> None:
        self._database = database
        self._servers = servers
        self._prober = prober

    async def look(self, principal: Principal, registration: Registration) -> tuple[Connection, Offer]:
        """A first look at a server that is to be registered; an unreachable one gives an offer too.

        Raises:
            Forbidden, ServerInvalid: see `ServerService.admit`.
            EgressRefused: the address may not be contacted.
        """
        connection = self._servers.admit(principal, registration)
        return connection, await self._prober.probe(connection, within=REGISTER_WITHIN)

    async def register(self, principal: Principal, registration: Registration) -> Server:
        """Look at a new server, then store it. Raises as `look` and `ServerService.register` do."""
        connection, offer = await self.look(principal, registration)
        async with self._database.transaction() as session:
            return await self._servers.register(session, principal, registration, connection, offer)

    async def discover(self, principal: Principal, server_id: str) -> tuple[Server, Offer]:
        """Look at a registered server again and store what it offers now; gives what is served of that."""
        principal.require("mcp:capabilities:discover")
        while True:
            async with self._database.reading() as session:
                connection = await self._servers.connection(session, principal, server_id)
            offer = await self._prober.probe(connection, within=DISCOVER_WITHIN)
            async with self._database.transaction() as session:
                found = await self._servers.record_look(session, principal, connection, offer)
            if found is not None:
                return found
            # Somebody has changed how it is reached: what was seen is not the server that it is now.
