"""Messages: ids, answers, errors, notifications, and what every request and result must carry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.mcp.exchange import META
from tests.gateway.mcp.spec.conftest import ERAS, SLUGS, Caller, Stage, answer_of
from tests.gateway.mcp.spec.server import NOTE

requirement = pytest.mark.requirement
both = pytest.mark.parametrize("era", ERAS)
pairs = pytest.mark.parametrize(("era", "server"), [(era, server) for era in ERAS for server in ERAS])
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
MISSING_CAPABILITY = -32021
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
NAME = {"tools/call": "new__echo", "prompts/get": "new__review"}


def raw(caller: Caller, body: bytes) -> Any:
    """A body as it is, with this client's headers."""
    headers = dict(caller.speaker._headers)
    if caller.era == "modern":
        headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    return caller.stage.door.send("POST", "/mcp", headers, body)


@requirement("base.same-id", "base.result-present")
@pairs
@pytest.mark.parametrize("identifier", [0, 7, -1, "seven", "", "ü", 2**53])
async def test_an_answer_has_the_id_of_its_request(stage: Stage, era: str, server: str, identifier: Any) -> None:
    caller = await stage.client(era)
    for method, params in (("tools/list", {}), ("tools/call", {"name": f"{SLUGS[server]}__echo", "arguments": {}})):
        answer = await caller.ask(method, params, identifier)
        assert answer["id"] == identifier
        assert type(answer["id"]) is type(identifier)
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) is not ("error" in answer)


@requirement("base.id-is-text-or-integer", "base.id-not-null")
@both
@pytest.mark.parametrize("identifier", [None, 1.5, True, {}, []])
async def test_other_ids_are_refused(stage: Stage, era: str, identifier: Any) -> None:
    caller = await stage.client(era)
    body = {"jsonrpc": "2.0", "id": identifier, "method": "tools/list", "params": {"_meta": META}}
    answer = await raw(caller, json.dumps(body).encode())
    assert answer.status == 400
    assert answer.json()["error"]["code"] == INVALID_REQUEST


@requirement("base.ids-of-shared-sessions-are-unique")
async def test_requests_that_share_a_servers_session_have_ids_of_their_own(stage: Stage) -> None:
    caller = await stage.client("modern")
    before = len(stage.old.requests_of("tools/call"))
    calls = [caller.begin("tools/call", {"name": "old__echo", "arguments": {"n": n}}, 1) for n in range(8)]
    for number, call in enumerate(calls):
        text = answer_of(await call.done())["result"]["content"][0]["text"]
        assert json.loads(text) == {"n": number}
    sent = stage.old.requests_of("tools/call")[before:]
    assert len({message["id"] for _, message in sent}) == 8


@requirement("base.error-same-id", "base.error-code-and-message")
@both
async def test_an_error_has_the_id_a_whole_code_and_a_message(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    for method, params in (
        ("tools/call", {"name": "new__nothing"}),
        ("no/such", {}),
        ("tools/list", {"cursor": "never given"}),
        ("tools/call", {"name": "old__refuse", "arguments": {}}),
    ):
        answer = await caller.ask(method, params, "e1")
        assert answer["id"] == "e1"
        assert type(answer["error"]["code"]) is int
        assert answer["error"]["message"]


@requirement("base.error-data-passes")
@pairs
async def test_a_servers_error_passes_with_its_data(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    answer = await caller.ask("tools/call", {"name": f"{SLUGS[server]}__refuse", "arguments": {}})
    assert answer["error"] == {"code": INVALID_PARAMS, "message": "not so", "data": {"why": "x"}}


@requirement("base.unreadable-has-no-id", "transport.utf8", "jsonrpc.parse-error")
@both
@pytest.mark.parametrize("body", [b"", b"{", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', b"not json"])
async def test_what_cannot_be_read_is_answered_without_an_id(stage: Stage, era: str, body: bytes) -> None:
    answer = await raw(await stage.client(era), body)
    assert answer.status == 400
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (None, PARSE_ERROR)


@requirement("transport.one-message-a-post", "jsonrpc.no-batches")
@both
async def test_a_batch_is_refused(stage: Stage, era: str) -> None:
    answer = await raw(await stage.client(era), b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]')
    assert (answer.status, answer.json()["error"]["code"]) == (400, INVALID_REQUEST)


@requirement("jsonrpc.version")
@both
@pytest.mark.parametrize("version", ["1.0", 2.0, None, ""])
async def test_another_version_of_json_rpc_is_refused(stage: Stage, era: str, version: Any) -> None:
    body = {"jsonrpc": version, "id": 1, "method": "tools/list", "params": {"_meta": META}}
    answer = await raw(await stage.client(era), json.dumps(body).encode())
    assert (answer.status, answer.json()["error"]["code"]) == (400, INVALID_REQUEST)


@requirement("base.notification-unanswered", "http.notification-202", "legacy-http.202")
@both
@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/unknown", "notifications/cancelled"])
async def test_a_notification_is_accepted_and_not_answered(stage: Stage, era: str, method: str) -> None:
    caller = await stage.client(era)
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {"requestId": "nobody's", "_meta": META}})
    answer = await raw(caller, body.encode())
    assert (answer.status, answer.body) == (202, b"")


@requirement("base.result-type")
async def test_every_modern_result_says_what_it_is(stage: Stage) -> None:
    caller = await stage.client("modern")
    asked: list[tuple[str, dict[str, Any]]] = [(method, {}) for method in (*LISTS, "server/discover")]
    asked += [("tools/call", {"name": f"{slug}__echo", "arguments": {}}) for slug in ("old", "new")]
    asked += [("prompts/get", {"name": f"{slug}__review"}) for slug in ("old", "new")]
    asked += [("resources/read", {"uri": f"{slug}+{NOTE}"}) for slug in ("old", "new")]
    reference = {"type": "ref/prompt", "name": "old__review"}
    asked.append(("completion/complete", {"ref": reference, "argument": {"name": "language", "value": "p"}}))
    for method, params in asked:
        assert (await caller.result(method, params))["resultType"] == "complete", method


@requirement("bridge.no-modern-members")
async def test_no_legacy_result_has_the_members_of_the_modern_era(stage: Stage) -> None:
    caller = await stage.client("legacy")
    asked: list[tuple[str, dict[str, Any]]] = [(method, {}) for method in LISTS]
    asked += [("tools/call", {"name": f"{slug}__echo", "arguments": {}}) for slug in ("old", "new")]
    asked += [("resources/read", {"uri": f"{slug}+{NOTE}"}) for slug in ("old", "new")]
    for method, params in asked:
        assert not {"resultType", "ttlMs", "cacheScope"} & (await caller.result(method, params)).keys(), method


@requirement("base.server-info")
async def test_the_gateway_says_who_it_is(stage: Stage) -> None:
    caller = await stage.client("modern")
    for method in ("server/discover", *LISTS):
        info = (await caller.result(method))["_meta"]["io.modelcontextprotocol/serverInfo"]
        assert info["name"] == "gatehouse"
        assert info["version"]


@requirement("base.meta-required")
@pytest.mark.parametrize("missing", sorted(META))
@pytest.mark.parametrize("method", ["tools/list", "server/discover", "tools/call", "subscriptions/listen"])
async def test_a_request_without_what_meta_must_have_is_refused(stage: Stage, missing: str, method: str) -> None:
    caller = await stage.client("modern")
    body = {"jsonrpc": "2.0", "id": 1, "method": method}
    body["params"] = {"name": "new__echo", "_meta": {key: META[key] for key in META if key != missing}}
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": method, "Mcp_Name": "new__echo"}
    answer = await caller.speaker.post(body, **headers).done()
    assert (answer.status, answer_of(answer)["error"]["code"]) == (400, INVALID_PARAMS)


@requirement("base.unknown-members-survive")
@pairs
async def test_members_that_nobody_knows_survive(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    slug = SLUGS[server]
    params = {"name": f"{slug}__echo", "arguments": {"x": {"deep": [1]}}, "x-more": 1, "_meta": {"com.example/k": "v"}}
    result = await caller.result("tools/call", params)
    assert result["x-unknown"] == {"a": [1]}
    _, sent = stage.server(server).requests_of("tools/call")[-1]
    assert sent["params"]["x-more"] == 1
    assert sent["params"]["_meta"]["com.example/k"] == "v"
    assert sent["params"]["arguments"] == {"x": {"deep": [1]}}
    tools = {tool["name"]: tool for tool in (await caller.result("tools/list"))["tools"]}
    assert tools[f"{slug}__echo"]["x-unknown"] == {"a": 1}
    assert tools[f"{slug}__echo"]["icons"] == [{"src": "https://example.com/i.png"}]


@requirement("base.trace-context-passes")
@pairs
async def test_trace_context_passes(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", "tracestate": "a=b"}
    await caller.call(f"{SLUGS[server]}__echo", _meta=trace)
    _, sent = stage.server(server).requests_of("tools/call")[-1]
    assert trace.items() <= sent["params"]["_meta"].items()


@requirement("base.no-state-between-requests", "discover.optional")
async def test_a_modern_client_needs_no_request_before_another(stage: Stage) -> None:
    caller = await stage.client("modern")
    assert json.loads((await caller.call("old__echo", {"a": 1}))["content"][0]["text"]) == {"a": 1}
    declaring = await stage.client("modern", elicitation={})
    asked = await declaring.call("new__ask")
    assert asked["resultType"] == "input_required"
    answer = await caller.ask("tools/call", {"name": "old__ask", "arguments": {"kind": "form"}})
    _, opened = stage.old.requests_of("initialize")[-1]
    assert opened["params"]["capabilities"] == {}, "what another request declared counts for that request"
    assert "error" in answer or answer["result"]["resultType"]


@requirement("base.reserved-codes")
@both
async def test_codes_of_our_own_are_outside_the_reserved_range(stage: Stage, era: str) -> None:
    server = await stage.door.rest(
        "POST", "/v1/mcp/servers", {"name": f"Gone {era}", "base_url": "http://127.0.0.1:9/"}
    )
    assert server.status == 201
    caller = await stage.client(era, f"/servers/gone-{era}/mcp")
    answer = await caller.ask("resources/read", {"uri": "x://y"})
    assert "error" in answer
    assert not -32768 <= answer["error"]["code"] <= -32000 or answer["error"]["code"] in (INVALID_PARAMS, -32002)
    held = await stage.client(era)
    calls = await held.ask("tools/call", {"name": "gatehouse__nothing"})
    assert calls["error"]["code"] == INVALID_PARAMS
    await stage.door.rest("DELETE", f"/v1/mcp/servers/{server.json()['id']}")


@requirement("base.missing-capability")
async def test_a_capability_that_a_server_needs_is_named(stage: Stage) -> None:
    caller = await stage.client("modern")
    exchange = await caller.begin("tasks/get", {"taskId": "any"}).done()
    error = answer_of(exchange)["error"]
    assert (exchange.status, error["code"]) == (400, MISSING_CAPABILITY)
    assert error["data"]["requiredCapabilities"] == {"extensions": {"io.modelcontextprotocol/tasks": {}}}


@requirement("base.client-info-no-security")
@both
async def test_who_a_client_says_it_is_changes_nothing(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    names = {}
    for who in ("admin", "gatehouse", ""):
        meta = {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": who, "version": "1"}}}
        names[who] = [tool["name"] for tool in (await caller.result("tools/list", meta))["tools"]]
    assert names["admin"] == names["gatehouse"] == names[""]
