"""Checks a server's health with as little as it takes: one or two requests over the connections that calls use.

A look that reads everything is `gateway.mcp.upstream.probe`; it also serves here where there is nothing lighter. What
an observation means is `registry.health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.mcp import protocol
from gateway.mcp.envelope import Message, ProtocolError, decode_error
from gateway.mcp.upstream.openapi import OpenApiUpstream
from gateway.mcp.upstream.port import NotSent
from gateway.mcp.upstream.probe import outgoing, whole
from registry.core.egress import vet_url
from registry.core.errors import GatehouseError
from registry.health.course import Observation

if TYPE_CHECKING:
    from gateway.mcp.catalog import Catalog, ServerEntry
    from gateway.mcp.upstream.manager import Upstreams
    from gateway.mcp.upstream.port import Upstream
    from gateway.mcp.upstream.probe import Prober
    from registry.core.clock import Clock
    from registry.core.egress import Egress

HEALTHY, UNHEALTHY, DEGRADED, UNKNOWN = "healthy", "unhealthy", "degraded", "unknown"
_LISTS = (("tools", "tools/list"), ("resources", "resources/list"), ("prompts", "prompts/list"))


@dataclass(slots=True)
class _Seen:
    """What has been found out so far."""

    checks: dict[str, str] = field(
        default_factory=lambda: {"connectivity": UNKNOWN, "handshake": UNKNOWN, "capabilities": UNKNOWN}
    )
    error: str | None = None
    usable: bool = False


class Checker:
    """See `registry.health.monitor.Checker`."""

    def __init__(self, catalog: Catalog, upstreams: Upstreams, prober: Prober, egress: Egress, clock: Clock) -> None:
        self._catalog = catalog
        self._upstreams = upstreams
        self._prober = prober
        self._egress = egress
        self._clock = clock

    async def check(self, org_id: str, server_id: str, checks: Collection[str], *, within: float) -> Observation | None:
        """See `registry.health.monitor.Checker`."""
        servers = self._catalog.of(org_id).servers.values()
        server = next((server for server in servers if server.id == server_id), None)
        if server is None or (server.connection.era is None and server.connection.transport != "openapi"):
            return None
        seen, began = _Seen(), self._clock.monotonic()
        try:
            async with asyncio.timeout(within):
                await self._look(server, checks, seen)
        except TimeoutError:
            _failed(seen, f"it did not answer within {within:g} s")
        except NotSent as error:
            _failed(seen, error.message, at_all="HTTP" in error.message)
        except ProtocolError as error:
            _failed(seen, error.message, at_all=True)
        except GatehouseError as error:
            _failed(seen, error.message)
        taken = round((self._clock.monotonic() - began) * 1000, 1) if seen.usable else None
        return Observation(self._clock.now(), seen.usable, seen.checks, taken, seen.error)

    async def _look(self, server: ServerEntry, checks: Collection[str], seen: _Seen) -> None:
        connection = server.connection
        if "handshake" not in checks and connection.url is not None:
            transport, _ = await self._egress.connect(
                asyncio.Protocol, vet_url(connection.url), timeout=connection.deadlines.connect
            )
            transport.close()
            seen.checks["connectivity"], seen.usable = HEALTHY, True
            return
        if connection.transport in ("stdio", "sse"):
            # What serves calls belongs to its clients: a child or a stream of its own tells more.
            offer = await self._prober.probe(connection, within=3600)
            seen.checks, seen.usable, seen.error = {**seen.checks, **offer.checks}, offer.reachable, offer.error
            return
        upstream = self._upstreams.get(connection)
        if isinstance(upstream, OpenApiUpstream):
            await upstream.reach()
            seen.checks, seen.usable = dict.fromkeys(seen.checks, HEALTHY), True
            return
        await self._shake_hands(server, upstream, seen)
        if "capabilities" in checks:
            await self._ask_for_list(server, upstream, seen)

    async def _shake_hands(self, server: ServerEntry, upstream: Upstream, seen: _Seen) -> None:
        modern = server.connection.era == "modern"
        answer = await _ask(server, upstream, "server/discover" if modern else "ping")
        seen.checks["connectivity"] = HEALTHY
        if bytes(answer.error):
            error = decode_error(answer.error)
            # A server that knows no ping has understood that it was asked.
            if modern or error.code != protocol.METHOD_NOT_FOUND:
                _failed(seen, error.message, at_all=True)
                return
        seen.checks["handshake"], seen.usable = HEALTHY, True

    async def _ask_for_list(self, server: ServerEntry, upstream: Upstream, seen: _Seen) -> None:
        """The first list that the server has, its first page: that it can be told is what counts."""
        method = next((method for name, method in _LISTS if name in server.capabilities), None)
        if not seen.usable or method is None:
            return
        try:
            answer = await _ask(server, upstream, method)
        except ProtocolError as error:
            seen.checks["capabilities"], seen.error = DEGRADED, f"{method}: {error.message}"
            return
        if bytes(answer.error):
            seen.checks["capabilities"], seen.error = DEGRADED, f"{method}: {decode_error(answer.error).message}"
        else:
            seen.checks["capabilities"] = HEALTHY


async def _ask(server: ServerEntry, upstream: Upstream, method: str) -> Message:
    return await whole(await upstream.request(outgoing(server.connection, method, {})))


def _failed(seen: _Seen, why: str, *, at_all: bool = False) -> None:
    """Args: at_all: something answered, so that it is the handshake that failed."""
    place = "handshake" if at_all or seen.checks["connectivity"] == HEALTHY else "connectivity"
    if place == "handshake":
        seen.checks["connectivity"] = HEALTHY
    seen.checks[place], seen.usable, seen.error = UNHEALTHY, False, why
