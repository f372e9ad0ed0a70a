"""Without a good credential every door is closed, and nothing behind one is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from registry.identity.models import ApiKey
from tests.contract.registry.client import Client
from tests.gateway.mcp.door import LEGACY, MODERN
from tests.gateway.tenancy.house import BODIES, House, dumped
from tests.support.attacks import attack

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "own__say",
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
OPENING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
}
MIRRORED = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "own__say"}
DOORS = {
    f"{what} {path}": (method, path, headers, body)
    for what, method, headers, body in (
        ("a modern call", "POST", MIRRORED, CALL),
        ("a legacy opening", "POST", {}, OPENING),
        ("a legacy call", "POST", {"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": "s"}, CALL),
        ("a stream", "GET", {"Accept": "text/event-stream"}, None),
        ("an ending", "DELETE", {"Mcp-Session-Id": "s"}, None),
    )
    for path in ("/mcp", "/mcp/", "/servers/own/mcp", "/sets/own/mcp", "/ws/own/mcp", "/sse", "/servers/own/sse")
    if method == "GET" or not path.endswith("sse")
}


@dataclass
class Broken:
    """Args: bad: headers that are no credential, by what is wrong with them; good: that are one."""

    bad: dict[str, dict[str, str]]
    good: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broken(house: House) -> AsyncIterator[Broken]:
    async def made(name: str) -> tuple[int, str]:
        answer = await house.door.rest("POST", "/v1/api-keys", {"name": name}, key=house.admin)
        assert answer.status == 201
        return answer.json()["id"], answer.json()["api_key"]

    expired_id, expired = await made("expired")
    async with house.door.app.database.transaction() as session:
        (await session.get_one(ApiKey, expired_id)).expires_at = house.door.app.ground.clock.now()
    key_id, revoked = await made("revoked")
    assert (await house.door.rest("DELETE", f"/v1/api-keys/{key_id}", key=house.admin)).status == 204
    prefix = house.admin.split("_")[1]
    bearers = {
        "nothing after it": "Bearer ",
        "the word alone": "Bearer",
        "a word": "Bearer undefined",
        "no scheme": house.admin,
        "another scheme": f"Basic {house.admin}",
        "a cut key": f"Bearer {house.admin[:-1]}",
        "a longer key": f"Bearer {house.admin}A",
        "a prefix with another secret": f"Bearer mcp_{prefix}_{'x' * 43}",
        "an unknown prefix": f"Bearer mcp_zzzzzzzz_{'x' * 43}",
        "an expired key": f"Bearer {expired}",
        "a revoked key": f"Bearer {revoked}",
        "two keys in one": f"Bearer {house.admin}, Bearer {house.member}",
        "an unsigned token": "Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJ4In0.",
        "an unknown session": f"Bearer ses_{'x' * 43}",
        "an unknown access token": f"Bearer goa_{'x' * 43}",
    }
    bad = {what: {"Authorization": value} for what, value in bearers.items()} | {
        "no header": {},
        "an empty key": {"X-API-Key": ""},
        "an unknown session id": {"X-Session-ID": "session-123"},
        "an empty session id": {"X-Session-ID": ""},
        "an unknown cookie": {"Cookie": "gatehouse_session=ses_x; __Host-gatehouse_session=ses_y"},
        "a key as a cookie": {"Cookie": f"api_key={house.admin}; token={house.admin}"},
        "two that differ": {"Authorization": f"Bearer {house.admin}", "X-API-Key": house.member},
        "another's header": {"X-Forwarded-User": "admin", "X-User-ID": house.mine["user_id"], "X-Role": "admin"},
    }
    yield Broken(bad, house.admin)


@attack(15)
async def test_no_operation_answers_a_broken_credential(house: House, broken: Broken) -> None:
    before, hits = await house.rows(), house.hits()
    closed = [name for name, told in house.operations.items() if "security" in told]
    assert len(closed) > 100
    for operation in closed:
        method, _, path = operation.partition(" ")
        path = path.format(**house.ids(operation, own=house.mine))
        for what, headers in broken.bad.items():
            sent = {"Content-Type": "application/json", **headers}
            answer = await house.door.send(method, path, sent, dumped(BODIES.get(operation)))
            assert answer.status == 401, (operation, what, answer)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for query in (f"api_key={broken.good}", f"token={broken.good}", f"access_token={broken.good}"):
            answer = await house.door.send(method, f"{path}?{query}", {})
            assert answer.status == 401, (operation, query, answer)
    assert (await house.rows(), house.hits()) == (before, hits)


@attack(15)
@pytest.mark.parametrize("door", DOORS)
async def test_no_mcp_address_answers_a_broken_credential(house: House, broken: Broken, door: str) -> None:
    method, path, headers, body = DOORS[door]
    hits = house.hits()
    accepts = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    for what, credential in broken.bad.items():
        answer = await house.door.send(method, path, accepts | headers | credential, dumped(body))
        assert answer.status in (401, 405), (what, answer)
        assert answer.status == 401 or method != "POST", what
    assert house.hits() == hits


@attack(15)
async def test_no_socket_follows_a_server_for_a_broken_credential(house: House, broken: Broken) -> None:
    client = Client(house.door)
    for what, headers in broken.bad.items():
        token = headers.get("Authorization", "").removeprefix("Bearer ") or headers.get("X-API-Key", "")
        if token.startswith(broken.good) and len(token) == len(broken.good):
            continue
        async with client.socket(house.mine["server_id"], f"token={token}") as socket, asyncio.timeout(30):
            assert await client.closed(socket) == 4401, what


@attack(15)
async def test_what_is_open_to_all_is_a_short_list(house: House) -> None:
    public = {name for name, told in house.operations.items() if "security" not in told}
    assert public == {
        "GET /health",
        "GET /api/v1/health",
        "POST /api/v1/auth/introspect",
        "POST /v1/auth/api-key/validate",
        "POST /v1/auth/login",
        "POST /v1/auth/refresh",
        "POST /v1/auth/validate",
        "GET /v1/auth/oidc/callback",
        "GET /v1/auth/oidc/login",
        "GET /v1/mcp/connect/callback",
        "GET /v1/mcp/connect/client.json",
        "GET /v1/mcp/servers/{server_id}/connect",
    }
