"""JSON-RPC batches: whole for clients of the revision that has them, a clear refusal for all others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.mcp import batch
from tests.gateway.mcp.door import Door
from tests.gateway.mcp.echo import echo as echo_server
from tests.gateway.mcp.exchange import Exchange

HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
INVALID_REQUEST, PARSE_ERROR = -32600, -32700


@pytest.fixture
async def echo(door: Door) -> AsyncIterator[None]:
    async with echo_server() as server:
        await door.register("Echo", server.url)
        yield


async def session(door: Door, version: str) -> dict[str, str]:
    """The headers of a client that has agreed on this revision."""
    headers = {**HEADERS, "Authorization": f"Bearer {door.agent}"}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    opened = await door.send("POST", "/mcp", headers, json.dumps(request(0, "initialize", params)).encode())
    assert opened.json()["result"]["protocolVersion"] == version
    return {**headers, "Mcp-Session-Id": opened.headers["mcp-session-id"]}


def request(identifier: Any, method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params or {}}


async def sent(door: Door, headers: dict[str, str], body: bytes) -> Exchange:
    return await Exchange(door, "POST", "/mcp", headers, body).done()


@pytest.mark.requirement("jsonrpc.batches-received")
async def test_each_message_of_a_batch_is_answered(door: Door, echo: None) -> None:
    headers = await session(door, batch.VERSION)
    calls = [request(n, "tools/call", {"name": "echo__say", "arguments": {"n": n}}) for n in range(5)]
    messages = [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        *calls,
        request("list", "tools/list"),
        request("none", "tools/call", {"name": "nothing", "arguments": {}}),
        request("again", "initialize"),
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": "gatehouse-of-nobody", "result": {}},
        7,
    ]
    answer = await sent(door, headers, b" \n" + json.dumps(messages).encode())
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    found = answer.messages()
    by_id = {message["id"]: message for message in found if message["id"] is not None}
    assert set(by_id) == {0, 1, 2, 3, 4, "list", "none", "again"}
    for n in range(5):
        assert json.loads(by_id[n]["result"]["content"][0]["text"])["arguments"] == {"n": n}
    assert "echo__say" in [tool["name"] for tool in by_id["list"]["result"]["tools"]]
    assert "error" in by_id["none"]
    assert by_id["again"]["error"]["code"] == INVALID_REQUEST
    unnamed = [message["error"]["code"] for message in found if message["id"] is None]
    assert unnamed == [INVALID_REQUEST, INVALID_REQUEST]


async def test_where_nothing_is_asked_nothing_is_answered(door: Door) -> None:
    headers = await session(door, batch.VERSION)
    messages = [{"jsonrpc": "2.0", "method": "notifications/initialized"}] * 2
    answer = await sent(door, headers, json.dumps(messages).encode())
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_legacy_revisions_have_none(door: Door, version: str) -> None:
    headers = await session(door, version)
    answer = await sent(door, headers, json.dumps([request(1, "ping")]).encode())
    assert answer.status == 400
    error = json.loads(answer.body)["error"]
    assert (error["code"], batch.VERSION in error["message"]) == (INVALID_REQUEST, True)


async def test_the_modern_revision_has_none(door: Door) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {door.agent}", "MCP-Protocol-Version": "2026-07-28"}
    answer = await sent(door, headers, json.dumps([request(1, "tools/list")]).encode())
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, INVALID_REQUEST)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", INVALID_REQUEST),
        (b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"ping"}'] * (batch.MOST + 1)) + b"]", INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}', PARSE_ERROR),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}] []', PARSE_ERROR),
        (b"[" * 200_000, PARSE_ERROR),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(door: Door, body: bytes, code: int) -> None:
    headers = await session(door, batch.VERSION)
    answer = await sent(door, headers, body)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, code)
