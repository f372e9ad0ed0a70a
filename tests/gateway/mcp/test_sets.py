"""Sets at their address: what is listed there, what can be called, and what the server then gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.mcp.door import Door, McpError
from tests.gateway.mcp.echo import echo, tool

ERAS = ["modern", "legacy"]
INVALID_PARAMS = -32602

SEARCH = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What to look for."},
        "repo": {"type": "string"},
        "limit": {"type": "integer"},
        "secret": {"type": "string"},
        "note": {"type": "string"},
    },
    "required": ["query", "repo", "limit"],
    "x-unknown": "survives",
}
SHAPED = {
    "name": "search",
    "as": "look",
    "title": "Look",
    "description": "Look into the one repository.",
    "annotations": {"readOnlyHint": True, "destructiveHint": None},
    "parameters": {
        "repo": {"hide": True, "fixed": "ours"},
        "limit": {"default": 5},
        "secret": {"hide": True},
        "query": {"description": "Words."},
        "note": {"fixed": None},
    },
}


async def create(door: Door, slug: str, *members: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await door.rest("POST", "/v1/sets", {"slug": slug, "members": list(members), **more})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


async def refused(client: Any, name: str, arguments: Any = None) -> McpError:
    with pytest.raises(McpError) as caught:
        await client.call(name, arguments)
    return caught.value


@pytest.mark.parametrize("upstream", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_shaped_tool_is_listed_and_called_as_the_set_says(door: Door, era: str, upstream: str) -> None:
    annotations = {"destructiveHint": True, "openWorldHint": True, "custom": 1}
    offered = [tool("search", SEARCH, annotations=annotations, unknown={"a": 1}), tool("delete")]
    async with echo(modern=upstream == "modern", tools=offered) as server:
        await door.register("repos", server.url)
        await create(door, "mine", {"server": "repos", "tools": [SHAPED]})
        client = await door.either(era, "/sets/mine/mcp", door.agent)

        listed = await client.tools()
        assert list(listed) == ["look"]
        assert listed["look"] == {
            "name": "look",
            "title": "Look",
            "description": "Look into the one repository.",
            "annotations": {"readOnlyHint": True, "openWorldHint": True, "custom": 1},
            "unknown": {"a": 1},
            "inputSchema": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "Words."},
                    "limit": {"type": "integer", "default": 5},
                },
                "required": ["query"],
                "x-unknown": "survives",
            },
        }

        seen = await client.call("look", {"query": "a", "other": [1.50, {"b": "ü"}]})
        assert seen["name"] == "search"
        assert seen["arguments"] == {"limit": 5, "query": "a", "other": [1.5, {"b": "ü"}], "repo": "ours", "note": None}
        assert (await client.call("look", {"query": "a", "limit": 9}))["arguments"]["limit"] == 9
        assert (await client.call("look", {"query": "a", "limit": None}))["arguments"]["limit"] is None
        assert (await client.call("look"))["arguments"] == {"limit": 5, "repo": "ours", "note": None}

        for argument in ("repo", "secret", "note"):
            error = await refused(client, "look", {"query": "a", argument: "mine"})
            assert (error.code, error.error["data"]) == (INVALID_PARAMS, {"arguments": [argument]})
        for wrong in ([], "text", 1):
            assert (await refused(client, "look", wrong)).code == INVALID_PARAMS
        assert len(server.received) == 4


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_not_in_a_set_is_not_there(door: Door, era: str) -> None:
    async with echo(
        tools=[tool("a"), tool("b")],
        resources=[{"uri": "echo://a", "name": "a"}, {"uri": "echo://b", "name": "b"}],
        templates=[
            {"uriTemplate": "echo://of/{id}", "name": "of"},
            {"uriTemplate": "echo://all/{+path}", "name": "all"},
        ],
        prompts=[{"name": "p"}, {"name": "q"}],
    ) as server:
        await door.register("things", server.url)
        chosen = {"tools": ["a"], "resources": [{"uri": "echo://a", "title": "The a"}, "echo://of/{id}"]}
        await create(door, "some", {"server": "things", **chosen, "prompts": [{"name": "p", "as": "ask"}]})
        client = await door.either(era, "/sets/some/mcp", door.agent)
        assert await client.names("tools") == ["a"]
        assert (await client.result("resources/list"))["resources"] == [
            {"uri": "echo://a", "name": "a", "title": "The a"}
        ]
        assert await client.names("resources/templates", "uriTemplate") == ["echo://of/{id}"]
        assert await client.names("prompts") == ["ask"]
        for name in ("b", "things__a", "things__b", "gatehouse__servers_list"):
            assert (await refused(client, name)).code == INVALID_PARAMS
        for name in ("p", "q"):
            with pytest.raises(McpError):
                await client.result("prompts/get", {"name": name})
        gotten = (await client.result("prompts/get", {"name": "ask"}))["messages"][0]["content"]["text"]
        assert json.loads(gotten)["name"] == "p"
        for uri in ("echo://b", "things+echo://a", "echo://of/1/2", "echo://of/", "echo://all/x", "other://x", "a"):
            with pytest.raises(McpError):
                await client.result("resources/read", {"uri": uri})
        for uri in ("echo://a", "echo://of/1"):
            assert (await client.result("resources/read", {"uri": uri}))["contents"][0]["uri"] == uri
        assert len(server.received) == 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_kind_that_is_left_out_is_taken_whole_and_an_empty_list_is_nothing(door: Door, era: str) -> None:
    async with echo(resources=[{"uri": "echo://a", "name": "a"}], prompts=[{"name": "p"}]) as server:
        await door.register("things", server.url)
        await create(door, "whole", {"server": "things"})
        await create(door, "less", {"server": "things", "tools": [], "resources": []})
        client = await door.either(era, "/sets/whole/mcp", door.agent)
        assert [await client.names("tools"), await client.names("prompts")] == [["say"], ["p"]]
        assert await client.names("resources", "uri") == ["echo://a"]
        client = await door.either(era, "/sets/less/mcp", door.agent)
        assert [await client.names("tools"), await client.names("resources", "uri")] == [[], []]
        assert await client.names("prompts") == ["p"]
        assert (await refused(client, "say")).code == INVALID_PARAMS


async def test_headers_are_those_that_each_side_sees(door: Door) -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "tier": {"type": "string", "x-mcp-header": "Tier"},
            "text": {"type": "string"},
        },
        "required": ["region"],
    }
    async with echo(modern=True, tools=[tool("say", schema)]) as server:
        await door.register("things", server.url)
        shaping = {"region": {"fixed": "eu"}, "tier": {"default": "low"}}
        await create(door, "mine", {"server": "things", "tools": [{"name": "say", "parameters": shaping}]})
        client = door.modern("/sets/mine/mcp", door.agent)
        assert "Region" not in json.dumps(await client.tools())

        seen = await client.call("say", {"text": "hi"})
        assert seen["headers"] == {"mcp-param-region": "eu", "mcp-param-tier": "low"}
        assert seen["arguments"] == {"tier": "low", "text": "hi", "region": "eu"}
        seen = await client.call("say", {"tier": "high"}, Mcp_Param_Tier="high")
        assert seen["headers"] == {"mcp-param-region": "eu", "mcp-param-tier": "high"}
        for wrong in ({"Mcp_Param_Tier": "low"}, {}):
            with pytest.raises(McpError) as mismatch:
                await client.call("say", {"tier": "high"}, **wrong)
            assert mismatch.value.code == -32020
        legacy = await door.legacy("/sets/mine/mcp", door.agent)
        assert (await legacy.call("say", {"tier": "high"}))["headers"]["mcp-param-tier"] == "high"


async def test_one_tool_twice_in_two_shapes(door: Door) -> None:
    schema = {"type": "object", "properties": {"repo": {"type": "string"}}, "required": ["repo"]}
    async with echo(tools=[tool("open", schema)]) as server:
        await door.register("repos", server.url)
        variants = [{"name": "open", "as": f"open_{repo}", "parameters": {"repo": {"fixed": repo}}} for repo in "ab"]
        await create(door, "mine", {"server": "repos", "tools": variants})
        client = door.modern("/sets/mine/mcp", door.agent)
        for repo in "ab":
            seen = await client.call(f"open_{repo}")
            assert (seen["name"], seen["arguments"]) == ("open", {"repo": repo})


async def test_a_public_set_answers_anybody_and_opens_nothing_else(door: Door) -> None:
    async with echo(tools=[tool("a"), tool("b")]) as server:
        await door.register("things", server.url)
        chosen = {"server": "things", "tools": ["a"], "resources": [], "prompts": []}
        own = {"server": "gatehouse", "tools": ["servers_list"]}
        await create(door, "open", chosen, own, public=True)
        await create(door, "closed", {"server": "things"})
        for era in ERAS:
            client = await door.either(era, "/sets/open/mcp")
            assert await client.names("tools") == ["a"]
            assert (await client.call("a"))["name"] == "a"
            for name in ("b", "servers_list", "gatehouse__servers_list"):
                assert (await refused(client, name)).code == INVALID_PARAMS
            with pytest.raises(McpError):
                await client.result("resources/read", {"uri": "echo://any"})
            for path in ("/sets/closed/mcp", "/servers/open/mcp", "/servers/things/mcp", "/mcp", "/sets/nothing/mcp"):
                with pytest.raises(McpError, match="HTTP 401"):
                    await (await door.either(era, path)).result("tools/list")
        wrong = door.modern("/sets/open/mcp", "mcp_aaaaaaaa_" + "x" * 43)
        assert (await wrong.send("tools/list")).status == 401
        assert len(server.received) == 2

        visitor = await door.legacy("/sets/open/mcp")
        await door.rest("PUT", "/v1/sets/open", {"public": False})
        assert (await visitor.send("tools/list")).status == 401


async def test_a_key_may_use_in_a_set_what_it_may_use_elsewhere(door: Door) -> None:
    async with echo(tools=[tool("a"), tool("b")]) as server:
        await door.register("things", server.url)
        await create(door, "mine", {"server": "things", "tools": [{"name": "a", "as": "x"}, {"name": "b", "as": "y"}]})
        body = {"name": "narrow", "tools": ["things__a", "y"]}
        key = (await door.rest("POST", "/v1/api-keys", body)).json()["api_key"]
        client = door.modern("/sets/mine/mcp", key)
        assert await client.names("tools") == ["x"]
        assert (await refused(client, "y")).code == INVALID_PARAMS


async def test_a_set_follows_its_servers(door: Door) -> None:
    async with echo(tools=[tool("a")]) as first, echo(tools=[tool("b")]) as second:
        one, two = await door.register("one", first.url), await door.register("two", second.url)
        await create(door, "both", {"server": "one"}, {"server": "two"})
        client = door.modern("/sets/both/mcp", door.agent)
        second.tools.append(tool("a"))
        await door.rest("POST", f"/v1/mcp/servers/{two['id']}/capabilities/discover")
        assert await client.names("tools") == ["a", "b", "two__a"]
        assert (await client.call("two__a"))["name"] == "a"
        assert (len(first.received), len(second.received)) == (0, 1)

        await door.rest("DELETE", f"/v1/mcp/servers/{one['id']}")
        assert await client.names("tools") == ["b", "a"]
        shown = (await door.rest("GET", "/v1/sets/both")).json()
        assert [item["name"] for item in shown["tools"]] == ["b", "a"]
        assert [(item["what"], item["server"]) for item in shown["missing"]] == [("server", "one")]
        await door.rest("DELETE", f"/v1/mcp/servers/{two['id']}")
        assert await client.names("tools") == []


async def test_rest_and_tools_do_the_same(door: Door) -> None:
    async with echo(tools=[tool("a")]) as server:
        await door.register("things", server.url)
        own = door.modern("/servers/gatehouse/mcp", door.admin)

        async def use(name: str, **arguments: Any) -> dict[str, Any]:
            result = await own.result("tools/call", {"name": name, "arguments": arguments})
            assert not result.get("isError"), result
            content: dict[str, Any] = result["structuredContent"]
            return content

        made = await use("sets_create", slug="mine", members=[{"server": "things"}], description="Use a.")
        assert made == (await door.rest("GET", "/v1/sets/mine")).json()
        assert await use("sets_get", slug="mine") == made
        client = door.modern("/sets/mine/mcp", door.agent)
        assert (await client.result("server/discover"))["instructions"] == "Use a."
        changed = await use("sets_update", slug="mine", members=[{"server": "things", "tools": []}])
        assert changed["tools"] == []
        assert await client.names("tools") == []
        listed = (await door.rest("GET", "/v1/sets")).json()
        assert (listed["total"], [item["slug"] for item in listed["sets"]]) == (1, ["mine"])
        assert (await use("sets_list"))["sets"] == listed["sets"]
        assert (await use("sets_delete", slug="mine")) == {"slug": "mine", "deleted": True}
        assert (await client.send("tools/list")).status == 404
        assert (await door.rest("GET", "/v1/sets/mine")).status == 404


async def test_what_rest_refuses(door: Door) -> None:
    async with echo(tools=[tool("a")]) as server:
        await door.register("things", server.url)
        good = {"slug": "mine", "members": [{"server": "things"}]}
        for wrong in (
            {"members": []},
            {"members": [{"server": "nobody"}]},
            {"members": [{"server": "things"}, {"server": "things"}]},
            {"slug": "Not a slug"},
            {"unknown": 1},
        ):
            assert (await door.rest("POST", "/v1/sets", {**good, **wrong})).status == 422, wrong
        assert (await door.rest("POST", "/v1/sets", good, key=door.agent)).status == 403
        assert (await door.rest("GET", "/v1/sets", key=door.agent)).status == 403
        assert (await door.rest("POST", "/v1/sets", good)).status == 201
        assert (await door.rest("POST", "/v1/sets", good)).status == 409
        assert (await door.rest("PUT", "/v1/sets/nothing", {"name": "x"})).status == 404


async def test_the_rest_of_the_gateway_lists_its_tools_as_before(door: Door) -> None:
    async with echo(tools=[tool("search", SEARCH)]) as server:
        await door.register("repos", server.url)
        await create(door, "mine", {"server": "repos", "tools": [SHAPED]})
        client = door.modern("/mcp", door.agent)
        assert (await client.tools())["repos__search"]["inputSchema"] == SEARCH
        assert (await client.call("repos__search", {"repo": "any"}))["arguments"] == {"repo": "any"}
