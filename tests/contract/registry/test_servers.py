"""Registry API, MCP Server Management."""

from __future__ import annotations

import pytest

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.contract.registry.endpoints import ENDPOINTS, SERVED
from tests.contract.shapes import differences
from tests.gateway.mcp.door import Door

NOBODY = "http://127.0.0.1:9/mcp"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@covers("POST /v1/mcp/servers/register", "POST /v1/mcp/servers")
@pytest.mark.parametrize("endpoint", ["POST /v1/mcp/servers/register", "POST /v1/mcp/servers"])
async def test_a_server_is_registered(client: Client, endpoint: str) -> None:
    declared = {"tools": ["read_file", "write_file"], "resources": ["file:///path/to/resource"]}
    sent = {
        "name": "My MCP Server",
        "description": "A sample MCP server",
        "base_url": NOBODY,
        "environment": "staging",
        "tags": ["filesystem", "utilities"],
        "capabilities": declared,
    }
    made = await client.ask(endpoint, sent)
    assert {name: made[name] for name in sent if name != "capabilities"} == {
        name: value for name, value in sent.items() if name != "capabilities"
    }
    # Nobody answers there: what was declared is what is known.
    assert {name: made["capabilities"][name] for name in declared} == declared
    assert (made["status"], made["health_status"], made["deleted_at"]) == ("active", "unhealthy", None)
    conflict = await client.refused(endpoint, 409, sent)
    assert "My MCP Server" in conflict["detail"]


@covers("POST /v1/mcp/servers/register", "POST /v1/mcp/servers")
@pytest.mark.parametrize("endpoint", ["POST /v1/mcp/servers/register", "POST /v1/mcp/servers"])
async def test_what_cannot_be_registered_is_refused(client: Client, door: Door, endpoint: str) -> None:
    missing = await client.refused(endpoint, 422, {"base_url": NOBODY})
    assert missing["detail"][0]["loc"] == ["body", "name"]
    await client.refused(endpoint, 422, {"name": "a", "base_url": NOBODY, "environment": "moon"})
    await client.refused(endpoint, 422, {"name": "a", "base_url": "ftp://a"})
    await client.refused(endpoint, 403, {"name": "a", "base_url": NOBODY}, key=door.agent)


@covers("GET /v1/mcp/servers")
async def test_servers_are_listed_filtered_and_paged(client: Client) -> None:
    for name, environment in (("Two", "staging"), ("Three", "staging"), ("Four", "production")):
        body = {"name": name, "base_url": NOBODY, "environment": environment}
        await client.ask("POST /v1/mcp/servers", body)

    async def names(query: str = "") -> list[str]:
        return [one["name"] for one in (await client.ask("GET /v1/mcp/servers", query=query))["servers"]]

    found = await client.ask("GET /v1/mcp/servers")
    assert (found["total"], found["limit"], found["offset"]) == (4, 50, 0)
    assert await names() == ["Files", "Two", "Three", "Four"]
    assert await names("environment=staging") == ["Two", "Three"]
    assert await names("health_status=healthy") == ["Files"]
    assert await names("health_status=unhealthy&environment=production") == ["Four"]
    assert await names("health_status=degraded") == []
    assert await names("status=inactive") == []
    page = await client.ask("GET /v1/mcp/servers", query="limit=2&offset=1")
    assert ([one["name"] for one in page["servers"]], page["total"]) == (["Two", "Three"], 4)
    assert (page["limit"], page["offset"]) == (2, 1)


@covers("GET /v1/mcp/servers")
@pytest.mark.parametrize("query", ["environment=moon", "status=asleep", "health_status=fine", "limit=0", "offset=-1"])
async def test_unknown_filters_are_refused(client: Client, query: str) -> None:
    error = await client.refused("GET /v1/mcp/servers", 422, query=query)
    assert error["detail"][0]["loc"] == ["query", query.partition("=")[0]]


@covers("GET /v1/mcp/servers/{server_id}")
async def test_a_server_is_shown(client: Client) -> None:
    found = await client.ask("GET /v1/mcp/servers/{server_id}")
    assert found["capabilities"]["tools"] == ["read_file"]
    assert found["capabilities"]["resources"] == ["file:///notes", "file:///{path}"]
    assert found["server_metadata"]["version"] == "1"
    assert found["server_metadata"]["protocol_version"] == "2025-11-25"


@covers("PUT /v1/mcp/servers/{server_id}")
async def test_a_server_is_changed(client: Client) -> None:
    before = await client.ask("GET /v1/mcp/servers/{server_id}")
    sent = {"name": "Updated", "description": "Updated description", "tags": ["filesystem", "updated"]}
    after = await client.ask("PUT /v1/mcp/servers/{server_id}", sent)
    assert {name: after[name] for name in sent} == sent
    assert after["updated_at"] > before["updated_at"]
    assert after["capabilities"] == before["capabilities"]
    await client.ask("PUT /v1/mcp/servers/{server_id}", {"status": "inactive"})
    assert (await client.ask("GET /v1/mcp/servers", query="status=inactive"))["total"] == 1
    await client.ask("POST /v1/mcp/servers", {"name": "Other", "base_url": NOBODY})
    await client.refused("PUT /v1/mcp/servers/{server_id}", 409, {"name": "Other"})
    await client.refused("PUT /v1/mcp/servers/{server_id}", 422, {"status": "asleep"})


@covers("DELETE /v1/mcp/servers/{server_id}")
async def test_a_deleted_server_is_gone(client: Client) -> None:
    await client.ask("DELETE /v1/mcp/servers/{server_id}")
    await client.refused("GET /v1/mcp/servers/{server_id}", 404)
    await client.refused("DELETE /v1/mcp/servers/{server_id}", 404)
    assert (await client.ask("GET /v1/mcp/servers"))["total"] == 0


@pytest.mark.parametrize("endpoint", [name for name in SERVED if "{server_id}" in name and name[:2] != "WE"])
async def test_an_unknown_server_is_not_found(client: Client, endpoint: str) -> None:
    bodies = {
        "capabilities/test": {"method": "tools/list"},
        "health/alerts": {"type": "custom_alert", "severity": "info", "message": "hello"},
        "health/notifications": {"name": "Mail", "type": "email", "config": {"recipients": ["ada@acme.test"]}},
    }
    body = next((body for end, body in bodies.items() if endpoint.endswith(end)), {})
    reads = endpoint.startswith(("GET", "DELETE"))
    for server_id in (UNKNOWN, "server-123"):
        error = await client.refused(endpoint, 404, None if reads else body, server_id=server_id)
        assert (error["title"], error["detail"]) == ("Not Found", "MCP server not found")


@pytest.mark.parametrize("endpoint", [n for n, e in SERVED.items() if n[:2] != "WE" and "auth" not in n and not e.open])
async def test_without_a_credential_nothing_is_told(client: Client, door: Door, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    assert client.server is not None
    answer = await door.send(method, path.format(server_id=client.server, org_id=UNKNOWN), {})
    assert answer.status == 401
    assert (answer.json()["title"], answer.json()["detail"]) == ("Authentication required", "Missing Bearer token")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_forms_tell_what_differs() -> None:
    wanted = ENDPOINTS["GET /v1/mcp/servers"].answer
    assert list(differences(wanted, {"servers": [{}], "total": "1", "limit": True}))[-3:] == [
        "answer.total is no int: '1'",
        "answer.limit is no int: True",
        "answer.offset is missing",
    ]
