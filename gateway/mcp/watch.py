"""Watching servers: hearing from each that its lists, or resources that somebody watches, have changed.

One line per server is kept open where the server announces changes at all, and opened again after a pause when it
breaks. A changed list is read anew by the registry's discovery (`rediscover`); a changed resource goes to the clients
that watch it. What each transport does to listen is its `Upstream.listen`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway.mcp.envelope import Message, ProtocolError
from gateway.mcp.subscription import RESOURCE_UPDATED
from registry.core.errors import NotFound

if TYPE_CHECKING:
    from gateway.mcp.catalog import Catalog, ServerEntry
    from gateway.mcp.notices import Notices
    from gateway.mcp.upstream.manager import Upstreams
    from registry.core.clock import Clock
    from registry.servers.connection import Connection

log = structlog.get_logger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
OPEN_SECONDS = 2.0
"""How long a client that begins to watch something waits for its server; a server that is down is watched later."""
GATHER_SECONDS = 0.2
"""Servers often announce several changes at once: they are dealt with together."""

Rediscover = Callable[["Connection"], Awaitable[None]]


class _Updated(msgspec.Struct):
    uri: str = ""


class Watches:
    """The lines of all servers.

    Args:
        rediscover: reads a server's lists anew and stores what changed.
    """

    def __init__(
        self, catalog: Catalog, upstreams: Upstreams, notices: Notices, clock: Clock, rediscover: Rediscover
    ) -> None:
        self._catalog = catalog
        self._upstreams = upstreams
        self._notices = notices
        self._clock = clock
        self._rediscover = rediscover
        self._watching: dict[str, tuple[Connection, asyncio.Task[None]]] = {}
        self._open: dict[str, asyncio.Event] = {}
        notices.on_wanted(self._wanted_changed)

    def follow(self) -> None:
        """Watch the servers that are in the catalog now, and no others."""
        servers = {server.id: server for server in self._catalog.servers() if _announces(server)}
        for server_id, (connection, task) in list(self._watching.items()):
            server = servers.get(server_id)
            if server is None or server.connection != connection:
                task.cancel()
                del self._watching[server_id], self._open[server_id]
        for server_id, server in servers.items():
            if server_id not in self._watching:
                self._start(server.connection)

    async def stop(self) -> None:
        tasks = [task for _, task in self._watching.values()]
        self._watching.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, connection: Connection) -> None:
        self._open[connection.server_id] = asyncio.Event()
        self._watching[connection.server_id] = (connection, asyncio.create_task(self._watch(connection)))

    async def _wanted_changed(self, servers: set[str]) -> None:
        """Listen anew, with the resources that are watched now; returns when the servers know."""
        watched = servers & self._watching.keys()
        for server_id in watched:
            connection, task = self._watching[server_id]
            task.cancel()
            self._start(connection)
        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                for event in [self._open[server_id] for server_id in watched]:
                    await event.wait()

    async def _watch(self, connection: Connection) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                wanted = self._notices.wanted_of(connection.server_id)
                lines = (await self._upstreams.listening(connection)).listen(frozenset(wanted))
                if lines is None:
                    return
                # Whatever ends this, the server's line does not stay open until it is collected.
                async with aclosing(lines):
                    async for message in lines:
                        pause = FIRST_PAUSE
                        await self._heard(connection, message)
            except (ProtocolError, OSError, NotFound) as error:
                log.debug("a server's announcements cannot be heard", server=connection.slug, why=str(error))
            except Exception:
                log.exception("listening to a server failed", server=connection.slug)
            await self._clock.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _heard(self, connection: Connection, message: Message) -> None:
        if not message.method:
            self._open[connection.server_id].set()
            # What changed before the line was open, nobody has told.
            await self._rediscover(connection)
        elif message.method == RESOURCE_UPDATED:
            try:
                updated = msgspec.json.decode(message.params, type=_Updated)
            except msgspec.DecodeError:
                return
            self._notices.resource_updated(connection.server_id, updated.uri)
        elif message.method.endswith("/list_changed"):
            await self._clock.sleep(GATHER_SECONDS)
            await self._rediscover(connection)


def _announces(server: ServerEntry) -> bool:
    return any(
        isinstance(capability, dict) and ("listChanged" in capability or "subscribe" in capability)
        for capability in server.capabilities.values()
    )
