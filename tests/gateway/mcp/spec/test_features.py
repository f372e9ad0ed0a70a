"""What servers offer: tools, resources, prompts, completion; lists, pages, caching; logging and progress."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.mcp.catalog import PAGE
from tests.gateway.mcp.echo import echo, tool
from tests.gateway.mcp.spec.conftest import ERAS, SLUGS, Stage, answer_of
from tests.gateway.mcp.spec.server import NOTE, TEMPLATE, TOOLS

requirement = pytest.mark.requirement
both = pytest.mark.parametrize("era", ERAS)
pairs = pytest.mark.parametrize(("era", "server"), [(era, server) for era in ERAS for server in ERAS])
INVALID_PARAMS, RESOURCE_NOT_FOUND = -32602, -32002
LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


# -- tools


@requirement("tools.list", "tools.deterministic-order", "tools.unique-names", "tools.prefixed-by-server")
@both
async def test_tools_are_listed_once_in_one_order_with_their_server_in_front(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    names = [item["name"] for item in (await caller.result("tools/list"))["tools"]]
    assert len(set(names)) == len(names)
    assert {f"{slug}__{name}" for slug in ("old", "new") for name in TOOLS} <= set(names)
    again = await stage.client(era)
    assert [item["name"] for item in (await again.result("tools/list"))["tools"]] == names
    # The order is the names', and not that in which servers came: one more leaves it as it is.
    made = await stage.door.register("Middle", stage.old.url)
    more = [item["name"] for item in (await again.result("tools/list"))["tools"]]
    await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")
    slugs = [name.partition("__")[0] for name in more]
    assert slugs == sorted(slugs)
    assert "middle" in slugs
    assert [name for name in more if not name.startswith("middle__")] == names


@requirement("tools.name-characters", "tools.name-length")
@both
async def test_names_are_those_that_clients_take(stage: Stage, era: str) -> None:
    for item in (await (await stage.client(era)).result("tools/list"))["tools"]:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", item["name"])


@requirement("tools.input-schema-object")
@both
async def test_every_tool_has_an_input_schema(stage: Stage, era: str) -> None:
    for item in (await (await stage.client(era)).result("tools/list"))["tools"]:
        assert isinstance(item["inputSchema"], dict)


@requirement("tools.unknown-tool")
@both
@pytest.mark.parametrize("name", ["old__nothing", "nobody__echo", "echo", "OLD__ECHO", ""])
async def test_an_unknown_tool_is_an_error_of_the_protocol(stage: Stage, era: str, name: str) -> None:
    error = (await (await stage.client(era)).ask("tools/call", {"name": name, "arguments": {}}))["error"]
    assert error["code"] == INVALID_PARAMS


@requirement("tools.execution-errors")
@pairs
async def test_a_tool_that_fails_is_a_result(stage: Stage, era: str, server: str) -> None:
    result = await (await stage.client(era)).call(f"{SLUGS[server]}__fail")
    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": "it failed"}]


@requirement("tools.names-case-sensitive")
@both
async def test_names_are_told_apart_by_case(stage: Stage, era: str) -> None:
    async with echo(tools=[tool("Say"), tool("say")]) as server:
        made = await stage.door.register(f"Cases {era}", server.url)
        caller = await stage.client(era, f"/servers/{made['slug']}/mcp")
        for name in ("say", "Say"):
            assert json.loads((await caller.call(name))["content"][0]["text"])["name"] == name
        await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")


@requirement("tools.structured-any-in-modern", "bridge.structured-object-in-legacy", "tools.output-schema-legacy")
@pytest.mark.parametrize("server", ERAS)
async def test_structured_content_that_is_no_object_is_for_modern_clients(stage: Stage, server: str) -> None:
    name = f"{SLUGS[server]}__listed"
    modern, legacy = await stage.client("modern"), await stage.client("legacy")
    assert (await modern.call(name))["structuredContent"] == [1, 2]
    shown = {item["name"]: item for item in (await modern.result("tools/list"))["tools"]}
    assert shown[name]["outputSchema"]["type"] == "array"
    told = await legacy.call(name)
    assert told["content"] == [{"type": "text", "text": "[1, 2]"}]
    if server == "modern":
        assert "structuredContent" not in told
    shown = {item["name"]: item for item in (await legacy.result("tools/list"))["tools"]}
    assert "outputSchema" not in shown[name]


@requirement("tools.invalid-headers-dropped")
@both
@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "string", "x-mcp-header": ""}},
        {"a": {"type": "string", "x-mcp-header": "no space"}},
        {"a": {"type": "string", "x-mcp-header": "A\r\nB"}},
        {"a": {"type": "number", "x-mcp-header": "A"}},
        {"a": {"type": "object", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}},
        {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}},
    ],
)
async def test_a_tool_with_a_bad_annotation_is_left_out_alone(
    stage: Stage, era: str, properties: dict[str, Any]
) -> None:
    tools = [tool("good"), tool("bad", {"type": "object", "properties": properties})]
    async with echo(modern=True, tools=tools) as server:
        made = await stage.door.register("Annotated", server.url)
        caller = await stage.client(era, f"/servers/{made['slug']}/mcp")
        assert [item["name"] for item in (await caller.result("tools/list"))["tools"]] == ["good"]
        assert (await caller.ask("tools/call", {"name": "bad", "arguments": {}}))["error"]["code"] == INVALID_PARAMS
        await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")


# -- resources and prompts


@requirement("resources.list", "resources.templates")
@both
async def test_resources_and_templates_are_listed(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    uris = {item["uri"] for item in (await caller.result("resources/list"))["resources"]}
    assert {f"old+{NOTE}", f"new+{NOTE}"} <= uris
    templates = {item["uriTemplate"] for item in (await caller.result("resources/templates/list"))["resourceTemplates"]}
    assert {f"old+{TEMPLATE}", f"new+{TEMPLATE}"} <= templates


@requirement("resources.read")
@pairs
async def test_a_resource_is_read_at_its_own_server(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    result = await caller.result("resources/read", {"uri": f"{SLUGS[server]}+{NOTE}"})
    assert result["contents"][0]["text"] == "A note."
    _, sent = stage.server(server).requests_of("resources/read")[-1]
    assert sent["params"]["uri"] == NOTE


@requirement("resources.not-found", "resources.not-found-legacy")
@both
@pytest.mark.parametrize("uri", ["note://nothing+x", "nobody+note://one", "x", ""])
async def test_a_resource_that_is_not_there(stage: Stage, era: str, uri: str) -> None:
    error = (await (await stage.client(era)).ask("resources/read", {"uri": uri}))["error"]
    assert error["code"] == (INVALID_PARAMS if era == "modern" else RESOURCE_NOT_FOUND)
    assert error["data"] == {"uri": uri}


@requirement("resources.no-legacy-code", "base.codes-not-emitted")
async def test_a_legacy_servers_code_is_said_in_the_words_of_the_modern_era(stage: Stage) -> None:
    async with echo(resources=[{"uri": "x://a", "name": "a"}]) as server:
        original = server.answer

        def answer(request: bytes) -> bytes:
            if b'"resources/read"' not in request:
                return original(request)
            body = json.loads(request.partition(b"\r\n\r\n")[2])
            error = {"code": RESOURCE_NOT_FOUND, "message": "gone", "data": {"uri": "x://a"}}
            text = json.dumps({"jsonrpc": "2.0", "id": body["id"], "error": error}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
            return head.encode() + text

        assert server.listener is not None
        server.listener.answer = answer
        made = await stage.door.register("Forgetful", server.url)
        path = f"/servers/{made['slug']}/mcp"
        modern = await (await stage.client("modern", path)).ask("resources/read", {"uri": "x://a"})
        assert modern["error"] == {"code": INVALID_PARAMS, "message": "gone", "data": {"uri": "x://a"}}
        legacy = await (await stage.client("legacy", path)).ask("resources/read", {"uri": "x://a"})
        assert legacy["error"]["code"] == RESOURCE_NOT_FOUND
        await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")


@requirement("prompts.list", "prompts.get")
@pairs
async def test_a_prompt_is_listed_and_got(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    name = f"{SLUGS[server]}__review"
    prompts = {item["name"]: item for item in (await caller.result("prompts/list"))["prompts"]}
    assert prompts[name]["arguments"] == [{"name": "language", "required": True}]
    result = await caller.result("prompts/get", {"name": name, "arguments": {"language": "C"}})
    assert result["messages"][0]["content"]["text"] == "Review"
    _, sent = stage.server(server).requests_of("prompts/get")[-1]
    assert sent["params"]["arguments"] == {"language": "C"}
    assert sent["params"]["name"] == "review"


@requirement("prompts.unknown")
@both
async def test_an_unknown_prompt(stage: Stage, era: str) -> None:
    answer = await (await stage.client(era)).ask("prompts/get", {"name": "old__nothing"})
    assert answer["error"]["code"] == INVALID_PARAMS


# -- completion


@requirement("completion.answers", "completion.reference-renamed")
@pairs
@pytest.mark.parametrize("kind", ["prompt", "resource"])
async def test_arguments_are_completed_by_their_server(stage: Stage, era: str, server: str, kind: str) -> None:
    caller, slug = await stage.client(era), SLUGS[server]
    references = {
        "prompt": ({"type": "ref/prompt", "name": f"{slug}__review"}, {"type": "ref/prompt", "name": "review"}),
        "resource": ({"type": "ref/resource", "uri": f"{slug}+{TEMPLATE}"}, {"type": "ref/resource", "uri": TEMPLATE}),
    }
    shown, own = references[kind]
    argument = {"name": "language", "value": "p"}
    context = {"arguments": {"other": "x"}}
    result = await caller.result("completion/complete", {"ref": shown, "argument": argument, "context": context})
    assert result["completion"] == {"values": ["python", "pascal"], "total": 2, "hasMore": False}
    _, sent = stage.server(server).requests_of("completion/complete")[-1]
    assert (sent["params"]["ref"], sent["params"]["argument"], sent["params"]["context"]) == (own, argument, context)


@requirement("completion.unknown-reference")
@both
@pytest.mark.parametrize("ref", [{"type": "ref/prompt", "name": "nobody__x"}, {"type": "ref/resource"}, {}, 5])
async def test_what_is_not_there_is_not_completed(stage: Stage, era: str, ref: Any) -> None:
    params = {"ref": ref, "argument": {"name": "a", "value": ""}}
    answer = await (await stage.client(era)).ask("completion/complete", params)
    assert answer["error"]["code"] == INVALID_PARAMS


# -- pages and caching


@requirement("pagination.cursors", "pagination.stable", "caching.same-scope-on-all-pages")
@both
async def test_pages_follow_each_other_to_the_end(stage: Stage, era: str) -> None:
    wanted = [f"t{number:04}" for number in range(PAGE * 2 + 1)]
    async with echo(tools=[tool(name) for name in wanted]) as server:
        made = await stage.door.register("Many", server.url)
        caller = await stage.client(era, f"/servers/{made['slug']}/mcp")
        seen: list[str] = []
        scopes: set[Any] = set()
        params: dict[str, Any] = {}
        while True:
            page = await caller.result("tools/list", params)
            seen += [item["name"] for item in page["tools"]]
            scopes.add((page.get("cacheScope"), page.get("ttlMs")))
            if "nextCursor" not in page:
                break
            params = {"cursor": page["nextCursor"]}
        assert seen == wanted
        assert len(scopes) == 1
        await stage.door.rest("DELETE", f"/v1/mcp/servers/{made['id']}")


@requirement("pagination.invalid-cursor", "pagination.empty-cursor-is-one")
@both
@pytest.mark.parametrize("method", sorted(LISTS))
@pytest.mark.parametrize("cursor", ["", "nonsense", "AAAA", "ü", 5])
async def test_a_cursor_that_no_list_gave_is_refused(stage: Stage, era: str, method: str, cursor: Any) -> None:
    answer = await (await stage.client(era)).ask(method, {"cursor": cursor})
    assert answer["error"]["code"] == INVALID_PARAMS


@requirement("caching.hints", "caching.ttl-not-negative", "caching.private-per-caller")
@pytest.mark.parametrize("method", [*sorted(LISTS), "server/discover"])
async def test_lists_say_how_long_they_may_be_kept_and_by_whom(stage: Stage, method: str) -> None:
    result = await (await stage.client("modern")).result(method)
    assert isinstance(result["ttlMs"], int)
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] == "private", "what is listed depends on the caller"


@requirement("caching.read-hints")
@pytest.mark.parametrize("server", ERAS)
async def test_what_is_read_says_so_as_well(stage: Stage, server: str) -> None:
    result = await (await stage.client("modern")).result("resources/read", {"uri": f"{SLUGS[server]}+{NOTE}"})
    if server == "legacy":
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")
    assert result["resultType"] == "complete"


@requirement("lists.not-per-connection")
async def test_lists_do_not_depend_on_what_came_before(stage: Stage) -> None:
    first, second = await stage.client("modern"), await stage.client("modern", elicitation={})
    await first.call("new__echo")
    for method in LISTS:
        one, other = await first.result(method), await second.result(method)
        assert one == other


# -- logging and progress


@requirement("logging.only-on-request", "logging.own-stream")
@pytest.mark.parametrize("server", ERAS)
async def test_a_modern_client_that_asks_for_no_logs_of_a_legacy_server_gets_none(stage: Stage, server: str) -> None:
    caller = await stage.client("modern")
    exchange = await caller.begin("tools/call", {"name": "old__log"}).done()
    assert not [one for one in exchange.messages() if one.get("method") == "notifications/message"]
    params = {"name": "old__log", "_meta": {"io.modelcontextprotocol/logLevel": "warning"}}
    exchange = await caller.begin("tools/call", params).done()
    levels = [one["params"]["level"] for one in exchange.messages() if one.get("method") == "notifications/message"]
    assert levels == ["error"]


@requirement("logging.level-passes-to-modern")
async def test_a_level_reaches_a_modern_server(stage: Stage) -> None:
    modern = await stage.client("modern")
    await modern.call("new__log", _meta={"io.modelcontextprotocol/logLevel": "debug"})
    _, sent = stage.new.requests_of("tools/call")[-1]
    assert sent["params"]["_meta"]["io.modelcontextprotocol/logLevel"] == "debug"
    legacy = await stage.client("legacy")
    await legacy.call("new__log")
    _, sent = stage.new.requests_of("tools/call")[-1]
    assert "io.modelcontextprotocol/logLevel" not in sent["params"]["_meta"]
    assert await legacy.result("logging/setLevel", {"level": "notice"}) == {}
    await legacy.call("new__log")
    _, sent = stage.new.requests_of("tools/call")[-1]
    assert sent["params"]["_meta"]["io.modelcontextprotocol/logLevel"] == "notice"


@requirement("logging.set-level")
async def test_a_sessions_level_reaches_its_legacy_server(stage: Stage) -> None:
    caller = await stage.client("legacy")
    await caller.call("old__echo")
    assert await caller.result("logging/setLevel", {"level": "critical"}) == {}
    await caller.call("old__echo")
    _, sent = stage.old.requests_of("logging/setLevel")[-1]
    assert sent["params"] == {"level": "critical"}


@requirement("logging.invalid-level")
@both
@pytest.mark.parametrize("level", ["loud", "", "INFO"])
async def test_a_level_that_is_none_is_refused(stage: Stage, era: str, level: str) -> None:
    caller = await stage.client(era)
    if era == "legacy":
        answer = await caller.ask("logging/setLevel", {"level": level})
    else:
        answer = await caller.ask("tools/list", {"_meta": {"io.modelcontextprotocol/logLevel": level}})
    assert answer["error"]["code"] == INVALID_PARAMS


@requirement("progress.token-types", "progress.passes", "progress.known-tokens-only", "progress.ends-with-answer")
@pairs
@pytest.mark.parametrize("token", ["t", 5, 0, ""])
async def test_progress_comes_under_the_callers_token(stage: Stage, era: str, server: str, token: Any) -> None:
    caller = await stage.client(era)
    params = {"name": f"{SLUGS[server]}__progress", "_meta": {"progressToken": token}}
    exchange = await caller.begin("tools/call", params).done()
    *notices, last = exchange.messages()
    assert [one["params"]["progressToken"] for one in notices] == [token, token]
    assert [one["params"]["progress"] for one in notices] == [1, 2]
    assert "result" in last


@requirement("progress.not-without-token")
@pairs
async def test_there_is_no_progress_for_those_who_ask_for_none(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    exchange = await caller.begin("tools/call", {"name": f"{SLUGS[server]}__progress"}).done()
    assert [one for one in exchange.messages() if "method" in one] == []
    assert answer_of(exchange)["result"]["content"]
