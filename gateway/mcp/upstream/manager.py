"""The upstreams in use: one per server, made when first needed, closed when the server changes or goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from gateway.mcp.upstream.account import AccountUpstream
from gateway.mcp.upstream.child import Child
from gateway.mcp.upstream.concurrency import Concurrency
from gateway.mcp.upstream.contained import ContainedProgram, ProgramDoor
from gateway.mcp.upstream.guard import Guard
from gateway.mcp.upstream.legacy_http import LegacyHttpUpstream
from gateway.mcp.upstream.modern_http import ModernHttpUpstream
from gateway.mcp.upstream.openapi import OpenApiUpstream
from gateway.mcp.upstream.port import CredentialsRefused, NotSent, Upstream
from gateway.mcp.upstream.program import OnExit, OnLine, Program, ProgramFailed
from gateway.mcp.upstream.sse import SseUpstream
from gateway.mcp.upstream.stdio import StdioUpstream
from gateway.mcp.upstream.workspace import WorkspaceDoor, WorkspaceUpstream
from registry.core.errors import GatehouseError

if TYPE_CHECKING:
    from gateway.mcp.session import LegacySession
    from registry.core.clock import Clock
    from registry.core.egress import Egress
    from registry.identity.principal import Principal
    from registry.servers.circuit import Circuit
    from registry.servers.connection import Connection


MOST_PERSONAL = 10_000
"""Upstreams of single people that are kept at most."""
LISTENING = "listening"
"""Holder of the upstreams that only listen for changes."""


@dataclass(slots=True)
class _Made:
    connection: Connection
    upstream: Upstream
    guard: Guard


class Credentials(Protocol):
    """The accounts with which requests go to servers: `registry.accounts.service`."""

    def concerns(self, server_id: str) -> bool:
        """Whether requests to this server take an account along."""
        ...

    async def headers(self, server_id: str, user_id: str | None) -> tuple[tuple[str, str], ...]:
        """The headers of this person's requests. Raises `GatehouseError` where there are none to be had."""
        ...

    async def headers_for_looking(self, server_id: str) -> tuple[tuple[str, str], ...]:
        """The headers of the gateway's own requests."""
        ...

    async def refused(
        self, server_id: str, user_id: str | None, shown: tuple[tuple[str, str], ...], status: int, said: str
    ) -> bool:
        """A server refused these headers, with its `WWW-Authenticate`; gives whether there are others to try.

        Raises `GatehouseError` where this person has to do something first.
        """
        ...


@dataclass(slots=True)
class _Personal:
    connection: Connection
    upstream: Upstream


class Upstreams:
    """Makes and keeps upstreams: one for each server, and one for each person at servers that take an account along.

    Args:
        credentials: who goes to which server with which account.
        stdio_user: see `Child.start`.
        concurrency: how many calls may be under way at a server.
        workspaces: opens workspaces; without it there are none.
        containers: runs stdio servers that are to be contained; without it they do not start.
    """

    def __init__(
        self,
        egress: Egress,
        clock: Clock,
        credentials: Credentials,
        *,
        stdio_user: str,
        concurrency: Concurrency | None = None,
        workspaces: WorkspaceDoor | None = None,
        containers: ProgramDoor | None = None,
    ) -> None:
        self._containers = containers
        self._egress = egress
        self._clock = clock
        self._workspaces = workspaces
        self._concurrency = concurrency or Concurrency()
        self._local: dict[str, Upstream] = {}
        self._stdio_user = stdio_user
        self._credentials = credentials
        self._made: dict[str, _Made] = {}
        self._personal: dict[tuple[str, str], _Personal] = {}
        self._holders: dict[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def add_local(self, server_id: str, upstream: Upstream) -> None:
        """Answer for a server of every organisation in process."""
        self._local[server_id] = upstream

    async def of(self, connection: Connection, principal: Principal) -> Upstream:
        """The upstream of a server for this caller. Raises `NotSent` where the caller has no account there."""
        if not self._credentials.concerns(connection.server_id):
            return self.get(connection)
        holder = principal.user_id or ""
        try:
            headers = await self._credentials.headers(connection.server_id, principal.user_id)
        except GatehouseError as error:
            raise NotSent(connection.slug, error.message, blames=False) from None
        if len(self._holders) >= MOST_PERSONAL:
            self._holders.clear()
        self._holders[principal.subject] = holder

        async def again(error: CredentialsRefused) -> Upstream | None:
            return await self._after(error, connection, principal, headers)

        return AccountUpstream(self._with_account(connection, headers, holder), again)

    async def _after(
        self,
        error: CredentialsRefused,
        connection: Connection,
        principal: Principal,
        shown: tuple[tuple[str, str], ...],
    ) -> Upstream | None:
        """What to repeat a refused request with, if there is anything else. Raises `NotSent` as `of` does."""
        server_id, user_id = connection.server_id, principal.user_id
        try:
            if not await self._credentials.refused(server_id, user_id, shown, error.status, error.challenge):
                return None
            headers = await self._credentials.headers(server_id, user_id)
        except GatehouseError as failure:
            raise NotSent(connection.slug, failure.message, blames=False) from None
        return self._with_account(connection, headers, user_id or "")

    async def for_looking(self, connection: Connection) -> Connection:
        """How the gateway itself reaches a server."""
        if not self._credentials.concerns(connection.server_id):
            return connection
        return _with(connection, await self._credentials.headers_for_looking(connection.server_id))

    async def listening(self, connection: Connection) -> Upstream:
        """The upstream that the gateway listens to a server with."""
        if not self._credentials.concerns(connection.server_id):
            return self.get(connection)
        headers = await self._credentials.headers_for_looking(connection.server_id)
        return self._with_account(connection, headers, LISTENING)

    def _with_account(self, connection: Connection, headers: tuple[tuple[str, str], ...], holder: str) -> Upstream:
        """An upstream of its own for each account: sessions and connections of two are never mixed."""
        reached, key = _with(connection, headers), (connection.server_id, holder)
        found = self._personal.get(key)
        if found is not None and found.connection == reached:
            return found.upstream
        if found is not None:
            self._retire(found.upstream)
        elif len(self._personal) >= MOST_PERSONAL:
            self._retire(self._personal.pop(next(iter(self._personal))).upstream)
        upstream = self.make(reached)
        self._personal[key] = _Personal(reached, upstream)
        return upstream

    def get(self, connection: Connection) -> Upstream:
        """The upstream of a server; made anew when how it is reached has changed."""
        local = self._local.get(connection.server_id)
        return local if local is not None else self._get(connection).upstream

    def guard(self, connection: Connection) -> Guard | None:
        """What stands before a server; nothing does before the gateway's own tools."""
        return None if connection.server_id in self._local else self._get(connection).guard

    def guards(self) -> list[Guard]:
        """Of the servers that have been called."""
        return [made.guard for made in self._made.values()]

    def connections(self) -> list[tuple[str, int, int]]:
        """Connections to each server over HTTP: its slug, how many are in use, and how many idle."""
        pools = [
            (made.connection.slug, made.upstream.pool)
            for made in self._made.values()
            if isinstance(made.upstream, ModernHttpUpstream | LegacyHttpUpstream | SseUpstream)
        ]
        return [(slug, pool.open - pool.idle, pool.idle) for slug, pool in pools]

    def circuit(self, server_id: str) -> Circuit | None:
        """See `registry.servers.circuit.Circuits`."""
        made = self._made.get(server_id)
        return made.guard.circuit if made is not None else None

    def _get(self, connection: Connection) -> _Made:
        made = self._made.get(connection.server_id)
        if made is not None:
            # The snapshot holds one object per server until it is replaced, so identity is the common case.
            if made.connection is connection or made.connection == connection:
                return made
            self._retire(made.upstream)
        upstream: Upstream
        if connection.workspace_id is not None and self._workspaces is not None:
            upstream = WorkspaceUpstream(connection, connection.workspace_id, self._workspaces)
        else:
            upstream = self.make(connection)
        guard = Guard(connection.slug, self._clock, self._concurrency.of(connection.slug))
        made = self._made[connection.server_id] = _Made(connection, upstream, guard)
        return made

    def make(
        self, connection: Connection, capabilities: bytes = b"{}"
    ) -> ModernHttpUpstream | LegacyHttpUpstream | SseUpstream | StdioUpstream | OpenApiUpstream:
        """A new upstream that is the caller's to close.

        Args:
            capabilities: what a child is told that its client can be asked for.
        """
        match connection.transport:
            case "stdio":
                return StdioUpstream(connection, self._launch, self._clock, capabilities)
            case "sse":
                return SseUpstream(connection, self._egress, self._clock)
            case "openapi":
                return OpenApiUpstream(connection, self._egress)
            case "streamable-http":
                http = ModernHttpUpstream if connection.era == "modern" else LegacyHttpUpstream
                return http(connection, self._egress)

    async def _launch(self, connection: Connection, on_line: OnLine, on_exit: OnExit) -> Program:
        """Start a stdio server's program where it is to run: what is to be contained never runs anywhere else."""
        if connection.container is None:
            return await Child.start(connection, self._stdio_user, on_line, on_exit)
        if self._containers is None:
            raise ProgramFailed("it is to run in a container, and this gateway has none")
        return await ContainedProgram.start(connection, self._containers, on_line, on_exit)

    def end_sessions(self, session: LegacySession) -> None:
        """A client's session is over: tell the servers that have one for it."""
        holder = self._holders.get(session.subject, "")
        for server_id, session_id in session.upstream_ids.items():
            made = self._personal.get((server_id, holder)) or self._made.get(server_id)
            if made is not None and isinstance(made.upstream, LegacyHttpUpstream) and session_id is not None:
                self._later(made.upstream.end_session(session_id))

    def keep_only(self, server_ids: set[str]) -> None:
        for server_id in [known for known in self._made if known not in server_ids]:
            self._retire(self._made.pop(server_id).upstream)
        for key in [known for known in self._personal if known[0] not in server_ids]:
            self._retire(self._personal.pop(key).upstream)

    async def close(self) -> None:
        self.keep_only(set())
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _retire(self, upstream: Upstream) -> None:
        self._later(upstream.close())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _with(connection: Connection, headers: tuple[tuple[str, str], ...]) -> Connection:
    """The connection with these headers in the place of its own of the same names."""
    names = {name.lower() for name, _ in headers}
    kept = tuple(pair for pair in connection.headers if pair[0].lower() not in names)
    return replace(connection, headers=kept + headers)
