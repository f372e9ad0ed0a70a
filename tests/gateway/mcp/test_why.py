"""`why`: it names the rule that a call then meets, for each rule of the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.mcp.door import Door, McpError, opened
from tests.gateway.mcp.echo import Echo, echo, tool

EVERYTHING = ["mcp:servers:read", "mcp:tools:list", "mcp:tools:call", "keys:read"]


@pytest.fixture
async def upstream() -> AsyncIterator[Echo]:
    async with echo(tools=[tool("say"), tool("shout")]) as made:
        yield made


async def ask(door: Door, name: str, *, key: str | None = None, about: int | None = None) -> dict[str, Any]:
    path = f"/v1/tools/{name}/why" + ("" if about is None else f"?key={about}")
    answer = await door.rest("GET", path, key=key)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json()
    over_mcp = await door.modern("/mcp", key or door.admin).result(
        "tools/call",
        {"name": "gatehouse__tools_why", "arguments": {"tool": name} | ({} if about is None else {"key": about})},
    )
    assert over_mcp["structuredContent"] == told, "two doors told different things"
    return told


async def new_key(door: Door, permissions: list[str], tools: list[str] | None = None) -> tuple[int, str]:
    body = {"name": "k", "permissions": permissions, **({} if tools is None else {"tools": tools})}
    made = (await door.rest("POST", "/v1/api-keys", body)).json()
    return made["id"], made["api_key"]


async def passes(door: Door, name: str, key: str) -> bool:
    try:
        await door.modern("/mcp", key).call(name)
    except McpError:
        return False
    return True


async def _stop(door: Door, _upstream: Echo) -> None:
    await door.rest("POST", "/api/v1/emergency/pause-all", {"reason": "brake"})


async def _held(door: Door, upstream: Echo) -> None:
    upstream.tools[0]["description"] = "other"
    (server,) = (await door.rest("GET", "/v1/mcp/servers")).json()["servers"]
    await door.rest("POST", f"/v1/mcp/servers/{server['id']}/capabilities/discover")


async def _rule(door: Door, _upstream: Echo) -> None:
    await door.rest("POST", "/v1/approvals/rules", {"name": "careful", "tool": "echo__say"})


async def _budget(door: Door, _upstream: Echo) -> None:
    limit = {"name": "none", "unit": "calls", "amount": 0, "action_on_exceed": "block"}
    answer = await door.rest("POST", "/api/v1/budget/limits", limit)
    assert answer.status == 201, answer.body


@pytest.mark.parametrize(
    ("rule", "prepare", "words"),
    [
        (None, None, ""),
        ("emergency_stop", _stop, "brake"),
        ("definition", _held, "is held"),
        ("approval", _rule, "careful"),
        ("budget", _budget, "none"),
    ],
)
async def test_the_rule_that_is_named_is_the_one_that_decides(
    door: Door, upstream: Echo, rule: str | None, prepare: Any, words: str
) -> None:
    await door.register("echo", upstream.url)
    if prepare is not None:
        await prepare(door, upstream)
    _, key = await new_key(door, EVERYTHING)
    told = await ask(door, "echo__say", key=key)
    assert (told["decided_by"], told["allowed"]) == (rule, rule is None)
    assert words in told["steps"][-1]["detail"]
    assert upstream.received == []
    assert await passes(door, "echo__say", key) == (rule is None)


@pytest.mark.parametrize(
    ("name", "permissions", "tools", "rule"),
    [
        ("echo__nothing", EVERYTHING, None, "listed"),
        ("echo__say", ["mcp:servers:read", "mcp:tools:list"], None, "permission"),
        ("gatehouse__pins_approve", EVERYTHING, None, "permission"),
        ("echo__say", EVERYTHING, ["echo__shout"], "key_tools"),
        ("echo__shout", EVERYTHING, ["echo__shout"], None),
    ],
)
async def test_a_key_is_asked_about_by_who_may_see_it(
    door: Door, upstream: Echo, name: str, permissions: list[str], tools: list[str] | None, rule: str | None
) -> None:
    await door.register("echo", upstream.url)
    about, key = await new_key(door, permissions, tools)
    told = await ask(door, name, about=about)
    assert (told["decided_by"], told["principal"]) == (rule, f"key:{about}")
    assert await passes(door, name, key) == (rule is None)


async def test_who_may_not_see_a_key_learns_nothing_of_it(door: Door, upstream: Echo) -> None:
    await door.register("echo", upstream.url)
    about, _ = await new_key(door, EVERYTHING)
    assert (await door.rest("GET", f"/v1/tools/echo__say/why?key={about}", key=door.agent)).status == 403
    assert (await door.rest("GET", "/v1/tools/echo__say/why?key=99999")).status == 404
    _, poor = await new_key(door, ["mcp:tools:list"])
    assert (await door.rest("GET", "/v1/tools/echo__say/why", key=poor)).status == 403


async def test_rate_limits_are_told_and_asking_uses_nothing_up(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "data", call_limits=("echo=2",)) as door,
        echo(tools=[tool("say")]) as upstream,
    ):
        await door.register("echo", upstream.url)
        limit = {"name": "two", "unit": "calls", "amount": 2, "action_on_exceed": "block", "period": "daily"}
        scoped = {
            "scope_type": "server",
            "scope_id": (await door.rest("GET", "/v1/mcp/servers")).json()["servers"][0]["id"],
        }
        assert (await door.rest("POST", "/api/v1/budget/limits", {**limit, **scoped})).status == 201
        for _ in range(3):
            told = await ask(door, "echo__say")
        (rate,) = [step for step in told["steps"] if step["rule"] == "rate_limit"]
        assert (rate["passes"], rate["detail"]) == (None, "2 calls a minute for echo.")
        assert [await passes(door, "echo__say", door.admin) for _ in range(3)] == [True, True, False]
