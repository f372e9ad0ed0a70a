"""An upstream that is closed while it is being opened: its calls were not sent, and nobody takes them for cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.mcp.upstream.child import Child
from gateway.mcp.upstream.legacy_http import LegacyHttpUpstream
from gateway.mcp.upstream.port import NotSent
from gateway.mcp.upstream.sse import SseUpstream
from gateway.mcp.upstream.stdio import StdioUpstream
from registry.core.clock import SystemClock
from registry.core.egress import Egress, EgressPolicy
from registry.servers.connection import Connection
from tests.gateway.mcp.made import outgoing, principal

MUTE = ("-c", "import sys; sys.stdin.read()")


@pytest.fixture
async def mute() -> AsyncIterator[str]:
    """The address of a server that takes connections and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    server.close()
    await server.wait_closed()


def upstream_of(kind: str, url: str, egress: Egress) -> LegacyHttpUpstream | SseUpstream | StdioUpstream:
    if kind == "stdio":
        connection = Connection("id", "org", "mute", "stdio", command=sys.executable, args=MUTE)
        return StdioUpstream(connection, lambda of, line, end: Child.start(of, "same", line, end), SystemClock())
    if kind == "sse":
        return SseUpstream(Connection("id", "org", "mute", "sse", url=url), egress, SystemClock())
    return LegacyHttpUpstream(Connection("id", "org", "mute", "streamable-http", url=url, era="legacy"), egress)


def being_opened(upstream: Any) -> bool:
    if isinstance(upstream, StdioUpstream):
        return upstream.pid is not None
    return upstream.pool.open > 0


@pytest.mark.parametrize("kind", ["legacy", "sse", "stdio"])
async def test_calls_of_one_that_is_closed_were_not_sent(kind: str, mute: str) -> None:
    egress = Egress(EgressPolicy(local_mode=True))
    upstream = upstream_of(kind, mute, egress)
    calls = [asyncio.create_task(upstream.request(outgoing(principal()))) for _ in range(2)]
    async with asyncio.timeout(30):
        while not being_opened(upstream):
            await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        assert not calls[1].done(), "it waits on, whoever goes away"
        await upstream.close()
        with pytest.raises(NotSent, match="removed or changed"):
            await calls[1]
    assert calls[0].cancelled()
    await egress.close()
