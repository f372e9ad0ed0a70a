"""Access rules on the data path: who may not use something does not see it, and `why` names the rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway.mcp.door import Door, McpError
from tests.gateway.mcp.echo import Echo, echo, tool

FILES = {"uri": "file:///a", "name": "a"}


@pytest.fixture
async def upstream(door: Door) -> AsyncIterator[Echo]:
    offer: dict[str, Any] = {
        "tools": [tool("say"), tool("pay")],
        "prompts": [{"name": "ask"}],
        "resources": [FILES, {"uri": "file:///etc/passwd", "name": "p"}],
        "templates": [{"uriTemplate": "file:///{+path}", "name": "any"}],
    }
    async with echo(**offer) as made:
        await door.register("echo", made.url)
        yield made


async def rule(door: Door, effect: str, pattern: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"name": f"{effect} it", "effect": effect, **({} if pattern is None else {"pattern": pattern}), **fields}
    answer = await door.rest("POST", "/v1/access/rules", body)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


async def user_of(door: Door) -> str:
    keys = (await door.rest("GET", "/v1/api-keys")).json()["api_keys"]
    return str(keys[0]["user_id"])


async def listed(door: Door, key: str, path: str = "/mcp") -> set[str]:
    client = door.modern(path, key)
    names = {name for kind in ("tools", "prompts") for name in await client.names(kind)}
    uris = {*await client.names("resources", "uri"), *await client.names("resources/templates", "uriTemplate")}
    return {name for name in names | uris if not name.startswith("gatehouse__")}


EVERYTHING = {"echo__say", "echo__pay", "echo__ask", "file:///a", "file:///etc/passwd", "file:///{+path}"}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_is_denied_is_neither_listed_nor_found(door: Door, upstream: Echo, era: str) -> None:
    assert await listed(door, door.agent) == EVERYTHING
    session = await door.either(era, "/mcp", door.agent)
    await rule(door, "deny", "echo__pay")
    await rule(door, "deny", "echo__*", what="prompt")
    await rule(door, "deny", "echo__file:///etc/*", what="resource")
    assert await listed(door, door.agent) == {"echo__say", "file:///a", "file:///{+path}"}
    # Also for a session that was opened before.
    with pytest.raises(McpError, match="Unknown tool"):
        await session.call("echo__pay")
    with pytest.raises(McpError, match="Unknown prompt"):
        await session.result("prompts/get", {"name": "echo__ask"})
    for uri in ("file:///etc/passwd", "file:///etc/shadow", "echo+file:///etc/shadow"):
        with pytest.raises(McpError, match="Resource not found"):
            await session.result("resources/read", {"uri": uri})
    assert upstream.received == []
    await session.call("echo__say")
    await session.result("resources/read", {"uri": "file:///home/a"})
    with pytest.raises(McpError, match="Unknown tool"):
        await (await door.either(era, "/servers/echo/mcp", door.agent)).call("pay")
    assert len(upstream.received) == 2
    assert (await door.rest("POST", "/v1/tools/echo__pay", {}, key=door.agent)).status == 404


async def test_a_rule_for_a_key_leaves_its_owner_alone(door: Door, upstream: Echo) -> None:
    made = (await door.rest("POST", "/v1/api-keys", {"name": "k"})).json()
    allowed = await rule(door, "allow", "echo__say", who="key", who_id=str(made["id"]))
    await rule(door, "deny", "*", who="key", who_id=str(made["id"]))
    assert await listed(door, made["api_key"]) == {"echo__say"}
    assert await listed(door, door.admin) == EVERYTHING
    # The gateway's own tools are subject to permissions alone: nobody locks the door behind themselves.
    own = await door.modern("/mcp", made["api_key"]).tools()
    assert "gatehouse__access_rules_delete" in own
    assert (await door.rest("DELETE", f"/v1/access/rules/{allowed['id']}")).status == 200
    assert await listed(door, made["api_key"]) == set()


async def test_a_teams_own_server_follows_who_is_in_the_team(door: Door, upstream: Echo) -> None:
    team = (await door.rest("POST", "/v1/teams", {"name": "red"})).json()
    await rule(door, "allow", "echo__*", who="team", who_id=team["id"])
    await rule(door, "deny", "echo__*")
    assert await listed(door, door.agent) == set()
    member = f"/v1/teams/{team['id']}/members/{await user_of(door)}"
    assert (await door.rest("PUT", member)).status == 200
    assert await listed(door, door.agent) == EVERYTHING
    assert (await door.rest("DELETE", member)).status == 200
    assert await listed(door, door.agent) == set()
    told = (await door.rest("GET", "/v1/tools/echo__say/why")).json()
    assert (told["decided_by"], told["steps"][-1]["detail"]) == (
        "access_rule",
        "The rule 'deny it' (deny anyone: echo__*) decides.",
    )
    with pytest.raises(McpError, match="Unknown tool"):
        await door.modern("/mcp", door.admin).call("echo__say")


async def test_a_set_says_what_may_be_used_under_any_name(door: Door, upstream: Echo) -> None:
    members = [
        {
            "server": "echo",
            "tools": [{"name": "say", "as": "talk"}],
            "prompts": [],
            "resources": ["file:///{+path}"],
        }
    ]
    answer = await door.rest("POST", "/v1/sets", {"slug": "picked", "members": members})
    assert answer.status == 201, answer.body
    first = await rule(door, "allow", set="picked", who="role", who_id="admin")
    await rule(door, "deny", "*")
    assert await listed(door, door.agent) == {"echo__say", "file:///a", "file:///etc/passwd", "file:///{+path}"}
    assert await listed(door, door.agent, "/sets/picked/mcp") == {"talk", "file:///{+path}"}
    await door.modern("/mcp", door.agent).result("resources/read", {"uri": "file:///unlisted"})
    assert (await door.rest("DELETE", f"/v1/access/rules/{first['id']}")).status == 200
    assert await listed(door, door.agent, "/sets/picked/mcp") == set()
    with pytest.raises(McpError, match="Resource not found"):
        await door.modern("/mcp", door.agent).result("resources/read", {"uri": "file:///unlisted"})


async def test_visitors_of_a_public_server_are_anyone_too(door: Door) -> None:
    async with echo(tools=[tool("say"), tool("pay")]) as made:
        await door.register("open", made.url, public=True)
        assert set(await door.modern("/servers/open/mcp").tools()) == {"say", "pay"}
        await rule(door, "deny", "open__pay", who="role", who_id="public")
        assert set(await door.modern("/servers/open/mcp").tools()) == {"say"}
        assert {"open__say", "open__pay"} <= await listed(door, door.agent)


async def test_a_teams_budget_is_for_its_members(door: Door, upstream: Echo) -> None:
    team = (await door.rest("POST", "/v1/teams", {"name": "red"})).json()
    limit = {"name": "red's", "unit": "calls", "amount": 1, "action_on_exceed": "block", "period": "daily"}
    answer = await door.rest("POST", "/api/v1/budget/limits", {**limit, "scope_type": "team", "scope_id": team["id"]})
    assert answer.status == 201, answer.body
    client = door.modern("/mcp", door.agent)
    for _ in range(3):
        await client.call("echo__say")
    member = f"/v1/teams/{team['id']}/members/{await user_of(door)}"
    assert (await door.rest("PUT", member)).status == 200
    await client.call("echo__say")
    with pytest.raises(McpError) as refused:
        await client.call("echo__say")
    assert (refused.value.code, refused.value.error["data"]["limit"]) == (-31001, "red's")
    assert (await door.rest("DELETE", member)).status == 200
    await client.call("echo__say")
    assert len(upstream.received) == 5
