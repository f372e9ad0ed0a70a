"""Registry API, MCP Server Management."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import func, select

from registry.accounts.models import ServerAccount, ServerLogin
from registry.health.models import HealthAlert, HealthRollup, HealthSample
from registry.notifications.models import NotificationChannel
from registry.pins.models import Pin
from registry.servers.models import Capability
from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.contract.registry.endpoints import ENDPOINTS, SERVED
from tests.contract.shapes import differences
from tests.gateway.mcp.door import Door
from tests.support.canary import canary, http_answer

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


@covers("DELETE /v1/mcp/servers/{server_id}")
async def test_what_was_kept_for_a_deleted_server_goes_by_a_job(client: Client, door: Door) -> None:
    async with canary(http_answer(200, b"{}")) as hook:
        one = f"/v1/mcp/servers/{client.server}"
        config = {"url": f"{hook.url}in"}
        channel = {"name": "hook", "type": "webhook", "config": config}
        await client.ask("POST /v1/mcp/servers/{server_id}/health/notifications", channel)
        organizations = await door.rest("POST", "/v1/notifications/channels", channel)
        assert (organizations.status, organizations.json()["server_id"]) == (201, None)
        alert = {"type": "custom_alert", "severity": "info", "message": "hello"}
        await client.ask("POST /v1/mcp/servers/{server_id}/health/alerts", alert)
        assert (await door.rest("PUT", f"{one}/login", {"kind": "static"})).status == 200
        brought = {"headers": {"Authorization": "Bearer brought"}}
        assert (await door.rest("PUT", f"{one}/account", brought)).status == 204
        deleted = await client.ask("DELETE /v1/mcp/servers/{server_id}")
        # The alert's end is told before the channels go: the job waits for that.
        async with asyncio.timeout(60):
            while (job := (await door.rest("GET", f"/v1/jobs/{deleted['cleanup_job_id']}")).json())["status"] != "done":
                await asyncio.sleep(0.05)
        assert (job["topic"], job["payload"]) == ("servers.cleanup", {"server_id": client.server})
        told = sorted(json.loads(request.partition(b"\r\n\r\n")[2])["type"] for request in hook.requests)
        assert told == ["alert.raised", "alert.raised", "alert.resolved", "alert.resolved"]
    counts = {}
    async with door.app.database.reading() as session:
        for kept in (ServerLogin, ServerAccount, NotificationChannel, HealthSample, HealthRollup, Capability, Pin):
            counted = select(func.count()).select_from(kept).where(kept.server_id == client.server)
            counts[kept.__name__] = await session.scalar(counted)
        open_now = await session.scalar(select(func.count(HealthAlert.id)).where(HealthAlert.resolved_at.is_(None)))
    assert (set(counts.values()), open_now) == ({0}, 0), counts
    # What hears of every server stays.
    (left,) = (await door.rest("GET", "/v1/notifications/channels")).json()["channels"]
    assert left["id"] == organizations.json()["id"]
    assert (await door.rest("GET", f"/v1/jobs/{deleted['cleanup_job_id']}", key=door.agent)).status == 403


async def test_an_unknown_server_is_not_found(client: Client) -> None:
    bodies = {
        "capabilities/test": {"method": "tools/list"},
        "health/alerts": {"type": "custom_alert", "severity": "info", "message": "hello"},
        "health/notifications": {"name": "Mail", "type": "email", "config": {"recipients": ["ada@acme.test"]}},
    }
    for endpoint in (name for name in SERVED if "{server_id}" in name and not name.startswith("WEBSOCKET")):
        body = next((body for end, body in bodies.items() if endpoint.endswith(end)), {})
        reads = endpoint.startswith(("GET", "DELETE"))
        for server_id in (UNKNOWN, "server-123"):
            error = await client.refused(endpoint, 404, None if reads else body, server_id=server_id)
            assert (error["title"], error["detail"]) == ("Not Found", "MCP server not found"), endpoint


async def test_without_a_credential_nothing_is_told(client: Client, door: Door) -> None:
    assert client.server is not None
    for endpoint, promised in SERVED.items():
        method, _, path = endpoint.partition(" ")
        if promised.open or method == "WEBSOCKET" or "/auth/" in path:
            continue
        answer = await door.send(method, path.format(server_id=client.server, org_id=UNKNOWN), {})
        assert answer.status == 401, endpoint
        error = answer.json()
        assert (error["title"], error["detail"]) == ("Authentication required", "Missing Bearer token")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_forms_tell_what_differs() -> None:
    wanted = ENDPOINTS["GET /v1/mcp/servers"].answer
    assert list(differences(wanted, {"servers": [{}], "total": "1", "limit": True}))[-3:] == [
        "answer.total is no int: '1'",
        "answer.limit is no int: True",
        "answer.offset is missing",
    ]
