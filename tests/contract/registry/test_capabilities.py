"""Registry API, Capabilities Discovery."""

from __future__ import annotations

import json

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door
from tests.gateway.mcp.echo import Echo, tool

DISCOVER = "POST /v1/mcp/servers/{server_id}/capabilities/discover"
TEST = "POST /v1/mcp/servers/{server_id}/capabilities/test"


@covers("POST /v1/mcp/servers/{server_id}/capabilities/discover")
async def test_what_a_server_offers_is_discovered(client: Client, upstream: Echo) -> None:
    upstream.tools.append(tool("write_file"))
    found = await client.ask(DISCOVER)
    assert found["server_id"] == client.server
    assert set(found["capabilities"]["tools"]) == {"read_file", "write_file"}
    read_file = found["capabilities"]["tools"]["read_file"]
    assert (read_file["name"], read_file["inputSchema"]["required"]) == ("read_file", ["path"])
    assert found["capabilities"]["resources"]["file:///{path}"]["uriTemplate"] == "file:///{path}"
    assert (len(found["tools"]), len(found["resources"])) == (2, 2)
    assert (found["errors"], found["warnings"]) == ([], [])


@covers("POST /v1/mcp/servers/{server_id}/capabilities/discover")
async def test_a_server_that_is_down_is_an_error_of_the_discovery(client: Client, door: Door) -> None:
    made = await client.ask("POST /v1/mcp/servers", {"name": "Nobody", "base_url": "http://127.0.0.1:9/mcp"})
    answer = await client.send(DISCOVER, server_id=made["id"])
    assert answer.status == 200
    assert len(answer.json()["errors"]) == 1
    await client.refused(DISCOVER, 403, key=door.agent)


@covers("POST /v1/mcp/servers/{server_id}/capabilities/test")
async def test_a_method_is_tried(client: Client) -> None:
    arguments = {"path": "/tmp/test.txt"}
    sent = {"method": "tools/call", "params": {"name": "read_file", "arguments": arguments}}
    found = await client.ask(TEST, sent)
    assert found["success"] is True
    assert json.loads(found["result"]["content"][0]["text"])["arguments"] == arguments
    await client.refused(TEST, 422, {"method": "tools/dance"})
    await client.refused(TEST, 422, {})
