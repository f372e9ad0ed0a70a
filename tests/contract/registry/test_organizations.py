"""Registry API, Organizations."""

from __future__ import annotations

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door

UNKNOWN = "00000000-0000-4000-8000-000000000000"
DEFAULTS = {
    "max_servers": 1000,
    "allowed_environments": ["development", "staging", "production"],
    "features": {"analytics": True, "webhooks": True, "audit_logs": True},
}


@covers("GET /v1/organizations", "GET /v1/organizations/{org_id}")
async def test_organizations_are_shown_with_their_users(door: Door) -> None:
    client = Client(door)
    (listed,) = (await client.ask("GET /v1/organizations"))["organizations"]
    assert listed["settings"] == DEFAULTS
    found = await client.ask("GET /v1/organizations/{org_id}", org_id=listed["id"])
    assert {name: found[name] for name in listed} == listed
    assert [user["roles"] for user in found["users"]] == [["admin"]]
    await client.refused("GET /v1/organizations/{org_id}", 404, org_id=UNKNOWN)
    await client.refused("GET /v1/organizations", 403, key=door.agent)


async def test_an_organization_s_settings_are_kept_to(door: Door) -> None:
    client = Client(door)
    org_id = (await client.ask("GET /v1/organizations"))["organizations"][0]["id"]

    async def allow(**settings: object) -> int:
        return (await door.rest("PUT", f"/v1/organizations/{org_id}", {"settings": settings})).status

    async def register(name: str, environment: str = "development") -> int:
        body = {"name": name, "base_url": "http://127.0.0.1:9/mcp", "environment": environment}
        return (await client.send("POST /v1/mcp/servers", body)).status

    assert await allow(max_servers=1, allowed_environments=["staging"]) == 200
    assert await register("one") == 422
    assert await register("one", "staging") == 201
    assert await register("two", "staging") == 409
    (listed,) = (await client.ask("GET /v1/mcp/servers"))["servers"]
    await client.refused("PUT /v1/mcp/servers/{server_id}", 422, {"environment": "production"}, server_id=listed["id"])
    settings = (await client.ask("GET /v1/organizations"))["organizations"][0]["settings"]
    assert settings == {**DEFAULTS, "max_servers": 1, "allowed_environments": ["staging"]}
    assert await allow(max_servers=-1) == 422
    assert (await door.rest("PUT", f"/v1/organizations/{org_id}", {"name": "Acme"}, key=door.agent)).status == 403
