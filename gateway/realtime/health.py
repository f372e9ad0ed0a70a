"""`WebSocket /ws/health/{server_id}`: the health of a server as it changes. Source: `sprintconnect.md`.

The current state comes first, then one message for each check. Checks made by other processes are seen within a
second: all followed servers are read at once, as long as somebody follows. What a slow client misses it is not told
later; it gets the newest state. Credentials are looked at again as often, so that a revoked one ends its socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog

from gateway.auth.credentials import CrossSite, by_cookie, find_credential, require_same_origin
from registry.core.db import as_uuid
from registry.core.errors import Unauthenticated
from registry.health.book import HealthChecked
from registry.health.feed import Standing, standings
from registry.health.monitoring import READ

if TYPE_CHECKING:
    from gateway.api.shared.hosts import HostPolicy
    from gateway.auth.authenticator import Authenticator
    from registry.core.clock import Clock
    from registry.core.db import Database
    from registry.core.events import EventBus

log = structlog.get_logger(__name__)

PREFIX = "/ws/health/"
POLL_SECONDS = 1.0
UNAUTHENTICATED, NOT_FOUND, GOING_AWAY = 4401, 4404, 1001
MOST_SOCKETS = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def followed_server(path: str) -> str | None:
    """The server that a socket's path names; `None` for another path."""
    server_id = path.removeprefix(PREFIX)
    return server_id if server_id != path and server_id and "/" not in server_id else None


@dataclass(eq=False, slots=True)
class _Follower:
    """One socket.

    Args:
        news: set when there is something to send, or the socket is to be closed.
        close: code and reason.
    """

    server_id: str
    credential: bytes
    sent: Standing | None = None
    latest: Standing | None = None
    close: tuple[int, str] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, standing: Standing) -> None:
        if standing != self.latest:
            self.latest = standing
            self.news.set()

    def end(self, code: int, reason: str) -> None:
        self.close = code, reason
        self.news.set()


class HealthSockets:
    """Serves the sockets of one process."""

    def __init__(
        self, database: Database, authenticator: Authenticator, hosts: HostPolicy, clock: Clock, events: EventBus
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._hosts = hosts
        self._clock = clock
        self._followers: set[_Follower] = set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        events.subscribe(HealthChecked, self._checked)

    async def serve(self, server_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """One socket, until either side ends it."""
        await receive()
        if not self._admits(scope) or len(self._followers) >= MOST_SOCKETS:
            # Before it is accepted, this is HTTP 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept"})
        refusal, follower = await self._admitted(server_id, scope)
        if follower is None:
            code, reason = refusal
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return
        self._followers.add(follower)
        self._follow()
        try:
            await _run(follower, receive, send)
        finally:
            self._followers.discard(follower)

    def end_all(self) -> None:
        """The gateway stops: tell all clients to come back."""
        for follower in self._followers:
            follower.end(GOING_AWAY, "The gateway stops.")

    async def stop(self) -> None:
        self.end_all()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def poll(self) -> None:
        """Read where the followed servers stand, and whether their followers may still know."""
        followers = tuple(self._followers)
        found = await self._read({follower.server_id for follower in followers})
        for follower in followers:
            refusal = await self._refusal(follower.credential, found.get(follower.server_id))
            if refusal is not None:
                follower.end(*refusal)
            else:
                follower.tell(found[follower.server_id])

    def _admits(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        return (
            len(hosts) == 1
            and self._hosts.admits_host(hosts[0])
            and all(self._hosts.admits_origin(origin, hosts[0]) for origin in origins)
        )

    async def _admitted(self, server_id: str, scope: Scope) -> tuple[tuple[int, str], _Follower | None]:
        known = as_uuid(server_id)
        try:
            credential = _credential(scope)
        except (Unauthenticated, CrossSite) as error:
            return (UNAUTHENTICATED, error.message), None
        standing = (await self._read({known})).get(known) if known is not None else None
        refusal = await self._refusal(credential, standing)
        if refusal is not None or known is None or standing is None:
            return refusal or (NOT_FOUND, "MCP server not found"), None
        follower = _Follower(known, credential)
        follower.tell(standing)
        return (0, ""), follower

    async def _refusal(self, credential: bytes, standing: Standing | None) -> tuple[int, str] | None:
        try:
            principal = await self._authenticator.verify(credential)
        except Unauthenticated as error:
            return UNAUTHENTICATED, error.message
        if not principal.may(READ):
            return UNAUTHENTICATED, f"This needs the permission {READ}."
        if standing is None or standing.org_id != principal.org_id:
            return NOT_FOUND, "MCP server not found"
        return None

    async def _read(self, server_ids: set[str]) -> dict[str, Standing]:
        async with self._database.reading() as session:
            return await standings(session, server_ids)

    def _checked(self, checked: HealthChecked) -> None:
        if any(follower.server_id == checked.server_id for follower in self._followers):
            self._hurry.set()

    def _follow(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow_all())

    async def _follow_all(self) -> None:
        while self._followers:
            pause = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
            hurry = asyncio.ensure_future(self._hurry.wait())
            try:
                await asyncio.wait({pause, hurry}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
                hurry.cancel()
            self._hurry.clear()
            try:
                await self.poll()
            except Exception:
                log.warning("the health of servers cannot be read, trying later", exc_info=True)


async def _run(follower: _Follower, receive: Receive, send: Send) -> None:
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        while True:
            news = asyncio.ensure_future(follower.news.wait())
            await asyncio.wait({gone, news}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if gone.done():
                return
            follower.news.clear()
            if follower.close is not None:
                code, reason = follower.close
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return
            if follower.latest is not None and follower.latest != follower.sent:
                follower.sent = follower.latest
                await send({"type": "websocket.send", "text": _message(follower.server_id, follower.latest)})
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _until_gone(receive: Receive) -> None:
    # What a client says here is not listened to.
    while (await receive())["type"] != "websocket.disconnect":
        pass


def _message(server_id: str, standing: Standing) -> str:
    return json.dumps(
        {
            "type": "health_update",
            "server_id": server_id,
            "health_status": standing.status,
            "timestamp": standing.at,
            "response_time_ms": standing.response_time_ms,
        }
    )


def _credential(scope: Scope) -> bytes:
    """Of the headers, or of `?token=`, which is all that a browser's script can send."""
    given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
    if given:
        return given[0].encode("latin-1", "replace")
    found = find_credential(scope["headers"])
    if by_cookie(scope["headers"]):
        # No rule of browsers keeps another site's page from opening a socket here, with the cookie, and reading it.
        require_same_origin(scope["headers"])
    return found
