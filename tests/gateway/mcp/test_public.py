"""Public servers answer anybody, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.mcp.catalog import Catalog
from gateway.mcp.own import own_server
from registry.identity.permissions import OPERATE, PERMISSIONS, PUBLIC
from registry.servers.connection import Connection, ServerOffer
from registry.sets.members import Member, SetOffer
from tests.gateway.mcp.door import Door, McpError, opened
from tests.gateway.mcp.echo import echo, tool

ERAS = ["modern", "legacy"]
RATE_LIMITED = -31002


@pytest.mark.parametrize("era", ERAS)
async def test_a_public_server_answers_without_a_credential(door: Door, era: str) -> None:
    async with echo(resources=[{"uri": "echo://a", "name": "a"}], prompts=[{"name": "p"}]) as server:
        await door.register("open", server.url, public=True)
        client = await door.either(era, "/servers/open/mcp")
        assert await client.names("tools") == ["say"]
        assert (await client.call("say", {"text": "hi"}))["arguments"] == {"text": "hi"}
        assert (await client.result("resources/read", {"uri": "echo://a"}))["contents"][0]["uri"] == "echo://a"
        assert (await client.result("prompts/get", {"name": "p"}))["messages"]


@pytest.mark.parametrize("era", ERAS)
async def test_nothing_else_of_the_organisation_answers_without_a_credential(door: Door, era: str) -> None:
    async with echo() as server, echo() as other:
        await door.register("open", server.url, public=True)
        await door.register("closed", other.url)
        for path in ("/mcp", "/mcp/", "/servers/closed/mcp", "/servers/gatehouse/mcp", "/servers/nothing/mcp"):
            with pytest.raises(McpError, match="HTTP 401"):
                await (await door.either(era, path)).result("tools/list")
        client = await door.either(era, "/servers/open/mcp")
        for name in ("closed__say", "open__say", "gatehouse__servers_list", "servers_list"):
            with pytest.raises(McpError):
                await client.call(name, {})
        # What no server here lists is asked of the one server that the address names, and of no other.
        await client.result("resources/read", {"uri": "closed+echo://a"})
        assert other.received == []


METHODS: dict[str, dict[str, Any]] = {
    "ping": {},
    "server/discover": {},
    "tools/list": {},
    "resources/list": {},
    "resources/templates/list": {},
    "prompts/list": {},
    "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
    "resources/subscribe": {"uri": "echo://a"},
    "resources/unsubscribe": {"uri": "echo://a"},
    "logging/setLevel": {"level": "info"},
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}},
    "tasks/list": {},
    "tasks/get": {"taskId": "1"},
    "tools/call": {"name": "secret", "arguments": {}},
    "prompts/get": {"name": "secret"},
    "resources/read": {"uri": "closed+echo://secret"},
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", METHODS)
async def test_no_method_shows_a_visitor_another_server(door: Door, era: str, method: str) -> None:
    secret = {"uri": "echo://secret", "name": "secret"}
    async with (
        echo() as server,
        echo(tools=[tool("secret")], resources=[secret], prompts=[{"name": "secret"}]) as other,
    ):
        await door.register("open", server.url, public=True)
        await door.register("closed", other.url)
        answer = await (await door.either(era, "/servers/open/mcp")).send(method, METHODS[method])
        assert answer.status < 500
        said = json.dumps(answer.json().get("result", {}))
        said = said.replace("closed+echo://secret", "")
        assert "secret" not in said
        assert "closed" not in said
        assert "gatehouse__" not in said
        assert other.received == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer mcp_aaaaaaaa_" + "x" * 43},
        {"Authorization": "Bearer not-a-key"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": ""},
        {"X-API-Key": "mcp_aaaaaaaa_" + "x" * 43},
        {"X-API-Key": ""},
        {"X-Session-ID": "nobody"},
        {"Cookie": "gatehouse_session=nobody"},
    ],
)
async def test_a_wrong_credential_is_refused_at_a_public_address_too(door: Door, headers: dict[str, str]) -> None:
    async with echo() as server:
        await door.register("open", server.url, public=True)
        client = door.modern("/servers/open/mcp")
        client.headers |= headers
        assert (await client.send("tools/list")).status == 401
        assert server.received == []


async def test_a_key_at_a_public_address_is_still_its_holder(door: Door) -> None:
    async with echo() as server:
        await door.register("open", server.url, public=True)
        created = await door.rest("POST", "/v1/api-keys", {"name": "narrow", "permissions": ["mcp:tools:list"]})
        narrow = created.json()["api_key"]
        client = door.modern("/servers/open/mcp", narrow)
        assert await client.names("tools") == ["say"]
        assert (await client.send("tools/call", {"name": "say"})).status == 403


async def test_closing_a_server_closes_it_at_once(door: Door) -> None:
    async with echo() as server:
        made = await door.register("open", server.url, public=True)
        session = await door.legacy("/servers/open/mcp")
        answer = await door.rest("PUT", f"/v1/mcp/servers/{made['id']}", {"public": False})
        assert answer.status == 200
        assert (await session.send("tools/list")).status == 401
        await door.rest("PUT", f"/v1/mcp/servers/{made['id']}", {"public": True})
        assert (await session.send("tools/list")).status == 200
        await door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")
        assert (await session.send("tools/list")).status == 401


async def test_a_session_belongs_to_its_address_and_to_visitors(door: Door) -> None:
    async with echo() as server, echo() as other:
        await door.register("one", server.url, public=True)
        await door.register("two", other.url, public=True)
        first, second = await door.legacy("/servers/one/mcp"), await door.legacy("/servers/one/mcp")
        assert first.headers["Mcp-Session-Id"] != second.headers["Mcp-Session-Id"]
        elsewhere = await door.legacy("/servers/two/mcp")
        elsewhere.headers["Mcp-Session-Id"] = first.headers["Mcp-Session-Id"]
        assert (await elsewhere.send("tools/list")).status == 404
        known = await door.legacy("/servers/one/mcp", door.admin)
        known.headers["Mcp-Session-Id"] = first.headers["Mcp-Session-Id"]
        assert (await known.send("tools/list")).status == 404
        first.headers["Mcp-Session-Id"] = "x" + second.headers["Mcp-Session-Id"][1:]
        assert (await first.send("tools/list")).status == 404


async def test_visits_are_limited_by_address(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", rate_limits="on", public_calls_per_minute=3) as door, echo() as server:
        await door.register("open", server.url, public=True)
        client = door.modern("/servers/open/mcp")
        for _ in range(3):
            await client.result("tools/list")
        refused = await client.send("tools/list")
        assert (refused.status, refused.json()["id"], refused.json()["error"]["code"]) == (200, 1, RATE_LIMITED)
        assert refused.json()["error"]["data"]["limit"] == 3
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert (await door.send("GET", "/servers/open/mcp", {})).status == 429
        door.client = "127.0.0.2"
        await client.result("tools/list")
        door.client = "127.0.0.1"
        for _ in range(5):
            await door.modern("/servers/open/mcp", door.admin).result("tools/list")


async def test_visits_are_not_limited_where_limits_are_off(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", public_calls_per_minute=1) as door, echo() as server:
        await door.register("open", server.url, public=True)
        for _ in range(3):
            await door.modern("/servers/open/mcp").result("tools/list")


async def test_only_an_operator_opens_a_server(door: Door) -> None:
    permissions = sorted(set(PERMISSIONS) - {OPERATE})
    created = await door.rest("POST", "/v1/api-keys", {"name": "admin", "permissions": permissions})
    assert created.status == 201, created.body
    key = created.json()["api_key"]
    async with echo() as server:
        body = {"name": "open", "base_url": server.url}
        assert (await door.rest("POST", "/v1/mcp/servers", {**body, "public": True}, key=key)).status == 403
        made = (await door.rest("POST", "/v1/mcp/servers", body, key=key)).json()
        assert (await door.rest("PUT", f"/v1/mcp/servers/{made['id']}", {"public": True}, key=key)).status == 403
        assert (await door.modern("/servers/open/mcp").send("tools/list")).status == 401


def test_what_visitors_may_do_is_to_list_and_to_use() -> None:
    assert {
        "mcp:tools:list",
        "mcp:tools:call",
        "mcp:resources:list",
        "mcp:resources:read",
        "mcp:prompts:list",
        "mcp:prompts:get",
    } == PUBLIC


def test_a_visitor_sees_nothing_at_any_other_address() -> None:
    catalog = Catalog(lambda org_id: own_server(org_id, []), 60)
    offers = [
        ServerOffer(
            connection=Connection(server_id=slug, org_id="org", slug=slug, transport="streamable-http"),
            name=slug,
            public=True,
            price_usd=None,
            server_metadata={},
            offered=(),
        )
        for slug in ("one", "two")
    ]
    members = (Member(server="one"),)
    sets = [SetOffer(org_id="org", slug="one", name="one", description=None, public=True, members=members)]
    catalog.replace("org", offers, sets)
    organisation = catalog.of("org")
    places = {"servers/one": ("one", False), "servers/two": ("two", False), "sets/one": ("one", True)}
    for place in places:
        visitor = catalog.visitor(place)
        assert visitor is not None
        assert (visitor.user_id, visitor.role, visitor.subject) == (None, "public", f"public:{place}")
        assert organisation.view(None, visitor) is None
        for other, (slug, curated) in places.items():
            assert (organisation.view(slug, visitor, curated=curated) is not None) == (place == other)
    catalog.replace("org", offers[:1])
    assert catalog.visitor("servers/two") is None
    assert catalog.visitor("sets/one") is None
