"""The upstreams in use: one per server, made when first needed, closed when the server changes or goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.mcp.upstream.concurrency import Concurrency
from gateway.mcp.upstream.guard import Guard
from gateway.mcp.upstream.legacy_http import LegacyHttpUpstream
from gateway.mcp.upstream.modern_http import ModernHttpUpstream
from gateway.mcp.upstream.openapi import OpenApiUpstream
from gateway.mcp.upstream.port import Upstream
from gateway.mcp.upstream.sse import SseUpstream
from gateway.mcp.upstream.stdio import StdioUpstream
from gateway.mcp.upstream.workspace import WorkspaceDoor, WorkspaceUpstream

if TYPE_CHECKING:
    from gateway.mcp.session import LegacySession
    from registry.core.clock import Clock
    from registry.core.egress import Egress
    from registry.servers.circuit import Circuit
    from registry.servers.connection import Connection


@dataclass(slots=True)
class _Made:
    connection: Connection
    upstream: Upstream
    guard: Guard


class Upstreams:
    """Makes and keeps upstreams.

    Args:
        stdio_user: see `Child.start`.
        concurrency: how many calls may be under way at a server.
        workspaces: opens workspaces; without it there are none.
    """

    def __init__(
        self,
        egress: Egress,
        clock: Clock,
        *,
        stdio_user: str,
        concurrency: Concurrency | None = None,
        workspaces: WorkspaceDoor | None = None,
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._workspaces = workspaces
        self._concurrency = concurrency or Concurrency()
        self._local: dict[str, Upstream] = {}
        self._stdio_user = stdio_user
        self._made: dict[str, _Made] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def add_local(self, server_id: str, upstream: Upstream) -> None:
        """Answer for a server of every organisation in process."""
        self._local[server_id] = upstream

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
                return StdioUpstream(connection, self._stdio_user, self._clock, capabilities)
            case "sse":
                return SseUpstream(connection, self._egress, self._clock)
            case "openapi":
                return OpenApiUpstream(connection, self._egress)
            case "streamable-http":
                http = ModernHttpUpstream if connection.era == "modern" else LegacyHttpUpstream
                return http(connection, self._egress)

    def end_sessions(self, session: LegacySession) -> None:
        """A client's session is over: tell the servers that have one for it."""
        for server_id, session_id in session.upstream_ids.items():
            made = self._made.get(server_id)
            if made is not None and isinstance(made.upstream, LegacyHttpUpstream) and session_id is not None:
                self._later(made.upstream.end_session(session_id))

    def keep_only(self, server_ids: set[str]) -> None:
        for server_id in [known for known in self._made if known not in server_ids]:
            self._retire(self._made.pop(server_id).upstream)

    async def close(self) -> None:
        self.keep_only(set())
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _retire(self, upstream: Upstream) -> None:
        self._later(upstream.close())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
