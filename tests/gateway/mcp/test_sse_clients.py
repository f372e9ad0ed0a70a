"""Clients of revision 2024-11-05 at the gateway's door: the SDKs' own, and one that speaks raw."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client
from mcp.client.sse import sse_client

from gateway.mcp import sse_clients
from tests.support.attacks import attack
from tests.support.components.node import NpmPackage
from tests.support.running import Running
from tests.support.servers.notes import TOOLS, NotesServer

NODE_CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";

const [url, key] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };
const transport = new SSEClientTransport(new URL(url), { requestInit: { headers } });
const client = new Client({ name: "old", version: "1" });
await client.connect(transport);
const { tools } = await client.listTools();
const sum = await client.callTool({ name: "add", arguments: { a: 20, b: 22 } });
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), sum: sum.structuredContent }));
await client.close();
"""


@pytest.fixture
async def notes(gateway: Running, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    with NotesServer(tmp_path) as server:
        registered = await gateway.register("Notes", base_url=server.url)
        yield registered
        # A server waits for its open streams before it ends, and the gateway, in this process, listens to it on one.
        await gateway.rest("DELETE", f"/v1/mcp/servers/{registered['id']}")
        await asyncio.to_thread(server.child.stop)


def door(gateway: Running) -> sse_clients.SseClients:
    return gateway.application.path.sse_clients


class Raw:
    """A client that sees every event and every status."""

    def __init__(self, gateway: Running, key: str, response: aiohttp.ClientResponse) -> None:
        self._gateway = gateway
        self._headers = {"Authorization": f"Bearer {key}"}
        self._response = response
        self.endpoint = ""

    async def event(self) -> tuple[str, str]:
        """Name and data of the next event that is not a comment."""
        name, data = "message", ""
        while True:
            line = (await self._response.content.readline()).decode()
            assert line, "the stream has ended"
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                data = line[6:].strip()
            elif line == "\n" and data:
                return name, data

    async def message(self) -> Any:
        return json.loads((await self.event())[1])

    async def post(self, message: Any, *, key: str | None = None, endpoint: str | None = None) -> int:
        headers = self._headers if key is None else {"Authorization": f"Bearer {key}"}
        url = self._gateway.url + (self.endpoint if endpoint is None else endpoint)
        async with self._gateway.http.post(url, json=message, headers=headers) as answer:
            return answer.status

    async def call(self, method: str, **params: Any) -> Any:
        assert await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) == 202
        return await self.message()

    async def initialize(self) -> Any:
        about = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        answer = await self.call("initialize", **about)
        assert await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}) == 202
        return answer


@asynccontextmanager
async def raw(gateway: Running, path: str = "/sse", key: str | None = None) -> AsyncIterator[Raw]:
    headers = {"Authorization": f"Bearer {key or gateway.key}"}
    async with gateway.http.get(gateway.url + path, headers=headers) as response:
        assert response.status == 200, await response.text()
        client = Raw(gateway, key or gateway.key, response)
        name, client.endpoint = await client.event()
        assert name == "endpoint"
        yield client


@pytest.mark.parametrize(("path", "prefix"), [("/sse", "notes__"), ("/servers/notes/sse", "")])
async def test_the_python_sdks_client(gateway: Running, notes: dict[str, Any], path: str, prefix: str) -> None:
    transport = sse_client(gateway.url + path, headers={"Authorization": f"Bearer {gateway.key}"})
    async with Client(transport, mode="legacy") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {prefix + name for name in TOOLS} <= names
        called = await client.call_tool(f"{prefix}add", {"a": 2, "b": 3})
        assert called.structured_content == {"result": 5}
        assert (await client.call_tool(f"{prefix}fail", {})).is_error


async def test_the_typescript_sdks_client(
    gateway: Running, notes: dict[str, Any], npm_package: Callable[[str], NpmPackage], tmp_path: Path
) -> None:
    package = npm_package("@modelcontextprotocol/sdk")
    # Beside the package, because that is where Node looks for what a program imports.
    program = package.directory.parents[1].parent / f"sse-client-{tmp_path.name}.mjs"
    program.write_text(NODE_CLIENT)
    command = [str(package.node.program), str(program), f"{gateway.url}/servers/notes/sse", gateway.key]
    try:
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    finally:
        program.unlink()
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert set(said["tools"]) == set(TOOLS)
    assert said["sum"] == {"result": 42}


@pytest.mark.requirement("sse.endpoint-first", "sse.answers-on-stream")
async def test_every_answer_comes_on_the_stream(gateway: Running, notes: dict[str, Any]) -> None:
    async with raw(gateway) as client:
        assert (await client.initialize())["result"]["protocolVersion"] == "2024-11-05"
        called = await client.call("tools/call", name="notes__add", arguments={"a": 1, "b": 2})
        assert called["result"]["structuredContent"] == {"result": 3}
        unknown = await client.call("tools/call", name="notes__nothing", arguments={})
        assert unknown["error"]["code"] == -32602
        assert (await client.call("nothing/here"))["error"]["code"] == -32601
        assert await client.post("no message") == 400


async def test_changes_are_told_on_the_stream(gateway: Running, notes: dict[str, Any]) -> None:
    async with raw(gateway) as client:
        await client.initialize()
        # The stream of notices opens behind the handshake.
        while len(gateway.application.path.notices) == 0:
            await asyncio.sleep(0.01)
        status, _ = await gateway.rest("DELETE", f"/v1/mcp/servers/{notes['id']}")
        assert status == 200
        methods = {(await client.message())["method"] for _ in range(3)}
        assert "notifications/tools/list_changed" in methods


@attack(19)
async def test_a_stream_belongs_to_its_principal(gateway: Running) -> None:
    async with raw(gateway) as client:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert await client.post(ping, key=gateway.agent_key) == 404
        assert await client.post(ping, key="mcp_wrong") == 401
        assert await client.post(ping, endpoint="/messages/?session_id=unknown") == 404
        assert await client.post(ping, endpoint="/messages/") == 404
        answer = await client.call("tools/list")
        assert "initialize" in answer["error"]["message"]


async def test_a_client_that_goes_takes_its_calls_with_it(gateway: Running, notes: dict[str, Any]) -> None:
    async with raw(gateway) as client:
        await client.initialize()
        assert len(door(gateway)) == 1
    flights = gateway.application.path.flights
    while len(door(gateway)) or len(flights):
        await asyncio.sleep(0.01)
    assert await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}) == 404


async def test_the_gateways_end_ends_the_stream(gateway: Running) -> None:
    async with raw(gateway) as client:
        gateway.application.drain()
        with pytest.raises(AssertionError, match="the stream has ended"):
            await client.event()


async def test_addresses_answer_only_what_they_are_for(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(method: str, path: str, key: str | None = gateway.key) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with gateway.http.request(method, gateway.url + path, headers=headers) as answer:
            return answer.status

    assert await status("POST", "/sse") == 405
    assert await status("GET", "/messages/") == 405
    assert await status("GET", "/sse", key=None) == 401
    assert await status("GET", "/servers/nothing/sse") == 404
    monkeypatch.setattr(sse_clients, "MAX_STREAMS", 0)
    assert await status("GET", "/sse") == 503
