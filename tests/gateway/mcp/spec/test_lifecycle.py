"""Opening: the handshake and its sessions on both legs, discovery, and the choice of a revision."""

from __future__ import annotations

import asyncio
import json
import string
from typing import Any

import pytest

from gateway.mcp.protocol import LEGACY_VERSIONS
from tests.gateway.mcp.door import LEGACY, MODERN
from tests.gateway.mcp.exchange import META, Exchange, Speaker
from tests.gateway.mcp.spec.conftest import Stage, answer_of
from tests.support.attacks import attack

requirement = pytest.mark.requirement
INVALID_REQUEST, INVALID_PARAMS, METHOD_NOT_FOUND, UNSUPPORTED_VERSION = -32600, -32602, -32601, -32022
VISIBLE = set(map(chr, range(0x21, 0x7F)))


async def initialize(stage: Stage, version: Any = LEGACY, path: str = "/mcp", **more: Any) -> Exchange:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}, **more}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    return await Speaker(stage.door, path, stage.door.admin).post(message).done()


@requirement("lifecycle.same-version")
@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_a_revision_that_is_known_is_agreed_to(stage: Stage, version: str) -> None:
    assert answer_of(await initialize(stage, version))["result"]["protocolVersion"] == version


@requirement("lifecycle.other-version", "lifecycle.latest-version")
@pytest.mark.parametrize("version", ["1999-01-01", "9999-12-31", "nonsense", "", MODERN])
async def test_another_is_answered_with_the_latest_of_that_era(stage: Stage, version: str) -> None:
    assert answer_of(await initialize(stage, version))["result"]["protocolVersion"] == LEGACY


@requirement("lifecycle.server-introduces-itself")
async def test_the_gateway_introduces_itself(stage: Stage) -> None:
    result = answer_of(await initialize(stage))["result"]
    assert result["serverInfo"]["name"] == "gatehouse"
    assert result["serverInfo"]["version"]
    assert "Be kind." in result["instructions"]


@requirement("tools.capability", "resources.capability", "prompts.capability", "completion.capability")
@requirement("logging.capability")
async def test_what_is_offered_is_declared_in_both_eras(stage: Stage) -> None:
    legacy = answer_of(await initialize(stage))["result"]["capabilities"]
    modern = (await (await stage.client("modern")).result("server/discover"))["capabilities"]
    for declared in (legacy, modern):
        assert declared["tools"] == {"listChanged": True}
        assert declared["resources"] == {"subscribe": True, "listChanged": True}
        assert declared["prompts"] == {"listChanged": True}
        assert declared["completions"] == {}
        assert declared["logging"] == {}


@requirement("lifecycle.malformed-initialize")
@pytest.mark.parametrize("params", [{}, {"protocolVersion": 5}, {"protocolVersion": LEGACY, "capabilities": 5}, []])
async def test_a_handshake_without_a_version_is_refused(stage: Stage, params: Any) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    answer = await Speaker(stage.door, "/mcp", stage.door.admin).post(message).done()
    assert answer_of(answer)["error"]["code"] == INVALID_PARAMS
    assert "mcp-session-id" not in answer.headers


@requirement("lifecycle.initialize-first", "legacy-http.session-required")
@pytest.mark.parametrize("method", ["tools/list", "ping", "tools/call", "resources/subscribe"])
async def test_nothing_comes_before_the_handshake(stage: Stage, method: str) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    answer = await Speaker(stage.door, "/mcp", stage.door.admin).post(message).done()
    assert (answer.status, answer_of(answer)["error"]["code"]) == (400, INVALID_REQUEST)
    assert "initialize" in answer_of(answer)["error"]["message"]


@requirement("legacy-http.session-id-ascii", "legacy-http.session-id-unique")
async def test_session_ids_are_visible_ascii_and_never_the_same(stage: Stage) -> None:
    ids = {(await initialize(stage)).headers["mcp-session-id"] for _ in range(20)}
    assert len(ids) == 20
    assert set("".join(ids)) <= VISIBLE
    assert all(len(one) >= 32 for one in ids)
    assert set("".join(ids)) & set(string.ascii_letters)


@requirement("legacy-http.unknown-session-404")
@pytest.mark.parametrize("session", ["nobody", "A" * 200, "\x7f"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_an_unknown_session_is_not_found(stage: Stage, session: str, method: str) -> None:
    speaker = Speaker(stage.door, "/mcp", stage.door.admin, session)
    asked = speaker.request("tools/list") if method == "POST" else speaker.send(method)
    assert (await asked.done()).status == 404


@requirement("legacy-http.ended-session-404", "legacy-http.delete")
async def test_a_session_that_was_deleted_is_not_found(stage: Stage) -> None:
    caller = await stage.client("legacy")
    await caller.call("old__echo")
    (session,) = {head_of(head, b"mcp-session-id") for head, _ in stage.old.requests_of("tools/call")[-1:]}
    assert (await caller.speaker.send("DELETE").done()).status == 204
    for asked in (caller.begin("ping"), caller.speaker.send("GET"), caller.speaker.send("DELETE")):
        assert (await asked.done()).status == 404
    # Its session at a server is ended as well.
    await stage.old.until(lambda: session in stage.old.ended)


@attack(19)
@requirement("legacy-http.session-of-its-principal")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_session_is_of_no_use_to_another_caller(stage: Stage, method: str) -> None:
    caller = await stage.client("legacy")
    thief = Speaker(stage.door, "/mcp", stage.door.agent, caller.speaker.session)
    asked = thief.request("tools/list") if method == "POST" else thief.send(method)
    assert (await asked.done()).status == 404
    assert "result" in await caller.ask("ping")


@requirement("legacy-http.version-header-bad", "http.unsupported-version", "version.unsupported-error")
@pytest.mark.parametrize("version", ["2026-07-27", "nonsense", "2099-01-01", "2024-10-07"])
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_revision_header_that_nobody_knows_is_refused(stage: Stage, era: str, version: str) -> None:
    caller = await stage.client(era)
    meta = {"_meta": {**META, "io.modelcontextprotocol/protocolVersion": version}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": meta}
    answer = await caller.speaker.post(message, MCP_Protocol_Version=version, Mcp_Method="tools/list").done()
    error = answer_of(answer)["error"]
    assert (answer.status, error["code"]) == (400, UNSUPPORTED_VERSION)
    assert error["data"] == {"supported": [MODERN], "requested": version}


@requirement("lifecycle.version-header-optional-in-session")
async def test_a_session_without_the_header_has_the_agreed_revision(stage: Stage) -> None:
    caller = await stage.client("legacy")
    headers = {name: value for name, value in caller.speaker._headers.items() if name != "MCP-Protocol-Version"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    assert (await stage.door.send("POST", "/mcp", headers, body)).json()["result"] == {}


@requirement("ping.empty-answer")
@pytest.mark.parametrize("identifier", [1, "p"])
async def test_a_ping_is_answered_with_nothing(stage: Stage, identifier: Any) -> None:
    answer = await (await stage.client("legacy")).ask("ping", {}, identifier)
    assert answer == {"jsonrpc": "2.0", "id": identifier, "result": {}}


@requirement("ping.gateway-answers-servers")
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_server_that_pings_is_answered(stage: Stage, era: str) -> None:
    caller = await stage.client(era)
    stage.old.answers.clear()
    await caller.call("old__pings")
    assert stage.old.answers[-1] == {"jsonrpc": "2.0", "id": "are-you-there", "result": {}}


@requirement("version.removed-methods")
@pytest.mark.parametrize(
    "method", ["ping", "initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
)
async def test_methods_that_the_modern_era_removed_are_not_there(stage: Stage, method: str) -> None:
    exchange = await (await stage.client("modern")).begin(method, {"uri": "x:", "level": "info"}).done()
    assert (exchange.status, answer_of(exchange)["error"]["code"]) == (404, METHOD_NOT_FOUND)


@requirement("lifecycle.no-modern-methods")
@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen", "tasks/get"])
async def test_methods_of_the_modern_era_are_not_there_in_a_session(stage: Stage, method: str) -> None:
    assert (await (await stage.client("legacy")).ask(method))["error"]["code"] == METHOD_NOT_FOUND


@requirement("discover.implemented", "discover.versions", "caching.discover")
@pytest.mark.parametrize("path", ["/mcp", "/servers/old/mcp", "/servers/new/mcp"])
async def test_discovery(stage: Stage, path: str) -> None:
    result = await (await stage.client("modern", path)).result("server/discover")
    assert result["supportedVersions"] == [MODERN]
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] == "private"


# -- the gateway as the client of its servers


def head_of(head: bytes, name: bytes) -> str | None:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((value.strip().decode() for found, _, value in lines if found == name), None)


@requirement("lifecycle.client-opens", "lifecycle.client-initialized", "lifecycle.client-version")
@requirement("legacy-http.client-version-header", "legacy-http.client-session-id")
async def test_a_legacy_server_is_shaken_hands_with_before_anything_else(stage: Stage) -> None:
    before = len(stage.old.requests)
    caller = await stage.client("legacy", sampling={})
    await caller.call("old__echo")
    heads, methods = [], []
    for request in stage.old.requests[before:]:
        head, _, body = request.partition(b"\r\n\r\n")
        if body:
            heads.append(head.lower())
            methods.append(json.loads(body)["method"])
    assert methods[0] == "initialize"
    assert methods.index("notifications/initialized") < methods.index("tools/call")
    _, opening = stage.old.requests_of("initialize")[-1]
    assert opening["params"]["protocolVersion"] == LEGACY
    assert opening["params"]["clientInfo"]["name"] == "gatehouse"
    assert head_of(heads[0], b"mcp-session-id") is None
    for head in heads[1:]:
        assert head_of(head, b"mcp-protocol-version") == LEGACY
        assert head_of(head, b"mcp-session-id") == f"session-{stage.old.sessions}"


@requirement("lifecycle.only-negotiated")
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_server_is_told_what_this_client_can_do_and_no_more(stage: Stage, era: str) -> None:
    for capabilities in ({"roots": {}}, {"elicitation": {"url": {}}}, {"sampling": {"tools": {}}, "roots": {}}):
        caller = await stage.client(era, **capabilities)
        await caller.call("old__echo")
        sessions = {
            head_of(head, b"mcp-session-id"): opened["params"]["capabilities"]
            for (head, _), (_, opened) in zip(
                stage.old.requests_of("tools/call")[-1:], stage.old.requests_of("initialize")[-1:], strict=True
            )
        }
        assert list(sessions.values()) == [capabilities]
        await caller.call("new__echo")
        _, sent = stage.new.requests_of("tools/call")[-1]
        assert sent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == capabilities


@requirement("legacy-http.client-opens-anew")
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_session_that_a_server_forgot_is_opened_anew(stage: Stage, era: str) -> None:
    caller = await stage.client(era, roots={"listChanged": era == "modern"})
    await caller.call("old__echo")
    head, _ = stage.old.requests_of("tools/call")[-1]
    lost = head_of(head, b"mcp-session-id")
    assert lost is not None
    stage.old.forgotten.add(lost)
    assert (await caller.call("old__echo", {"again": 1}))["content"]
    head, _ = stage.old.requests_of("tools/call")[-1]
    assert head_of(head, b"mcp-session-id") not in (None, lost)


@requirement("roots.list-changed")
async def test_that_roots_have_changed_reaches_the_legacy_servers(stage: Stage) -> None:
    caller = await stage.client("legacy", roots={"listChanged": True})
    await caller.call("old__echo")
    stage.old.notifications.clear()
    told = caller.speaker.notify("notifications/roots/list_changed", {"_meta": {"a": 1}})
    assert (await told.done()).status == 202
    wanted = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": {"_meta": {"a": 1}}}
    await asyncio.wait_for(stage.old.until(lambda: wanted in stage.old.notifications), 30)


@requirement("version.era-remembered")
async def test_a_servers_era_is_found_once_and_remembered(stage: Stage) -> None:
    for era in ("modern", "legacy"):
        caller = await stage.client(era)
        before = len(stage.old.requests_of("server/discover")), len(stage.new.requests_of("server/discover"))
        await caller.call("old__echo")
        await caller.call("new__echo")
        assert (len(stage.old.requests_of("server/discover")), len(stage.new.requests_of("server/discover"))) == before
    assert stage.new.requests_of("initialize") == []
