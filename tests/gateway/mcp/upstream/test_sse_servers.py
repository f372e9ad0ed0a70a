"""Real HTTP+SSE servers behind the whole gateway: found, listed and called by clients of both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.support.components.node import NpmPackage
from tests.support.running import Running
from tests.support.servers import everything, notes
from tests.support.servers.old import OldServer


@asynccontextmanager
async def client(gateway: Running, path: str, era: str) -> AsyncIterator[Client]:
    async with create_mcp_http_client(headers={"Authorization": f"Bearer {gateway.key}"}) as http:
        transport = streamable_http_client(gateway.url + path, http_client=http)
        async with Client(transport, mode="legacy" if era == "legacy" else "auto") as opened:
            yield opened


async def removed(gateway: Running, server: dict[str, Any]) -> None:
    """Have the gateway let go of a server, which waits for its open streams before it ends."""
    await gateway.rest("DELETE", f"/v1/mcp/servers/{server['id']}")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_python_sdks_server(gateway: Running, tmp_path: Path, era: str) -> None:
    with OldServer.notes(tmp_path) as server:
        registered = await gateway.register("Old", base_url=server.url)
        assert (registered["transport"], registered["health_status"]) == ("sse", "healthy")
        async with client(gateway, "/servers/old/mcp", era) as session:
            assert {tool.name for tool in (await session.list_tools()).tools} == set(notes.TOOLS)
            called = await session.call_tool("add", {"a": 2, "b": 3})
            assert called.structured_content == {"result": 5}
            assert (await session.call_tool("fail", {})).is_error
            read = await session.read_resource(notes.README_URI)
            assert getattr(read.contents[0], "text", None) == notes.README_TEXT
            got = await session.get_prompt(notes.PROMPT, {"language": "Ada"})
            assert "Ada" in str(got.messages[0].content)
        await removed(gateway, registered)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_reference_server_is_found_on_its_bare_host(
    gateway: Running, tmp_path: Path, npm_package: Callable[[str], NpmPackage], era: str
) -> None:
    with OldServer.everything(npm_package(everything.PACKAGE), tmp_path) as server:
        registered = await gateway.register("Everything", base_url=server.origin)
        assert registered["transport"] == "sse"
        assert registered["endpoint_url"] == server.url
        assert set(everything.TOOLS) <= set(registered["capabilities"]["tools"])
        steps: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            steps.append(done)

        async with client(gateway, "/mcp", era) as session:
            said = await session.call_tool("everything__echo", {"message": "hello"})
            assert "hello" in str(said.content)
            await session.call_tool(
                "everything__trigger-long-running-operation",
                {"duration": 0.3, "steps": 3},
                progress_callback=progress,
            )
        assert steps == [1, 2, 3]
        await removed(gateway, registered)


async def test_what_speaks_no_mcp_is_unhealthy(gateway: Running) -> None:
    registered: dict[str, Any] = await gateway.register("Self", base_url=f"{gateway.url}/v1/nothing")
    assert registered["health_status"] == "unhealthy"
