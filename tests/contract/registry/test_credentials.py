"""Registry API, Traditional Authentication."""

from __future__ import annotations

from pathlib import Path

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door, opened

EMAIL, PASSWORD = "ada@acme.test", "correct horse battery"


@covers("POST /v1/auth/login", "POST /v1/auth/validate", "POST /v1/auth/api-key/validate")
async def test_who_logs_in_has_a_session_that_is_valid(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", admin_email=EMAIL, admin_password=PASSWORD) as door:
        client = Client(door)
        login = await client.ask("POST /v1/auth/login", {"email": EMAIL, "password": PASSWORD})
        assert login["user"]["roles"] == ["admin"]
        found = await client.ask("POST /v1/auth/validate", {"session_id": login["session_id"]})
        assert (found["valid"], found["user"]) == (True, login["user"])
        found = await client.ask("POST /v1/auth/api-key/validate", {"api_key": door.admin})
        assert (found["valid"], found["user"]) == (True, login["user"])
        await client.refused("POST /v1/auth/login", 401, {"email": EMAIL, "password": "wrong"})
        await client.refused("POST /v1/auth/login", 422, {"email": EMAIL})
        for endpoint, body in (
            ("POST /v1/auth/validate", {"session_id": "session-123"}),
            ("POST /v1/auth/api-key/validate", {"api_key": "api-key-123"}),
        ):
            answer = await client.send(endpoint, body)
            assert (answer.status, answer.json()["valid"]) == (200, False)


@covers("POST /v1/auth/permissions/check")
async def test_permissions_are_checked(door: Door) -> None:
    client = Client(door)
    wanted = {"permissions": ["mcp:servers:read", "mcp:servers:create"]}
    assert (await client.ask("POST /v1/auth/permissions/check", wanted))["has_permissions"] is True
    answer = await client.send("POST /v1/auth/permissions/check", wanted, key=door.agent)
    assert answer.json() == {"has_permissions": False, "missing_permissions": ["mcp:servers:create"]}
