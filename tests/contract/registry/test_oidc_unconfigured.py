"""Registry API, OIDC Authentication Flow without a provider; with one it is driven in tests/gateway/auth."""

from __future__ import annotations

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import Door


@covers("GET /v1/auth/oidc/login", "GET /v1/auth/oidc/callback", "POST /v1/auth/oidc/logout")
async def test_without_a_provider_nothing_pretends_to_work(door: Door) -> None:
    client = Client(door)
    answers = [
        await client.send("GET /v1/auth/oidc/login"),
        await client.send("GET /v1/auth/oidc/callback", query="code=abc123&state=xyz789"),
        await client.send("POST /v1/auth/oidc/logout", {"post_logout_redirect_uri": "http://localhost:3000"}),
    ]
    assert all(400 <= answer.status <= 503 for answer in answers)
    assert answers[0].status == 503
