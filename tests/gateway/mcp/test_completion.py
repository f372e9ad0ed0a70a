"""Completion passes what calls pass: permission, stop, canary, rate; it is recorded, and costs nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp.door import Client, Door, McpError, opened
from tests.gateway.mcp.echo import Echo, echo

OFFER: dict[str, Any] = {
    "prompts": [{"name": "ask"}],
    "templates": [{"uriTemplate": "file:///{path}", "name": "any"}],
}
PROMPT = {"type": "ref/prompt", "name": "echo__ask"}
TEMPLATE = {"type": "ref/resource", "uri": "file:///{path}"}


@pytest.fixture
async def upstream(door: Door) -> AsyncIterator[Echo]:
    async with echo(**OFFER) as made:
        await door.register("echo", made.url, price_usd=1.0)
        yield made


async def complete(client: Client, ref: dict[str, Any], value: str = "a") -> dict[str, Any]:
    """What reached the server."""
    params = {"ref": ref, "argument": {"name": "path", "value": value}}
    result = await client.result("completion/complete", params)
    seen: dict[str, Any] = json.loads(result["completion"]["values"][0])
    return seen


async def records(door: Door) -> list[tuple[str, str, str, float]]:
    found = (await door.rest("GET", "/v1/usage/calls?method=completion/complete")).json()["calls"]
    return [(call["server"], call["name"], call["outcome"], call["cost_usd"]) for call in reversed(found)]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_it_is_recorded_and_free(door: Door, upstream: Echo, era: str) -> None:
    limit = {"name": "one", "unit": "calls", "amount": 0, "action_on_exceed": "block"}
    assert (await door.rest("POST", "/api/v1/budget/limits", limit)).status == 201
    client = await door.either(era, "/mcp", door.agent)
    assert (await complete(client, PROMPT))["ref"]["name"] == "ask"
    assert (await complete(client, TEMPLATE))["ref"]["uri"] == "file:///{path}"
    await door.app.path.recorder.written()
    assert await records(door) == [("echo", "echo__ask", "ok", 0.0), ("echo", "file:///{path}", "ok", 0.0)]


@pytest.mark.parametrize(("ref", "permission"), [(PROMPT, "mcp:prompts:get"), (TEMPLATE, "mcp:resources:read")])
async def test_it_needs_what_using_needs(door: Door, upstream: Echo, ref: dict[str, Any], permission: str) -> None:
    body = {"name": "k", "permissions": ["mcp:prompts:list", "mcp:resources:list"]}
    key = (await door.rest("POST", "/v1/api-keys", body)).json()["api_key"]
    with pytest.raises(McpError, match=permission):
        await complete(door.modern("/mcp", key), ref)
    assert upstream.received == []
    await door.app.path.recorder.written()
    assert [outcome for _, _, outcome, _ in await records(door)] == ["denied"]


async def test_it_is_stopped_and_carries_no_secret_away(door: Door, upstream: Echo) -> None:
    async with echo(**OFFER) as other:
        secret = "hunter2-hunter2-hunter2"
        await door.register("other", other.url, headers={"Authorization": f"Bearer {secret}"})
        with pytest.raises(McpError, match="credential"):
            await complete(door.modern("/mcp", door.agent), PROMPT, secret)
    assert (await door.rest("POST", "/api/v1/emergency/pause-all")).status == 200
    with pytest.raises(McpError) as refused:
        await complete(door.modern("/mcp", door.agent), PROMPT)
    assert refused.value.code == -31000
    assert upstream.received == []


async def test_it_counts_for_rate_limits(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", calls_per_minute=2) as door, echo(**OFFER) as made:
        await door.register("echo", made.url)
        client = door.modern("/mcp", door.agent)
        for _ in range(2):
            await complete(client, PROMPT)
        with pytest.raises(McpError) as refused:
            await complete(client, PROMPT)
        assert refused.value.code == -31002
