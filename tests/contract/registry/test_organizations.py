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
