"""The authorization server over HTTP: metadata, challenges, clients, codes, audiences, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.gateway.auth.browser import Browser, Page, admin_of, browser
from tests.gateway.conftest import Running
from tests.support.attacks import attack

CALLBACK = "http://127.0.0.1:33418/callback"
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
LIST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


@dataclass
class Flow:
    """A client, the person's browser, and the gateway between them."""

    gateway: Running
    person: Browser
    client_id: str

    def query(self, **changes: str | None) -> str:
        wanted: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "s t",
            "resource": f"{self.gateway.url}/mcp",
            "scope": "mcp:tools:list mcp:tools:call",
        }
        wanted |= changes
        return urlencode({name: value for name, value in wanted.items() if value is not None})

    async def ask(self, **changes: str | None) -> Page:
        return await self.person.open(f"/oauth/authorize?{self.query(**changes)}")

    async def allow(self, page: Page, answer: str = "allow") -> Page:
        return await self.person.submit("/oauth/consent", {"wish": page.field("wish"), "answer": answer})

    async def code(self, **changes: str | None) -> str:
        return (await self.allow(await self.ask(**changes))).query["code"]

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, Any]:
        async with self.gateway.http.post(self.gateway.url + path, data=fields, headers=headers) as answer:
            return answer.status, await answer.json() if await answer.read() else None

    async def exchange(self, code: str, **changes: str) -> tuple[int, Any]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return await self.post("/oauth/token", fields | changes)

    async def tokens(self, **changes: str | None) -> dict[str, Any]:
        status, body = await self.exchange(await self.code(**changes))
        assert status == 200, body
        return body

    async def refresh(self, token: str, **changes: str) -> tuple[int, Any]:
        fields = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id}
        return await self.post("/oauth/token", fields | changes)

    async def mcp(self, token: str | None, path: str = "/mcp", method: str = "tools/list") -> tuple[int, str]:
        """Status and challenge of an MCP request."""
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        body: dict[str, Any] = {**LIST, "method": method}
        if method == "tools/call":
            headers["Mcp-Name"] = "gatehouse__servers_list"
            body["params"] = {**LIST["params"], "name": "gatehouse__servers_list", "arguments": {}}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.gateway.http.post(self.gateway.url + path, json=body, headers=headers) as answer:
            return answer.status, answer.headers.get("WWW-Authenticate", "")


async def register(gateway: Running, **metadata: Any) -> tuple[int, Any]:
    wanted = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "client_name": "Editor"}
    async with gateway.http.post(f"{gateway.url}/oauth/register", json=wanted | metadata) as answer:
        return answer.status, await answer.json()


@pytest.fixture
async def flow(gateway: Running, tmp_path: Path) -> AsyncIterator[Flow]:
    status, client = await register(gateway)
    assert status == 201
    async with browser(gateway.url) as person:
        await person.sign_in(*admin_of(tmp_path / "data"))
        yield Flow(gateway, person, client["client_id"])


async def test_a_client_without_a_token_is_told_where_to_get_one(gateway: Running) -> None:
    for path in ("/mcp", "/servers/notes/mcp", "/sets/mine/mcp"):
        async with gateway.http.post(gateway.url + path, json=LIST) as answer:
            assert answer.status == 401
            told = answer.headers["WWW-Authenticate"]
        assert f'resource_metadata="{gateway.url}/.well-known/oauth-protected-resource{path}"' in told
        assert 'scope="mcp:' in told
        assert "error=" not in told
        async with gateway.http.get(f"{gateway.url}/.well-known/oauth-protected-resource{path}") as answer:
            resource = await answer.json()
        assert (resource["resource"], resource["authorization_servers"]) == (gateway.url + path, [gateway.url])
        assert "offline_access" not in resource["scopes_supported"]
    async with gateway.http.get(f"{gateway.url}/.well-known/oauth-authorization-server") as answer:
        server = await answer.json()
    assert server["issuer"] == gateway.url
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert server["authorization_response_iss_parameter_supported"] is True


@attack(17)
async def test_a_token_opens_its_address_alone(flow: Flow) -> None:
    token = (await flow.tokens())["access_token"]
    assert (await flow.mcp(token))[0] == 200
    status, told = await flow.mcp(token, "/servers/gatehouse/mcp")
    assert (status, 'error="invalid_token"' in told) == (401, True)
    assert (await flow.gateway.rest("GET", "/v1/mcp/servers", key=token))[0] == 401
    whole = (await flow.tokens(resource=flow.gateway.url, scope="mcp:servers:read mcp:tools:list"))["access_token"]
    assert (await flow.mcp(whole))[0] == 200
    assert (await flow.gateway.rest("GET", "/v1/mcp/servers", key=whole))[0] == 200
    # Scopes are permissions: this one was not granted that, and no client is ever granted to make keys.
    assert (await flow.gateway.rest("POST", "/v1/api-keys", {"name": "x"}, key=whole))[0] == 403
    page = await flow.ask(scope="keys:manage gateway:operate users:manage")
    assert page.query["error"] == "invalid_scope"


async def test_a_token_without_the_scope_is_told_what_to_ask_for(flow: Flow) -> None:
    token = (await flow.tokens(scope="mcp:tools:list mcp:servers:read"))["access_token"]
    status, told = await flow.mcp(token, method="tools/call")
    assert status == 403
    assert 'error="insufficient_scope"' in told
    assert 'scope="mcp:tools:call"' in told
    assert "resource_metadata=" in told
    wider = (await flow.tokens(scope="mcp:tools:list mcp:tools:call mcp:servers:read"))["access_token"]
    assert (await flow.mcp(wider, method="tools/call"))[0] == 200


@attack(20)
async def test_a_code_serves_once_and_its_replay_ends_what_came_of_it(flow: Flow) -> None:
    code = await flow.code()
    status, tokens = await flow.exchange(code)
    assert status == 200
    assert (await flow.mcp(tokens["access_token"]))[0] == 200
    status, refused = await flow.exchange(code)
    assert (status, refused["error"]) == (400, "invalid_grant")
    assert (await flow.mcp(tokens["access_token"]))[0] == 401
    assert (await flow.refresh(tokens["refresh_token"]))[0] == 400


async def test_a_code_is_no_use_to_who_did_not_ask_for_it(flow: Flow) -> None:
    _, other = await register(flow.gateway)
    for name, value in {
        "code_verifier": "w" * 50,
        "redirect_uri": CALLBACK + "x",
        "resource": "http://evil.example/mcp",
        "client_id": other["client_id"],
    }.items():
        code = await flow.code()
        status, refused = await flow.exchange(code, **{name: value})
        assert (status, refused["error"]) == (400, "invalid_target" if name == "resource" else "invalid_grant")
        # It was used up by that.
        assert (await flow.exchange(code))[0] == 400


@attack(21)
async def test_refresh_tokens_rotate_and_a_replay_ends_the_family(flow: Flow) -> None:
    first = await flow.tokens()
    status, second = await flow.refresh(first["refresh_token"], scope="mcp:tools:list")
    assert (status, second["scope"]) == (200, "mcp:tools:list")
    assert (await flow.refresh(second["refresh_token"], scope="mcp:tools:list audit:read"))[1][
        "error"
    ] == "invalid_scope"
    status, refused = await flow.refresh(first["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")
    for token in (first["access_token"], second["access_token"]):
        assert (await flow.mcp(token))[0] == 401


async def test_a_client_ends_its_tokens(flow: Flow) -> None:
    tokens = await flow.tokens()
    fields = {"token": tokens["access_token"], "client_id": flow.client_id}
    assert (await flow.post("/oauth/revoke", fields))[0] == 200
    assert (await flow.mcp(tokens["access_token"]))[0] == 401
    _, again = await flow.refresh(tokens["refresh_token"])
    assert (await flow.post("/oauth/revoke", fields | {"token": again["refresh_token"]}))[0] == 200
    assert (await flow.mcp(again["access_token"]))[0] == 401
    assert (await flow.post("/oauth/revoke", fields | {"token": "oat_unknown"}))[0] == 200


async def test_introspection_is_for_the_client_itself(flow: Flow) -> None:
    _, secretive = await register(flow.gateway, token_endpoint_auth_method="client_secret_post")
    proof = {"client_id": secretive["client_id"], "client_secret": secretive["client_secret"]}
    public = Flow(flow.gateway, flow.person, flow.client_id)
    own = Flow(flow.gateway, flow.person, secretive["client_id"])
    status, tokens = await own.exchange(await own.code(), client_secret=secretive["client_secret"])
    assert status == 200
    _, told = await flow.post("/oauth/introspect", proof | {"token": tokens["access_token"]})
    assert (told["active"], told["client_id"], told["aud"]) == (True, own.client_id, "/mcp")
    foreign = (await public.tokens())["access_token"]
    assert (await flow.post("/oauth/introspect", proof | {"token": foreign}))[1] == {"active": False}
    assert (await flow.post("/oauth/introspect", {"client_id": flow.client_id, "token": foreign}))[0] == 401
    status, _ = await flow.post("/oauth/introspect", proof | {"client_secret": "wrong", "token": foreign})
    assert status == 401
    basic = base64.b64encode(f"{secretive['client_id']}:{secretive['client_secret']}".encode()).decode()
    _, told = await flow.post("/oauth/introspect", {"token": tokens["access_token"]}, Authorization=f"Basic {basic}")
    assert told["active"] is True


FOREIGN: list[dict[str, str | None]] = [
    {"client_id": "client_unknown"},
    {"client_id": None},
    {"redirect_uri": "http://127.0.0.1:33418/other"},
    {"redirect_uri": "http://evil.example/callback"},
    {"redirect_uri": "http://127.0.0.1:33418/callback#x"},
    {"redirect_uri": "http://127.0.0.1.evil.example:33418/callback"},
    {"redirect_uri": "javascript:alert(1)"},
]


@attack(20)
async def test_nobody_is_sent_to_an_address_that_is_not_the_client_s(flow: Flow) -> None:
    for changes in FOREIGN:
        page = await flow.ask(**changes)
        assert page.status == 400, changes
        assert page.url.startswith(flow.gateway.url)


WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"resource": "http://evil.example/mcp"}, "invalid_target"),
    ({"scope": "no such"}, "invalid_scope"),
    ({"prompt": "none"}, "interaction_required"),
    ({"request_uri": "https://evil.example/"}, "request_not_supported"),
]


async def test_a_client_learns_what_is_wrong_with_its_request(flow: Flow) -> None:
    for changes, error in WRONG:
        page = await flow.ask(**changes)
        assert page.url.startswith(CALLBACK), changes
        assert (page.query["error"], page.query["state"], page.query["iss"]) == (error, "s t", flow.gateway.url)


@attack(12, 20)
async def test_the_consent_page_belongs_to_the_person_who_sees_it(flow: Flow, tmp_path: Path) -> None:
    page = await flow.ask()
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    # Another site posts the form, with the cookie.
    fields = {"wish": page.field("wish"), "answer": "allow"}
    for site in ("cross-site", "same-site", "none"):
        assert (await flow.person.submit("/oauth/consent", fields, site=site)).status == 403
    # Somebody else who got hold of it.
    async with browser(flow.gateway.url) as other:
        assert (await other.submit("/oauth/consent", fields)).status == 401
        await other.sign_in(*admin_of(tmp_path / "data"))
        assert (await other.submit("/oauth/consent", fields)).status == 403
    denied = await flow.allow(page, "deny")
    assert denied.query["error"] == "access_denied"


async def test_ports_of_loopback_are_free_and_names_of_clients_are_text(flow: Flow) -> None:
    assert (await flow.allow(await flow.ask(redirect_uri="http://127.0.0.1:5/callback"))).url.startswith(
        "http://127.0.0.1:5/callback?code="
    )
    _, client = await register(flow.gateway, client_name="<script>alert(1)</script>")
    page = await flow.ask(client_id=client["client_id"])
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


REFUSED: list[dict[str, Any]] = [
    {"redirect_uris": []},
    {"redirect_uris": ["http://evil.example/callback"]},
    {"redirect_uris": ["javascript:alert(1)"]},
    {"redirect_uris": ["data:text/html,x"]},
    {"redirect_uris": ["https://u:p@client.example/"]},
    {"redirect_uris": ["https://client.example/#x"]},
    {"redirect_uris": "https://client.example/"},
    {"token_endpoint_auth_method": "private_key_jwt"},
    {"grant_types": ["client_credentials"]},
    {"response_types": ["token"]},
    {"client_name": 1},
]


async def test_registrations_that_are_refused(gateway: Running) -> None:
    for metadata in REFUSED:
        status, body = await register(gateway, **metadata)
        assert status == 400, metadata
        assert body["error"] in ("invalid_redirect_uri", "invalid_client_metadata")
    status, body = await register(gateway, redirect_uris=["cursor://editor/callback", "https://client.example/cb"])
    assert (status, "client_secret" in body) == (201, False)
