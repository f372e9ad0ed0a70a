"""MCP Apps through the gateway: what a tool names as its page leads to its own server's page, wherever it is listed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.mcp import translate
from gateway.mcp.definitions import read_definition
from registry.servers.names import prefixed_uri, split_uri
from tests.gateway.mcp.door import Client, Door
from tests.gateway.mcp.echo import echo, tool
from tests.gateway.mcp.exchange import Speaker
from tests.support.faulty import faulty, good

ERAS = ["modern", "legacy"]
PAGE = "ui://widget/main.html"
HIDDEN = "ui://widget/hidden.html"
APPS = "io.modelcontextprotocol/ui"


def page(uri: str) -> dict[str, Any]:
    return {"uri": uri, "name": uri, "mimeType": "text/html;profile=mcp-app"}


def shown(uri: str, **more: Any) -> dict[str, Any]:
    return {"_meta": {"ui": {"resourceUri": uri, "visibility": ["model"]}, "other": 1, **more}}


def uri_of(listed: dict[str, Any]) -> str:
    meta = listed["_meta"]
    assert meta["other"] == 1
    assert meta["ui"]["visibility"] == ["model"]
    return str(meta["ui"]["resourceUri"])


async def read(client: Client, uri: str) -> str:
    """The URI that the server was asked for."""
    result = await client.result("resources/read", {"uri": uri})
    return str(json.loads(result["contents"][0]["text"])["uri"])


@pytest.mark.requirement("apps.page-of-its-server", "apps.scheme")
@pytest.mark.parametrize("era", ERAS)
async def test_a_page_that_two_servers_have_is_each_ones_own(door: Door, era: str) -> None:
    offer = {"tools": [tool("draw", **shown(PAGE))], "resources": [page(PAGE)]}
    async with echo(**offer) as one, echo(**offer) as two:
        await door.register("one", one.url)
        await door.register("two", two.url)
        client = await door.either(era, "/mcp", door.admin)
        tools = await client.tools()
        listed = await client.names("resources", "uri")
        for slug, server, other in (("one", one, two), ("two", two, one)):
            uri = uri_of(tools[f"{slug}__draw"])
            assert uri.startswith("ui://"), "a host shows nothing else"
            assert uri in listed
            before = len(other.received)
            assert await read(client, uri) == PAGE
            assert server.received[-1]["uri"] == PAGE
            assert len(other.received) == before
        single = await door.either(era, "/servers/one/mcp", door.admin)
        assert uri_of((await single.tools())["draw"]) == PAGE
        assert await read(single, PAGE) == PAGE


@pytest.mark.parametrize("era", ERAS)
async def test_a_page_that_is_unique_keeps_its_address_and_one_that_is_not_listed_can_be_read(
    door: Door, era: str
) -> None:
    offer = {"tools": [tool("draw", **shown(PAGE)), tool("hide", **shown(HIDDEN))], "resources": [page(PAGE)]}
    async with echo(**offer) as one, echo(resources=[page("ui://other")]) as two:
        await door.register("one", one.url)
        await door.register("two", two.url)
        client = await door.either(era, "/mcp", door.admin)
        tools = await client.tools()
        assert uri_of(tools["one__draw"]) == PAGE
        hidden = uri_of(tools["one__hide"])
        assert hidden == "ui://one+widget/hidden.html"
        assert await read(client, hidden) == HIDDEN
        assert one.received[-1]["uri"] == HIDDEN
        assert two.received == []


@pytest.mark.parametrize("era", ERAS)
async def test_in_a_set_a_page_is_what_the_set_calls_it(door: Door, era: str) -> None:
    offer = {"tools": [tool("draw", **shown(PAGE))], "resources": [page(PAGE)]}
    async with echo(**offer) as one, echo(**offer) as two:
        await door.register("one", one.url)
        await door.register("two", two.url)
        members = [
            {"server": slug, "tools": [{"name": "draw", "as": f"draw_{slug}"}], "resources": [{"uri": PAGE}]}
            for slug in ("one", "two")
        ]
        answer = await door.rest("POST", "/v1/sets", {"slug": "both", "name": "Both", "members": members})
        assert answer.status == 201, answer.body
        client = await door.either(era, "/sets/both/mcp", door.admin)
        tools = await client.tools()
        for slug, server in (("one", one), ("two", two)):
            assert await read(client, uri_of(tools[f"draw_{slug}"])) == PAGE
            assert server.received[-1]["uri"] == PAGE


def test_the_older_flat_member_is_renamed_as_well() -> None:
    text = json.dumps({"name": "t", "_meta": {"ui/resourceUri": PAGE, "a": [1]}})
    definition = read_definition("tool", "t", text)
    assert definition is not None
    assert definition.ui == PAGE
    assert json.loads(definition.listed("s__t", modern=True, ui="ui://new"))["_meta"] == {
        "ui/resourceUri": "ui://new",
        "a": [1],
    }


@pytest.mark.parametrize("meta", [5, {"ui": 5}, {"ui": {"resourceUri": 5}}, {"ui": []}, {"resourceUri": PAGE}])
def test_a_meta_of_another_form_is_left_alone(meta: Any) -> None:
    definition = read_definition("tool", "t", json.dumps({"name": "t", "_meta": meta}))
    assert definition is not None
    assert definition.ui is None
    assert json.loads(definition.listed("t", modern=True))["_meta"] == meta


@pytest.mark.parametrize("uri", [PAGE, "file:///a+b", "a+b", "ui://", "ui://a+b", "x"])
def test_a_prefix_comes_off_again(uri: str) -> None:
    assert split_uri(prefixed_uri("slug", uri)) == ("slug", uri)


def test_a_legacy_server_hears_of_apps_and_of_no_other_extension() -> None:
    def told(**extensions: Any) -> Any:
        return json.loads(translate.legacy_capabilities(json.dumps({"roots": {}, "extensions": extensions}).encode()))

    assert told(**{APPS: {"mimeTypes": ["text/html"]}, "io.modelcontextprotocol/tasks": {}}) == {
        "roots": {},
        "extensions": {APPS: {"mimeTypes": ["text/html"]}},
    }
    assert told(**{"io.modelcontextprotocol/tasks": {}}) == {"roots": {}}


@pytest.mark.requirement("apps.capability-passes")
async def test_that_a_client_shows_apps_reaches_a_legacy_server(door: Door) -> None:
    async with faulty({"good": good}) as server:
        await door.register("old", server.url)
        capabilities = {"extensions": {APPS: {"mimeTypes": ["text/html;profile=mcp-app"]}}}
        speaker = await Speaker.of(door, "legacy", "/mcp", capabilities=capabilities)
        await speaker.call("old__good").done()
        opened = [request for request in server.requests if b'"initialize"' in request][-1]
        assert json.loads(opened.partition(b"\r\n\r\n")[2])["params"]["capabilities"] == capabilities
