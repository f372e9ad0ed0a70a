"""The server over its socket: the SDK's client in both eras, and what a client may send that it should not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.workspace_runtime.inside.test_shell import alive, until
from workspace_runtime.inside.protocol import MODERN

ROOT = Path(__file__).resolve().parents[3]
CODE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from workspace_runtime.inside.main import main; main()"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Running:
    """The server as a process of its own."""

    def __init__(self, socket: str, root: Path) -> None:
        self.socket = socket
        self.root = root

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=self.socket), base_url="http://workspace", timeout=60
        )

    @asynccontextmanager
    async def client(self, mode: str) -> AsyncIterator[Client]:
        async with self.http() as http:
            async with Client(streamable_http_client("http://workspace/mcp", http_client=http), mode=mode) as client:
                yield client

    async def post(self, message: Any, **headers: str) -> httpx2.Response:
        async with self.http() as http:
            return await http.post("/mcp", content=json.dumps(message), headers=headers)

    async def modern(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": META}}
        return await self.post(message, **{"MCP-Protocol-Version": MODERN, "Mcp-Method": method, **headers})


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    root = tmp_path / "workspace"
    root.mkdir()
    with tempfile.TemporaryDirectory(prefix="gh-") as short:
        socket = f"{short}/mcp.sock"
        env = {"PATH": os.environ["PATH"], "HOME": short, "GATEHOUSE_ROOT": str(root), "GATEHOUSE_SOCKET": socket}
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-B", "-c", CODE, env=env)
        try:
            await until(lambda: os.path.exists(socket) or process.returncode is not None)
            yield Running(socket, root)
        finally:
            process.terminate()
            await process.wait()


@pytest.mark.parametrize("mode", [MODERN, "legacy", "auto"])
async def test_the_sdks_client_works_in_both_eras(running: Running, mode: str) -> None:
    async with running.client(mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"read_file", "git_status", "shell_run", "search", "glob", "multi_edit"} <= names
        written = await client.call_tool("write_file", {"path": "a.txt", "content": "hello\n"})
        assert not written.is_error
        status = await client.call_tool("git_status", {})
        assert status.structured_content is not None
        assert (status.structured_content["branch"], status.structured_content["status"]) == ("main", "dirty")
        failed = await client.call_tool("read_file", {"path": "nothing"})
        assert failed.is_error


@pytest.mark.parametrize("mode", [MODERN, "legacy"])
async def test_a_command_tells_what_it_says_as_progress(running: Running, mode: str) -> None:
    said: list[str | None] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        said.append(message)
        (running.root / "go").touch()

    async with running.client(mode) as client:
        command = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo second"
        done = await client.call_tool("shell_run", {"command": command, "timeout": 60}, progress_callback=heard)
    assert said[0] == "first\n"
    assert done.structured_content is not None
    assert done.structured_content["stdout"] == "first\nsecond\n"


async def test_every_tool_has_schemas_and_hints(running: Running) -> None:
    async with running.client(MODERN) as client:
        tools = (await client.list_tools()).tools
    assert len(tools) > 20
    for tool in tools:
        assert tool.output_schema
        assert tool.annotations
        assert tool.annotations.read_only_hint is not None
    readers = {tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint}
    assert readers == {
        *("read_file", "list_directory", "glob", "search", "git_status", "git_diff", "git_log", "git_show"),
        *("shell_logs", "shell_jobs"),
    }


async def test_a_modern_answer_says_what_each_must(running: Running) -> None:
    discovered = (await running.modern("server/discover")).json()["result"]
    assert discovered["supportedVersions"] == [MODERN]
    assert discovered["resultType"] == "complete"
    listed = (await running.modern("tools/list")).json()["result"]
    assert listed["ttlMs"] > 0
    assert listed["cacheScope"] == "public"


@pytest.mark.parametrize(
    ("headers", "params", "status", "code"),
    [
        ({"MCP-Protocol-Version": "2099-01-01"}, {"_meta": META}, 400, -32022),
        ({"MCP-Protocol-Version": MODERN}, {"_meta": META}, 400, -32020),
        ({"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}, {}, 400, -32602),
        ({"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}, {"_meta": META}, 200, None),
    ],
)
async def test_modern_requests_are_checked(
    running: Running, headers: dict[str, str], params: dict[str, Any], status: int, code: int | None
) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
    response = await running.post(message, **headers)
    assert response.status_code == status
    assert response.json().get("error", {}).get("code") == code


async def test_what_is_unknown_is_said(running: Running) -> None:
    assert (await running.modern("resources/list")).status_code == 404
    called = await running.modern("tools/call", {"name": "nothing"}, **{"Mcp-Name": "nothing"})
    assert (called.status_code, called.json()["error"]["code"]) == (400, -32602)
    mirrored = await running.modern("tools/call", {"name": "git_status"}, **{"Mcp-Name": "git_log"})
    assert mirrored.json()["error"]["code"] == -32020
    legacy = await running.post({"jsonrpc": "2.0", "id": "a", "method": "resources/list"})
    assert (legacy.status_code, legacy.json()["error"]["code"], legacy.json()["id"]) == (200, -32601, "a")


async def test_what_is_no_request_is_refused(running: Running) -> None:
    async with running.http() as http:
        assert (await http.post("/mcp", content=b"{")).json()["error"]["code"] == -32700
        assert (await http.post("/mcp", content=b"[" * 100_000)).json()["error"]["code"] == -32700
        for body in (b"[]", b'{"jsonrpc":"1.0","id":1,"method":"ping"}', b'{"jsonrpc":"2.0","id":1,"method":3}'):
            assert (await http.post("/mcp", content=body)).json()["error"]["code"] == -32600
        assert (await http.get("/mcp")).status_code == 405
        assert (await http.post("/other", content=b"{}")).status_code == 404
        assert (await http.post("/mcp", content=b'{"jsonrpc":"2.0","method":"notifications/x"}')).status_code == 202
        assert (await http.get("/ready")).json() == {"ready": True}
    async with running.http() as http:
        assert (await http.post("/mcp", content=(part async for part in _parts()))).status_code == 400
    reader, writer = await asyncio.open_unix_connection(running.socket)
    writer.write(b"POST /mcp HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n")
    assert b" 413 " in await reader.readline()
    writer.close()


async def _parts() -> AsyncIterator[bytes]:
    yield b"{}"


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_cancels_what_was_asked(running: Running, stream: bool) -> None:
    meta = {**META, "progressToken": 1} if stream else META
    arguments = {"command": "echo $$ >pid; touch up; sleep 1000", "timeout": 600}
    params = {"name": "shell_run", "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: shell_run\r\n"
    head += f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_unix_connection(running.socket)
    writer.write(b"POST /mcp HTTP/1.1\r\n" + head.encode() + body)
    await until((running.root / "up").exists)
    writer.close()
    pid = int((running.root / "pid").read_text())
    await until(lambda: not alive(pid))


async def test_an_older_client_cancels_by_a_notification(running: Running) -> None:
    arguments = {"command": "echo $$ >pid; touch up; sleep 1000", "timeout": 600}
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "shell_run", "arguments": arguments}}
    asking = asyncio.create_task(running.post(call, **{"Mcp-Session-Id": "one"}))
    await until((running.root / "up").exists)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    await running.post(cancel, **{"Mcp-Session-Id": "another"})
    assert not asking.done()
    await running.post(cancel, **{"Mcp-Session-Id": "one"})
    pid = int((running.root / "pid").read_text())
    await until(lambda: not alive(pid))
    with pytest.raises(httpx2.RemoteProtocolError):
        await asking
