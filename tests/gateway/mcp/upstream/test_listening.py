"""Listening to a server: whenever it ends, the line to the server ends with it."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import pytest

from gateway.mcp.upstream.legacy_http import LegacyHttpUpstream
from gateway.mcp.upstream.modern_http import ModernHttpUpstream
from registry.core.egress import Egress, EgressPolicy
from registry.servers.connection import Connection

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
INTRODUCTION = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "a", "version": "1"}}


class Announcer:
    """Opens sessions, and holds every line that is listened on; says when such a line has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
                if head.startswith(b"get") or b"subscriptions/listen" in body:
                    writer.write(EVENTS)
                    await reader.read()
                    self.ended.set()
                    return
                asked = json.loads(body or b"{}").get("id")
                answer = (
                    json.dumps({"jsonrpc": "2.0", "id": asked, "result": INTRODUCTION}).encode()
                    if asked is not None
                    else b""
                )
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: one\r\n")
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_who_stops_at_the_first_word_leaves_no_line_open(era: Literal["modern", "legacy"]) -> None:
    announcer = Announcer()
    server = await asyncio.start_server(announcer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection("id", "org", "notes", "streamable-http", f"http://127.0.0.1:{port}/mcp", era=era)
    upstream = (ModernHttpUpstream if era == "modern" else LegacyHttpUpstream)(
        connection, Egress(EgressPolicy(local_mode=True))
    )
    lines = upstream.listen(frozenset())
    assert lines is not None
    assert not (await anext(lines)).method
    await lines.aclose()
    async with asyncio.timeout(30):
        await announcer.ended.wait()
    await upstream.close()
    server.close()
    await server.wait_closed()
