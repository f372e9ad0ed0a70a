"""Registry API, OIDC Authentication Flow, against an issuer of the test's own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.contract.covers import covers
from tests.contract.registry.client import Client
from tests.contract.registry.endpoints import ENDPOINTS
from tests.gateway.mcp.door import Door, opened
from tests.support.issuer import fake_issuer

LOGIN, CALLBACK = "GET /v1/auth/oidc/login", "GET /v1/auth/oidc/callback"
LOGOUT = "POST /v1/auth/oidc/logout"
HOST = {"X-Request-ID": "from-a-browser"}


@covers("GET /v1/auth/oidc/login", "GET /v1/auth/oidc/callback", "POST /v1/auth/oidc/logout")
async def test_people_are_sent_to_the_provider_and_back(tmp_path: Path) -> None:
    async with fake_issuer() as issuer:
        settings = {"oidc_issuer": issuer.url, "oidc_client_id": "here", "oidc_client_secret": "s"}
        async with opened(tmp_path / "data", **settings) as door:
            answer = await door.send("GET", LOGIN.split()[1], HOST)
            assert answer.status == ENDPOINTS[LOGIN].status
            assert answer.headers["location"].startswith(f"{issuer.url}/authorize?")
            wanted = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
            cookie = answer.headers["set-cookie"].partition(";")[0]
            claims = {"aud": "here", "nonce": wanted["nonce"], "email": "ada@people.test", "email_verified": True}
            issuer.answer = lambda _form: claims
            query = urlencode({"code": "abc123", "state": wanted["state"]})
            answer = await door.send("GET", f"{CALLBACK.split()[1]}?{query}", HOST | {"Cookie": cookie})
            assert answer.status == ENDPOINTS[CALLBACK].status
            assert answer.headers["location"] == "/docs"
            # Once more, or with an error, it leads to the page that says so.
            for again in (query, urlencode({"error": "access_denied", "error_description": "no", "state": "xyz"})):
                answer = await door.send("GET", f"{CALLBACK.split()[1]}?{again}", HOST)
                assert (answer.status, answer.headers["location"]) == (302, "/login?failed=OIDC_LOGIN_FAILED")
            client = Client(door)
            body = await client.ask(LOGOUT, {"post_logout_redirect_uri": "http://localhost:3000"})
            assert body["logout_url"].startswith(f"{issuer.url}/logout?")
            assert "post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A3000" in body["logout_url"]


@covers("GET /v1/auth/oidc/login")
async def test_without_a_provider_it_says_what_to_set(door: Door) -> None:
    client = Client(door)
    for endpoint in (LOGIN, CALLBACK, LOGOUT):
        error = await client.refused(endpoint, 503, {} if endpoint == LOGOUT else None)
        assert "GATEHOUSE_OIDC_ISSUER" in error["detail"]
