"""Budgets at the gateway's MCP door: what a call costs, who refuses it, and what is never refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from sqlalchemy import select

from registry.budgets.events import BudgetAlert
from registry.usage.models import CallRecord
from tests.gateway.mcp.door import Door, McpError
from tests.gateway.mcp.echo import Echo, echo, tool
from tests.registry.budgets.sums import accounts

LIMITS = "/api/v1/budget/limits"


@pytest.fixture
async def upstream() -> AsyncIterator[Echo]:
    async with echo(tools=[tool("say"), tool("shout")], prompts=[{"name": "greet"}]) as made:
        yield made


async def _limit(door: Door, **fields: Any) -> dict[str, Any]:
    body = {"name": "fifty", "unit": "calls", "amount": 50, "action_on_exceed": "block", **fields}
    answer = await door.rest("POST", LIMITS, body)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


async def _refused(call: Awaitable[Any]) -> dict[str, Any]:
    with pytest.raises(McpError) as raised:
        await call
    assert raised.value.code == -31001, raised.value
    data: dict[str, Any] = raised.value.error["data"]
    return data


async def _passed(calls: list[Awaitable[Any]]) -> int:
    done = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [result for result in done if isinstance(result, McpError)]
    assert all(refusal.code == -31001 for refusal in refusals), refusals
    assert not [result for result in done if isinstance(result, BaseException) and result not in refusals]
    return len(done) - len(refusals)


async def test_of_two_hundred_calls_at_once_fifty_reach_the_server(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await _limit(door)
    client = door.modern("/mcp", door.agent)
    assert await _passed([client.call("echo__say") for _ in range(200)]) == 50
    assert len(upstream.received) == 50
    (before,) = await accounts(door.app.database)
    assert before.spent + before.reserved == 50
    await door.app.path.desk.tick()
    (after,) = await accounts(door.app.database)
    assert (after.spent, after.reserved) == (50, 0)


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_refusal_names_the_limit_and_when_it_resets(door: Door, upstream: Echo, era: str) -> None:
    await door.register("echo", upstream.url)
    limit = await _limit(door, amount=1)
    client = await door.either(era, "/mcp", door.agent)
    await client.call("echo__say")
    data = await _refused(client.call("echo__say"))
    assert data["code"] == "BUDGET_EXCEEDED"
    assert data["limit"] == "fifty"
    assert data["limit_id"] == limit["id"]
    assert data["resets_at"] == limit["resets_at"]


async def test_the_same_refusal_is_402_over_rest(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await _limit(door, amount=1)
    assert (await door.rest("POST", "/v1/tools/echo__say", {})).status == 200
    answer = await door.rest("POST", "/v1/tools/echo__say", {})
    assert answer.status == 402
    assert answer.json()["error"]["code"] == "BUDGET_EXCEEDED"
    assert answer.json()["error"]["details"]["limit"] == "fifty"


async def test_reading_the_budget_and_the_stop_are_never_held(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await _limit(door, amount=0)
    client = door.modern("/mcp", door.admin)
    await _refused(client.call("echo__say"))
    await client.result("tools/call", {"name": "gatehouse__budget_summary", "arguments": {}})
    await _refused(client.result("tools/call", {"name": "gatehouse__budget_limits_delete", "arguments": {"id": "x"}}))


async def test_a_tools_limit_leaves_the_other_tools(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await _limit(door, amount=1, scope_type="tool", scope_id="echo__say")
    client = door.modern("/mcp", door.agent)
    for _ in range(3):
        await client.call("echo__shout")
    await client.call("echo__say")
    await _refused(client.call("echo__say"))


async def test_a_servers_limit_counts_all_it_is_asked(door: Door, upstream: Echo) -> None:
    server = await door.register("echo", upstream.url)
    await _limit(door, amount=2, scope_type="server", scope_id=server["id"])
    client = door.modern("/mcp", door.agent)
    await client.call("echo__say")
    await client.result("prompts/get", {"name": "echo__greet"})
    await _refused(client.call("echo__shout"))


async def test_a_keys_limit_leaves_the_other_keys(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    key = (await door.rest("POST", "/v1/api-keys", {"name": "second"})).json()
    await _limit(door, amount=1, scope_type="key", scope_id=str(key["id"]))
    client = door.modern("/mcp", key["api_key"])
    await client.call("echo__say")
    await _refused(client.call("echo__say"))
    await door.modern("/mcp", door.agent).call("echo__say")


async def test_calls_cost_what_their_tool_or_server_does(door: Door, upstream: Echo) -> None:
    server = await door.register("echo", upstream.url, price_usd=0.25)
    path = f"/v1/mcp/servers/{server['id']}/tools/shout/price"
    assert (await door.rest("PUT", path, {"price_usd": 0.01})).status == 200
    await _limit(door, unit="usd", amount=1)
    client = door.modern("/mcp", door.agent)
    for name in ("say", "shout", "shout"):
        await client.call(f"echo__{name}")
    assert await _passed([client.call("echo__say") for _ in range(5)]) == 2
    await door.app.path.recorder.written()
    async with door.app.database.reading() as session:
        query = select(CallRecord.name, CallRecord.cost_usd, CallRecord.outcome).order_by(CallRecord.id)
        rows = [tuple(row) for row in (await session.execute(query)).all()]
    assert rows[:3] == [("echo__say", 0.25, "ok"), ("echo__shout", 0.01, "ok"), ("echo__shout", 0.01, "ok")]
    assert sorted(row[1] for row in rows[3:] if row[2] == "denied") == [0.0, 0.0, 0.0]
    await door.app.path.desk.tick()
    await door.app.path.desk.tick()
    (account,) = await accounts(door.app.database)
    assert (account.spent, account.reserved) == (770_000_000, 0)
    summary = (await door.rest("GET", "/api/v1/budget/summary")).json()
    assert summary["today"] == {"spent": 0.77, "limit": 1.0, "percentage": 0.77}
    assert (await door.rest("PUT", path, {"price_usd": None})).status == 200
    await _refused(client.call("echo__shout"))


async def test_a_call_that_was_not_sent_costs_nothing(door: Door) -> None:
    async with echo() as upstream:
        await door.register("gone", upstream.url, price_usd=1)
        await _limit(door, amount=5)
    client = door.modern("/mcp", door.agent)
    for _ in range(7):
        with pytest.raises(McpError) as raised:
            await client.call("gone__say")
        assert raised.value.code == -31003, raised.value
    await door.app.path.desk.tick()
    await door.app.path.desk.tick()
    (account,) = await accounts(door.app.database)
    assert (account.spent, account.reserved) == (0, 0)


async def test_pausing_and_resuming(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    limit = await _limit(door, amount=1, action_on_exceed="pause")
    client = door.modern("/mcp", door.agent)
    await client.call("echo__say")
    assert (await _refused(client.call("echo__say")))["paused"] is True
    (shown,) = (await door.rest("GET", LIMITS)).json()["items"]
    assert shown["paused"] is True
    assert (await door.rest("PATCH", f"{LIMITS}/{limit['id']}", {"amount": 3})).status == 200
    await _refused(client.call("echo__say"))
    assert (await door.rest("POST", f"{LIMITS}/{limit['id']}/resume")).json()["paused"] is False
    await client.call("echo__say")


async def test_warning_passes_and_alerts(door: Door, upstream: Echo) -> None:
    heard: list[BudgetAlert] = []
    door.app.database._events.subscribe(BudgetAlert, heard.append)
    await door.register("echo", upstream.url)
    await _limit(door, amount=4, action_on_exceed="warn", alert_threshold=0.5)
    client = door.modern("/mcp", door.agent)
    for _ in range(3):
        await client.call("echo__say")
        await client.call("echo__say")
        await door.app.path.desk.tick()
    assert [alert.level for alert in heard] == ["warning", "critical"]
    alerts = (await door.rest("GET", "/api/v1/budget/summary")).json()["alerts"]
    assert [alert["type"] for alert in alerts] == ["critical"]


async def test_what_is_settled_survives_a_stop(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    await _limit(door)
    client = door.modern("/mcp", door.agent)
    for _ in range(12):
        await client.call("echo__say")
    await door.app.path.desk.stop()
    (account,) = await accounts(door.app.database)
    assert (account.spent, account.reserved) == (12, 0)
