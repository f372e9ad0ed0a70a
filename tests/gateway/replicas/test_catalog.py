"""What one process changes, the other shows: servers and keys; and a server that comes up late appears by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from registry.servers.upkeep import FIRST_RETRY_SECONDS
from tests.e2e.wire import Modern
from tests.gateway.replicas.seen import register, soon
from tests.support.components.machine import free_port
from tests.support.faulty import Faulty
from tests.support.gateway import RunningGateway, new_key
from tests.support.servers.notes import NotesServer


async def test_a_server_registered_at_one_is_listed_and_called_at_the_other(
    pair: tuple[RunningGateway, RunningGateway], server: Faulty
) -> None:
    first, second = pair
    there = Modern(f"{second.url}/mcp", first.agent_key)
    assert "stateful__good" not in await asyncio.to_thread(there.listed, "tools")
    await register(first, server)
    await soon(lambda: "stateful__good" in there.listed("tools"))
    await asyncio.to_thread(there.call, "stateful__good")
    (listed,) = (await asyncio.to_thread(first.rest, "GET", "/v1/mcp/servers")).json()["servers"]
    await asyncio.to_thread(first.rest, "DELETE", f"/v1/mcp/servers/{listed['id']}")
    await soon(lambda: "stateful__good" not in there.listed("tools"))


async def test_a_key_revoked_at_one_is_refused_at_the_other(pair: tuple[RunningGateway, RunningGateway]) -> None:
    first, second = pair
    key = await asyncio.to_thread(new_key, first, "short", permissions=["mcp:tools:list"])
    there = Modern(f"{second.url}/mcp", key)
    await asyncio.to_thread(there.listed, "tools")
    keys = (await asyncio.to_thread(first.rest, "GET", "/v1/api-keys")).json()["api_keys"]
    found = next(entry for entry in keys if entry["name"] == "short")
    assert (await asyncio.to_thread(first.rest, "DELETE", f"/v1/api-keys/{found['id']}")).status == 204
    await soon(lambda: there.send("tools/list").status == 401)


async def test_a_server_that_was_down_when_it_was_registered_appears(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(RunningGateway, tmp_path / "data")
    try:
        port = free_port()
        body = {"name": "late", "base_url": f"http://127.0.0.1:{port}/mcp"}
        made = (await asyncio.to_thread(gateway.rest, "POST", "/v1/mcp/servers", body)).json()
        assert made["health_status"] == "unhealthy"
        client = Modern(f"{gateway.url}/mcp", gateway.agent_key)
        notes = await asyncio.to_thread(NotesServer, tmp_path, port=port)
        try:
            await soon(lambda: "late__add" in client.listed("tools"), FIRST_RETRY_SECONDS + 15)
        finally:
            # A server waits for its open streams before it ends, and the gateway listens to it on one.
            await asyncio.to_thread(gateway.rest, "DELETE", f"/v1/mcp/servers/{made['id']}")
            await asyncio.to_thread(notes.child.stop)
    finally:
        await asyncio.to_thread(gateway.stop)
