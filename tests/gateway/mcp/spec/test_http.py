"""Streamable HTTP: headers that mirror the body, statuses, streams, cancelling, and resuming, on both legs."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.gateway.mcp.door import LEGACY, MODERN, NAMED_BY
from tests.gateway.mcp.exchange import META, Exchange, Speaker
from tests.gateway.mcp.spec.conftest import ERAS, SLUGS, Caller, Stage, answer_of
from tests.gateway.mcp.spec.server import NOTE, Spoken
from tests.gateway.mcp.spec.test_lifecycle import head_of
from tests.support.attacks import attack

requirement = pytest.mark.requirement
both = pytest.mark.parametrize("era", ERAS)
pairs = pytest.mark.parametrize(("era", "server"), [(era, server) for era in ERAS for server in ERAS])
HEADER_MISMATCH, METHOD_NOT_FOUND, INVALID_REQUEST, INVALID_PARAMS = -32020, -32601, -32600, -32602
TARGETS = {"tools/call": "new__echo", "prompts/get": "new__review", "resources/read": f"new+{NOTE}"}


def encoded(value: str) -> str:
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


async def sent(caller: Caller, method: str, params: dict[str, Any], **changed: str | None) -> Exchange:
    """A modern request with some headers changed, or left out where they are `None`."""
    headers: dict[str, str | None] = {"MCP_Protocol_Version": MODERN, "Mcp_Method": method}
    if method in NAMED_BY:
        headers["Mcp_Name"] = str(params[NAMED_BY[method]])
    given = {name: value for name, value in {**headers, **changed}.items() if value is not None}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    return await caller.speaker.post(message, **given).done()


def refused(exchange: Exchange, code: int = HEADER_MISMATCH) -> None:
    assert (exchange.status, answer_of(exchange)["error"]["code"]) == (400, code)


# -- headers of the modern era


@requirement("http.version-header-matches")
@pytest.mark.parametrize("version", [None, "2025-11-25"])
async def test_the_revision_in_the_header_is_that_of_the_body(stage: Stage, version: str | None) -> None:
    caller = await stage.client("modern")
    exchange = await sent(caller, "tools/list", {}, MCP_Protocol_Version=version)
    assert exchange.status == 400
    assert answer_of(exchange)["error"]["code"] in (HEADER_MISMATCH, INVALID_REQUEST)
    body = {**META, "io.modelcontextprotocol/protocolVersion": "2025-11-25"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": body}}
    refused(await caller.speaker.post(message, MCP_Protocol_Version=MODERN, Mcp_Method="tools/list").done())


@requirement("http.method-header")
@pytest.mark.parametrize("given", [None, "", "tools/call", "TOOLS/LIST", "tools/list, tools/call"])
async def test_the_method_in_the_header_is_that_of_the_body(stage: Stage, given: str | None) -> None:
    refused(await sent(await stage.client("modern"), "tools/list", {}, Mcp_Method=given))


@requirement("http.name-header")
@pytest.mark.parametrize("method", sorted(NAMED_BY))
@pytest.mark.parametrize("given", [None, "", "another", "=?base64?!!?="])
async def test_the_name_in_the_header_is_that_of_the_body(stage: Stage, method: str, given: str | None) -> None:
    params = {NAMED_BY[method]: TARGETS[method]}
    refused(await sent(await stage.client("modern"), method, params, Mcp_Name=given))


@requirement("http.base64-decoded")
@pytest.mark.parametrize("method", sorted(NAMED_BY))
async def test_an_encoded_name_is_decoded_before_it_is_compared(stage: Stage, method: str) -> None:
    params = {NAMED_BY[method]: TARGETS[method]}
    exchange = await sent(await stage.client("modern"), method, params, Mcp_Name=encoded(TARGETS[method]))
    assert "result" in answer_of(exchange)


@requirement("http.sentinel-case-sensitive")
async def test_a_marker_in_other_letters_is_no_marker(stage: Stage) -> None:
    name = encoded("new__echo").replace("base64", "BASE64")
    refused(await sent(await stage.client("modern"), "tools/call", {"name": "new__echo"}, Mcp_Name=name))


@requirement("http.header-names-any-case")
@pytest.mark.parametrize("style", [str.lower, str.upper, str.title])
async def test_header_names_are_of_any_case(stage: Stage, style: Any) -> None:
    headers = {
        "Authorization": f"Bearer {stage.door.admin}",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "new__echo",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "new__echo", "_meta": META}}
    made = {style(name): value for name, value in headers.items()}
    answer = await stage.door.send("POST", "/mcp", made, json.dumps(message).encode())
    assert "result" in answer.json()


@requirement("http.param-header-matches")
@pytest.mark.parametrize(
    ("arguments", "headers", "good"),
    [
        ({"region": "eu"}, {"Mcp_Param_Region": "eu"}, True),
        ({"region": "eu"}, {"Mcp_Param_Region": encoded("eu")}, True),
        ({"region": "ü "}, {"Mcp_Param_Region": encoded("ü ")}, True),
        ({"region": "eu"}, {}, False),
        ({"region": "eu"}, {"Mcp_Param_Region": "us"}, False),
        ({"region": "eu"}, {"Mcp_Param_Region": "=?base64?!?="}, False),
        ({"region": None}, {}, True),
        ({"region": None}, {"Mcp_Param_Region": "null"}, False),
        ({}, {}, True),
        ({}, {"Mcp_Param_Region": "eu"}, False),
        ({"count": 42}, {"Mcp_Param_Count": "42"}, True),
        ({"count": 42}, {"Mcp_Param_Count": "42.0"}, True),
        ({"count": 42.0}, {"Mcp_Param_Count": "42"}, True),
        ({"count": 42}, {"Mcp_Param_Count": "43"}, False),
        ({"count": 42}, {"Mcp_Param_Count": "42.5"}, False),
        ({"region": "42"}, {"Mcp_Param_Region": "42.0"}, False),
        ({"region": "eu"}, {"Mcp_Param_Region": "eu", "Mcp_Param_Unknown": "x"}, True),
    ],
)
async def test_mirrored_arguments_are_compared(
    stage: Stage, arguments: dict[str, Any], headers: dict[str, str], good: bool
) -> None:
    caller = await stage.client("modern")
    exchange = await sent(caller, "tools/call", {"name": "new__mirrored", "arguments": arguments}, **headers)
    if good:
        assert "result" in answer_of(exchange)
    else:
        refused(exchange)


@requirement("http.client-mirrors-arguments", "http.client-encodes-values")
@both
async def test_the_gateway_mirrors_arguments_for_its_server(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    arguments = {"region": "ü", "count": 7}
    params = {"name": "new__mirrored", "arguments": arguments}
    if era == "modern":
        headers = {"Mcp_Param_Region": encoded("ü"), "Mcp_Param_Count": "7"}
        assert "result" in answer_of(await sent(caller, "tools/call", params, **headers))
    else:
        assert "result" in await caller.ask("tools/call", params)
    head, _ = stage.new.requests_of("tools/call")[-1]
    assert head_of(head, b"mcp-param-count") == "7"
    assert head_of(head, b"mcp-param-region") == encoded("ü").lower()


@requirement("http.client-headers", "http.client-accepts-both", "http.client-new-post")
@both
@pytest.mark.parametrize("method", sorted(NAMED_BY))
async def test_the_gateway_sends_the_headers_that_a_modern_server_wants(stage: Stage, era: str, method: str) -> None:
    caller = await stage.client(era)
    before = len(stage.new.requests)
    assert "result" in await caller.ask(method, {NAMED_BY[method]: TARGETS[method]})
    (request,) = [one for one in stage.new.requests[before:] if method.encode() in one]
    head, message = stage.new.requests_of(method)[-1]
    assert request.startswith(b"POST ")
    assert head_of(head, b"mcp-method") == method
    assert head_of(head, b"mcp-name") == message["params"][NAMED_BY[method]]
    assert head_of(head, b"mcp-protocol-version") == MODERN
    assert message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN
    accepted = head_of(head, b"accept") or ""
    assert "application/json" in accepted
    assert "text/event-stream" in accepted
    assert head_of(head, b"mcp-session-id") is None


@requirement("legacy-http.client-accepts-both")
async def test_the_gateway_accepts_both_forms_of_a_legacy_server(stage: Stage) -> None:
    await (await stage.client("legacy")).call("old__echo")
    head, _ = stage.old.requests_of("tools/call")[-1]
    assert {"application/json", "text/event-stream"} <= {
        part.strip() for part in (head_of(head, b"accept") or "").split(",")
    }


# -- statuses


@requirement("http.unknown-method-404")
@pytest.mark.parametrize("method", ["no/such", "tools/destroy", "x"])
async def test_an_unknown_method_is_not_found(stage: Stage, method: str) -> None:
    exchange = await (await stage.client("modern")).begin(method).done()
    assert (exchange.status, answer_of(exchange)["error"]["code"]) == (404, METHOD_NOT_FOUND)


@requirement("http.post-only")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
async def test_a_modern_client_only_posts(stage: Stage, method: str) -> None:
    headers = {"Authorization": f"Bearer {stage.door.admin}", "MCP-Protocol-Version": MODERN}
    answer = await stage.door.send(method, "/mcp", headers)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@requirement("http.no-answers-from-clients")
async def test_a_modern_client_posts_no_answers(stage: Stage) -> None:
    caller = await stage.client("modern")
    message = {"jsonrpc": "2.0", "id": 1, "result": {}}
    refused(await caller.speaker.post(message, MCP_Protocol_Version=MODERN).done(), INVALID_REQUEST)


@requirement("http.no-sessions", "http.last-event-id-ignored")
async def test_a_modern_request_has_no_session_and_nothing_to_resume(stage: Stage) -> None:
    caller = await stage.client("modern")
    headers = {"Mcp_Session_Id": "whatever", "Last_Event_ID": "1-1"}
    exchange = await sent(caller, "tools/list", {}, **headers)
    assert exchange.status == 200
    assert "mcp-session-id" not in exchange.headers
    streamed = await sent(caller, "tools/call", {"name": "new__progress"}, **headers)
    assert not [line for line in streamed.body.splitlines() if line.startswith(b"id:")]


@requirement("http.origin", "legacy-http.origin")
@both
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example:8000"])
async def test_a_foreign_origin_is_forbidden(stage: Stage, era: str, origin: str) -> None:
    caller = await stage.client(era)
    headers = {**caller.speaker._headers, "Origin": origin}
    for method in ("POST", "GET", "DELETE"):
        assert (await stage.door.send(method, "/mcp", headers, b"{}")).status == 403


@requirement("http.authentication", "auth.challenge")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("given", [None, "Bearer mcp_wrong_" + "x" * 40, "Basic eDp5"])
async def test_nobody_enters_without_a_credential(stage: Stage, method: str, given: str | None) -> None:
    headers = {"Authorization": given} if given else {}
    answer = await stage.door.send(method, "/mcp", headers, b"{}")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@attack(16)
@requirement("auth.no-passthrough")
@pairs
async def test_a_callers_credential_never_reaches_a_server(stage: Stage, era: str, server: str) -> None:
    await (await stage.client(era)).call(f"{SLUGS[server]}__echo")
    assert not any(stage.door.admin.encode() in request for request in stage.server(server).requests)
    assert not any(b"\r\nauthorization:" in request.lower() for request in stage.server(server).requests)


@requirement("auth.no-token-in-query")
async def test_a_credential_in_the_address_opens_nothing(stage: Stage) -> None:
    for name in ("access_token", "api_key", "token"):
        answer = await stage.door.send("POST", f"/mcp?{name}={stage.door.admin}", {}, b"{}")
        assert answer.status == 401


# -- answers and streams


@requirement("http.answer-forms", "legacy-http.answer-forms")
@pairs
async def test_an_answer_is_json_or_a_stream_of_events(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    whole = await caller.begin("tools/call", {"name": f"{SLUGS[server]}__echo"}).done()
    assert whole.headers["content-type"] == "application/json"
    params = {"name": f"{SLUGS[server]}__progress", "_meta": {"progressToken": "t"}}
    streamed = await caller.begin("tools/call", params).done()
    assert streamed.headers["content-type"] == "text/event-stream"
    assert answer_of(streamed)["id"] == 1


@requirement("http.stream-ends-with-answer", "legacy-http.stream-ends-with-answer", "http.no-buffering")
@pairs
async def test_the_answer_is_last_on_its_stream(stage: Stage, era: str, server: str) -> None:
    caller = await stage.client(era)
    params = {"name": f"{SLUGS[server]}__progress", "_meta": {"progressToken": "t"}}
    streamed = await caller.begin("tools/call", params).done()
    assert streamed.ended
    assert "result" in streamed.messages()[-1]
    assert streamed.headers["x-accel-buffering"] == "no"
    assert "no-cache" in streamed.headers["cache-control"]


@requirement("http.no-requests-on-streams")
@pytest.mark.parametrize("server", ERAS)
async def test_no_request_is_sent_to_a_modern_client(stage: Stage, server: str) -> None:
    caller = await stage.client("modern", elicitation={}, sampling={}, roots={})
    for kind in ("form", "roots", "sample"):
        params = {"name": f"{SLUGS[server]}__ask", "arguments": {"kind": kind}}
        exchange = await caller.begin("tools/call", params).done()
        assert not [one for one in exchange.messages() if "method" in one and "id" in one]
        assert answer_of(exchange)["result"]["resultType"] == "input_required"


def cancellations(upstream: Spoken) -> list[Any]:
    """Ids of the requests that the server was told are cancelled."""
    told = [said for said in upstream.notifications if said["method"] == "notifications/cancelled"]
    return [said["params"]["requestId"] for said in told]


@requirement("http.disconnect-cancels", "cancel.modern-to-legacy", "http.client-closes-to-cancel")
@pytest.mark.parametrize("server", ERAS)
async def test_a_modern_client_that_disconnects_has_cancelled(stage: Stage, server: str) -> None:
    caller = await stage.client("modern")
    upstream = stage.server(server)
    calls, given_up = upstream.calls, upstream.given_up
    call = caller.begin("tools/call", {"name": f"{SLUGS[server]}__hang"})
    await upstream.until(lambda: upstream.calls > calls)
    upstream.notifications.clear()
    call.go()
    await asyncio.wait_for(call.done(), 30)
    await upstream.until(lambda: upstream.given_up > given_up)
    if server == "legacy":
        _, asked = upstream.requests_of("tools/call")[-1]
        # Others may be told something, too.
        await upstream.until(lambda: cancellations(upstream).count(asked["id"]) > 0)
        assert cancellations(upstream).count(asked["id"]) == 1


@requirement("legacy-http.disconnect-no-cancel", "cancel.stops", "cancel.no-answer", "cancel.legacy-to-modern")
@pytest.mark.parametrize("server", ERAS)
async def test_a_legacy_client_cancels_by_saying_so(stage: Stage, server: str) -> None:
    caller = await stage.client("legacy")
    upstream = stage.server(server)
    calls, given_up = upstream.calls, upstream.given_up
    call = caller.begin("tools/call", {"name": f"{SLUGS[server]}__hang"}, 77)
    await upstream.until(lambda: upstream.calls > calls)
    told = caller.speaker.notify("notifications/cancelled", {"requestId": 77, "reason": "enough"})
    assert (await told.done()).status == 202
    await asyncio.wait_for(call.done(), 30)
    await upstream.until(lambda: upstream.given_up > given_up)
    assert not [message for message in call.messages() if "method" not in message]


@requirement("cancel.unknown-ignored")
@pytest.mark.parametrize("params", [{"requestId": "nobody's"}, {"requestId": 4711}, {}, {"requestId": None}])
async def test_a_cancellation_of_nothing_is_ignored(stage: Stage, params: dict[str, Any]) -> None:
    caller = await stage.client("legacy")
    assert (await caller.speaker.notify("notifications/cancelled", params).done()).status == 202
    assert (await caller.ask("ping"))["result"] == {}


@requirement("cancel.too-late")
async def test_a_cancellation_that_comes_too_late_does_no_harm(stage: Stage) -> None:
    caller = await stage.client("legacy")
    call = caller.begin("tools/call", {"name": "old__echo"}, 1)
    assert "result" in answer_of(await call.done())
    calls, given_up = stage.old.calls, stage.old.given_up
    under_way = caller.begin("tools/call", {"name": "old__hang"}, 2)
    await stage.old.until(lambda: stage.old.calls > calls)
    # Of a request that has its answer: nothing else is ended by it, nor what has the id afterwards.
    told = caller.speaker.notify("notifications/cancelled", {"requestId": 1})
    assert (await told.done()).status == 202
    again = caller.begin("tools/call", {"name": "old__echo"}, 1)
    assert "result" in answer_of(await again.done())
    assert stage.old.given_up == given_up
    told = caller.speaker.notify("notifications/cancelled", {"requestId": 2})
    assert (await told.done()).status == 202
    await asyncio.wait_for(under_way.done(), 30)
    await stage.old.until(lambda: stage.old.given_up > given_up)


# -- streams of a session


async def opened(caller: Caller) -> Exchange:
    stream = caller.speaker.send("GET")
    await stream.until(b"\n\n")
    return stream


async def gone(*streams: Exchange) -> None:
    for stream in streams:
        stream.go()
        await asyncio.wait_for(stream.done(), 30)


@requirement("legacy-http.get-stream")
async def test_a_session_can_be_listened_to(stage: Stage) -> None:
    stream = await opened(await stage.client("legacy"))
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    await gone(stream)


@requirement("legacy-http.no-broadcast", "legacy-http.no-answers-on-get")
async def test_a_message_is_on_one_stream_of_a_session_only(stage: Stage) -> None:
    caller, other = await stage.client("legacy"), await stage.client("legacy")
    await caller.result("tools/list")
    first = await opened(caller)
    second = await opened(caller)
    others = await opened(other)
    await caller.call("old__echo")
    registered = await stage.door.rest(
        "POST", "/v1/mcp/servers", {"name": "Passing", "base_url": stage.new.url, "deadlines": {"connect": 5}}
    )
    await second.until(b"tools/list_changed")
    await others.until(b"tools/list_changed")
    assert b"list_changed" not in first.body
    assert [one for one in second.messages() if "result" in one] == []
    # When the newer one is gone, the older one tells what is new, and nothing twice.
    await gone(second)
    assert b"list_changed" not in first.body
    await stage.door.rest("DELETE", f"/v1/mcp/servers/{registered.json()['id']}")
    await first.until(b"tools/list_changed")
    await gone(first, others)


@requirement("legacy-http.priming-event", "legacy-http.retry")
@pytest.mark.parametrize("version", [LEGACY, "2025-06-18"])
async def test_a_stream_begins_with_what_it_can_be_resumed_by(stage: Stage, version: str) -> None:
    opening = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening}
    answer = await Speaker(stage.door, "/mcp", stage.door.admin).post(message).done()
    session = Speaker(stage.door, "/mcp", stage.door.admin, answer.headers["mcp-session-id"])
    params = {"name": "old__progress", "arguments": {}, "_meta": {"progressToken": 1}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    streamed = await session.post(body, MCP_Protocol_Version=version).done()
    first = streamed.body.partition(b"\n\n")[0].split(b"\n")
    assert (b"data: " in first and any(line.startswith(b"retry: ") for line in first)) is (version == LEGACY)


def ids_of(stream: Exchange) -> list[bytes]:
    return [line[4:] for line in stream.body.split(b"\n") if line.startswith(b"id: ")]


@requirement("legacy-http.event-ids-unique", "legacy-http.resume", "legacy-http.resume-own-stream")
async def test_a_stream_is_resumed_where_it_was_and_no_other(stage: Stage) -> None:
    caller = await stage.client("legacy")
    params = {"name": "old__progress", "arguments": {}, "_meta": {"progressToken": 1}}
    streams = [await caller.begin("tools/call", params, number).done() for number in (101, 102)]
    ids = [ids_of(stream) for stream in streams]
    assert len(set(ids[0] + ids[1])) == len(ids[0]) + len(ids[1])
    again = Exchange(stage.door, "GET", "/mcp", {**caller.speaker._headers, "Last-Event-ID": ids[0][1].decode()}, b"")
    await asyncio.wait_for(again.done(), 30)
    assert ids_of(again) == ids[0][2:]
    assert answer_of(again)["id"] == 101


@requirement("legacy-http.request-id-is-not-session-wide")
async def test_two_streams_at_once_do_not_mix(stage: Stage) -> None:
    caller = await stage.client("legacy")
    calls = [
        caller.begin("tools/call", {"name": "old__progress", "_meta": {"progressToken": f"t{n}"}}, n) for n in range(6)
    ]
    for number, call in enumerate(calls):
        await call.done()
        tokens = {one["params"]["progressToken"] for one in call.messages() if "method" in one}
        assert tokens == {f"t{number}"}
        assert answer_of(call)["id"] == number
