"""A deadline that comes while a server is still being opened: the call was not sent, and says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp.door import Door
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.test_faults import nothing_left, outcome
from tests.support.faulty import Call, Faulty, good, hang
from tests.support.running import Running

NOT_SENT, UNKNOWN = -31003, -31004
SHORT = {"connect": 5.0, "first_byte": 0.5, "idle": 60.0, "total": 120.0}


class Reluctant(Faulty):
    """A legacy server that opens no further session once it is told so."""

    shut = False

    async def _deal_with(self, head: bytes, body: bytes, reader: Any, writer: Any) -> None:
        if self.shut and b'"initialize"' in body:
            await Call(self, json.loads(body), reader, writer).gone()
            return
        await super()._deal_with(head, body, reader, writer)


@asynccontextmanager
async def reluctant() -> AsyncIterator[Reluctant]:
    server = Reluctant({"good": good, "hang": hang})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_handshake_that_takes_too_long_sent_nothing(door: Door, era: str) -> None:
    async with reluctant() as server:
        await door.register("slow", server.url, deadlines=SHORT)
        server.shut = True
        speaker = await Speaker.of(door, era, "/mcp")
        calls = [speaker.call("slow__good", identifier=1) for _ in range(3)]
        for call in calls:
            await asyncio.wait_for(call.done(), 30)
            assert outcome(call) == NOT_SENT
        (said,) = [message for message in calls[0].messages() if "error" in message]
        assert said["error"]["data"]["code"] == "NOT_SENT"
        assert server.calls == 0


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_call_that_was_sent_is_unknown_at_its_deadline(door: Door, era: str) -> None:
    async with reluctant() as server:
        await door.register("slow", server.url, deadlines=SHORT)
        speaker = await Speaker.of(door, era, "/mcp")
        call = await asyncio.wait_for(speaker.call("slow__hang").done(), 30)
        assert outcome(call) == UNKNOWN
        await nothing_left(door, server)


@pytest.mark.requirement("stdio.probe")
async def test_a_program_that_does_not_shake_hands_was_sent_nothing(gateway: Running, tmp_path: Path) -> None:
    program = tmp_path / "mute.py"
    # It answers the first visit, in which its tools are read, and is mute ever after.
    program.write_text(
        "import json, pathlib, sys\n"
        f"flag = pathlib.Path({str(tmp_path / 'visited')!r})\n"
        "mute = flag.exists()\n"
        "flag.touch()\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    if mute or 'id' not in message:\n"
        "        continue\n"
        "    results = {'initialize': {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},\n"
        "                              'serverInfo': {'name': 'm', 'version': '1'}},\n"
        "               'tools/list': {'tools': [{'name': 'say', 'inputSchema': {'type': 'object'}}]}}\n"
        "    result = results.get(message['method'])\n"
        "    part = {'result': result} if result else {'error': {'code': -32601, 'message': 'no'}}\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], **part}), flush=True)\n"
    )
    await gateway.register("Mute", command="python3", args=[str(program)], deadlines=SHORT)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "say", "arguments": {}}}
    body["params"]["_meta"] = {  # type: ignore[index]
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "say"}
    _, answer = await gateway.rest("POST", "/servers/mute/mcp", body, headers=headers)
    assert answer["error"]["code"] == NOT_SENT
