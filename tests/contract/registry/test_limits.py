"""Registry API, Rate Limiting: each group of endpoints has its own count, told in the headers of every answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.contract.registry.client import Client
from tests.contract.registry.endpoints import ENDPOINTS, SERVED
from tests.gateway.mcp.door import opened

UNKNOWN = "00000000-0000-4000-8000-000000000000"
LIMITED = [name for name, one in SERVED.items() if one.limit is not None]


@pytest.mark.parametrize("endpoint", LIMITED)
async def test_answers_tell_what_is_left(tmp_path: Path, endpoint: str) -> None:
    limit = ENDPOINTS[endpoint].limit
    assert limit is not None
    async with opened(tmp_path / "data", rate_limits="on") as door:
        client = Client(door, UNKNOWN)
        body = None if endpoint.startswith(("GET", "DELETE")) else {}
        for left in (limit.amount - 1, limit.amount - 2):
            headers = (await client.send(endpoint, body)).headers
            assert int(headers["x-ratelimit-limit"]) == limit.amount
            assert int(headers["x-ratelimit-remaining"]) == left
            assert 0 <= int(headers["x-ratelimit-reset"]) - time.time() <= 61


async def test_the_eleventh_login_of_a_minute_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", rate_limits="on") as door:
        client = Client(door)
        for _ in range(10):
            await client.refused("POST /v1/auth/login", 422, {})
        error = await client.refused("POST /v1/auth/login", 429, {})
        assert error["error"]["code"] == "RATE_LIMIT_EXCEEDED"
        assert 0 < error["retry_after"] <= 60
