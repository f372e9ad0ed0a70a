"""Registry API, Rate Limiting: each group of endpoints has its own count, told in the headers of every answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.contract.registry.client import Client
from tests.contract.registry.endpoints import ERROR, SERVED, Limit
from tests.contract.shapes import differences
from tests.gateway.mcp.door import opened
from tests.support.identity import add_key, add_user

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_answers_tell_what_is_left(tmp_path: Path) -> None:
    used: dict[Limit, int] = {}
    async with opened(tmp_path / "data", rate_limits="on") as door:
        client = Client(door, UNKNOWN)
        for endpoint, promised in SERVED.items():
            if (limit := promised.limit) is None:
                continue
            used[limit] = used.get(limit, 0) + 1
            headers = (await client.send(endpoint, None if endpoint.startswith(("GET", "DELETE")) else {})).headers
            assert int(headers["x-ratelimit-limit"]) == limit.amount, endpoint
            assert int(headers["x-ratelimit-remaining"]) == limit.amount - used[limit], endpoint
            assert 0 <= int(headers["x-ratelimit-reset"]) - time.time() <= 61
    assert len(used) == 4


@pytest.mark.parametrize(
    ("endpoint", "others"),
    [
        ("GET /v1/mcp/servers", "GET /v1/mcp/servers/{server_id}/health"),
        ("POST /v1/mcp/servers/{server_id}/capabilities/discover", "GET /v1/mcp/servers"),
        ("GET /v1/mcp/servers/{server_id}/health", "GET /v1/mcp/servers"),
    ],
)
async def test_one_user_s_requests_count_together_and_nobody_else_s(tmp_path: Path, endpoint: str, others: str) -> None:
    limit = SERVED[endpoint].limit
    assert limit is not None
    async with opened(tmp_path / "data", rate_limits="on") as door:
        client = Client(door, UNKNOWN)
        second = (await door.rest("POST", "/v1/api-keys", {"name": "second"})).json()["api_key"]
        org_id = (await door.rest("GET", "/v1/organizations")).json()["organizations"][0]["id"]
        database, identity = door.app.database, door.app._services.identity
        somebody = await add_user(database, door.app.ground.clock, org_id, "max@acme.test", role="admin")
        _, elses = await add_key(database, identity, somebody)
        for number in range(limit.amount):
            answer = await client.send(endpoint, key=(door.admin, second)[number % 2])
            assert answer.status in (200, 404)
        for key in (door.admin, second):
            answer = await client.send(endpoint, key=key)
            assert (answer.status, answer.headers["x-ratelimit-remaining"]) == (429, "0")
            error = answer.json()
            assert list(differences(ERROR, error)) == []
            assert 0 < error["retry_after"] <= 60
        assert (await client.send(endpoint, key=elses)).status in (200, 404)
        assert (await client.send(others)).status in (200, 404)


async def test_the_eleventh_login_of_a_minute_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", rate_limits="on") as door:
        client = Client(door)
        for _ in range(10):
            await client.refused("POST /v1/auth/login", 422, {})
        error = await client.refused("POST /v1/auth/login", 429, {})
        assert error["error"]["code"] == "RATE_LIMIT_EXCEEDED"
        assert 0 < error["retry_after"] <= 60
