"""Registry API, Health Monitoring of a server."""

from __future__ import annotations

from tests.contract.covers import covers
from tests.contract.registry.client import Client

STATUS = "GET /v1/mcp/servers/{server_id}/health"
NOBODY = "http://127.0.0.1:9/mcp"


@covers("GET /v1/mcp/servers/{server_id}/health")
async def test_the_health_of_a_server_is_told(client: Client) -> None:
    found = await client.ask(STATUS)
    assert (found["server_id"], found["health_status"]) == (client.server, "healthy")
    assert set(found["checks"].values()) == {"healthy"}
    assert found["error_message"] is None
    assert found["response_time_ms"] > 0


@covers("GET /v1/mcp/servers/{server_id}/health")
async def test_what_is_wrong_with_a_server_is_told(client: Client) -> None:
    made = await client.ask("POST /v1/mcp/servers", {"name": "Nobody", "base_url": NOBODY})
    found = await client.ask(STATUS, server_id=made["id"])
    assert (found["health_status"], found["checks"]["connectivity"]) == ("unhealthy", "unhealthy")
    assert found["error_message"]
