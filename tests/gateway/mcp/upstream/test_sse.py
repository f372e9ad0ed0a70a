"""Servers reached over HTTP+SSE: sessions, whose answer is whose, and what happens when the stream goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.mcp import protocol
from gateway.mcp.upstream import sse
from gateway.mcp.upstream.port import NotSent, OutcomeUnknown, Outgoing
from gateway.mcp.upstream.sse import SseUpstream
from registry.core.egress import Egress, EgressPolicy
from registry.identity.principal import Principal
from registry.servers.connection import Connection, Deadlines
from tests.gateway.mcp.upstream.legacy_sse import SseServer
from tests.support.clock import SettableClock

ANN = Principal("org", "ann", "user", frozenset())
BOB = Principal("org", "bob", "user", frozenset())


@pytest.fixture
async def server() -> AsyncIterator[SseServer]:
    made = SseServer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def upstream(server: SseServer, clock: SettableClock) -> AsyncIterator[SseUpstream]:
    egress = Egress(EgressPolicy(local_mode=True))
    connection = Connection(
        "id", "org", "up", "sse", url=server.url, headers=(("x-key", "secret"),), deadlines=Deadlines(connect=5.0)
    )
    made = SseUpstream(connection, egress, clock)
    yield made
    await made.close()
    await egress.close()


def call(principal: Principal = ANN, identifier: bytes = b"7", **params: Any) -> Outgoing:
    packed = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in params.items()}
    return Outgoing(principal, identifier, "tools/call", packed, "t", False, None, b"{}")


async def answered(upstream: SseUpstream, outgoing: Outgoing) -> Any:
    return msgspec.json.decode((await upstream.request(outgoing)).body)


@pytest.mark.requirement("sse.client")
async def test_a_call_opens_a_session_of_its_principal(upstream: SseUpstream, server: SseServer) -> None:
    answer = await answered(upstream, call(name="t"))
    assert answer == {"jsonrpc": "2.0", "id": 7, "result": {"echo": {"name": "t"}}}
    await answered(upstream, call())
    assert server.methods() == ["initialize", "notifications/initialized", "tools/call", "tools/call"]
    assert server.headers[0]["x-key"] == "secret"
    await answered(upstream, call(BOB))
    assert len(server.streams) == 2


async def test_answers_find_their_requests_where_clients_use_the_same_id(
    upstream: SseUpstream, server: SseServer
) -> None:
    asked: list[dict[str, Any]] = []

    def hold(request: dict[str, Any]) -> None:
        asked.append(request)
        if len(asked) == 2:
            for waiting in reversed(asked):
                server.send("1", {"jsonrpc": "2.0", "id": waiting["id"], "result": waiting["params"]})

    server.answer = hold
    first, second = await asyncio.gather(
        answered(upstream, call(identifier=b'"same"', text="one")),
        answered(upstream, call(identifier=b'"same"', text="two")),
    )
    assert (first["result"]["text"], second["result"]["text"]) == ("one", "two")
    assert first["id"] == second["id"] == "same"


async def test_progress_reaches_its_request_under_its_own_token(upstream: SseUpstream, server: SseServer) -> None:
    def progressing(request: dict[str, Any]) -> dict[str, Any]:
        token = request["params"]["_meta"]["progressToken"]
        for step in range(3):
            params = {"progressToken": token, "progress": step, "total": 3}
            server.send("1", {"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        return {"jsonrpc": "2.0", "id": request["id"], "result": {}}

    server.answer = progressing
    answer = await upstream.request(call(_meta={"progressToken": "mine"}))
    assert answer.stream is not None
    events = [msgspec.json.decode(event.split(b"data: ")[1]) async for event in answer.stream]
    assert [event["params"]["progressToken"] for event in events[:3]] == ["mine"] * 3
    assert events[3] == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert answer.outcome == "ok"


async def test_a_client_that_gives_up_cancels_the_call(upstream: SseUpstream, server: SseServer) -> None:
    server.answer = lambda _: None
    task = asyncio.create_task(upstream.request(call()))
    asked = await server.until("tools/call")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await server.until("notifications/cancelled"))["params"]["requestId"] == asked["id"]


async def test_a_server_that_asks_for_something_is_told_that_it_is_not_offered(
    upstream: SseUpstream, server: SseServer
) -> None:
    def asking(request: dict[str, Any]) -> dict[str, Any]:
        server.send("1", {"jsonrpc": "2.0", "id": "p", "method": "ping"})
        server.send("1", {"jsonrpc": "2.0", "id": "r", "method": "roots/list"})
        return {"jsonrpc": "2.0", "id": request["id"], "result": {}}

    server.answer = asking
    await answered(upstream, call())
    while {"p", "r"} - {message.get("id") for message in server.received}:
        server.heard.clear()
        await server.heard.wait()
    replies = {message["id"]: message for message in server.received if message.get("id") in ("p", "r")}
    assert replies["p"]["result"] == {}
    assert replies["r"]["error"]["code"] == protocol.METHOD_NOT_FOUND


@pytest.mark.requirement("sse.own-origin")
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1/messages", "//elsewhere.example/messages", "ftp://x/"])
async def test_an_address_elsewhere_is_refused(upstream: SseUpstream, server: SseServer, endpoint: str) -> None:
    server.endpoint = endpoint
    with pytest.raises(NotSent, match="the address that it named for messages"):
        await upstream.request(call())
    assert server.received == []


async def test_a_stream_that_ends_leaves_calls_unknown_and_is_opened_again_after_a_pause(
    upstream: SseUpstream, server: SseServer, clock: SettableClock
) -> None:
    server.answer = lambda _: None
    task = asyncio.create_task(upstream.request(call()))
    await server.until("tools/call")
    server.end_streams()
    with pytest.raises(OutcomeUnknown, match="ended"):
        await task
    with pytest.raises(NotSent, match=r"tried again in 0\.5 s"):
        await upstream.request(call())
    clock.advance(0.5)
    server.answer = lambda request: {"jsonrpc": "2.0", "id": request["id"], "result": {}}
    assert (await answered(upstream, call()))["result"] == {}
    assert len(server.streams) == 2


async def test_a_session_that_the_server_forgot_is_opened_anew(upstream: SseUpstream, server: SseServer) -> None:
    await answered(upstream, call())
    server.known.clear()
    assert (await answered(upstream, call(name="t")))["result"] == {"echo": {"name": "t"}}
    assert len(server.streams) == 2


async def test_a_server_that_is_not_there_was_not_sent_anything(
    server: SseServer, upstream: SseUpstream, clock: SettableClock
) -> None:
    await server.stop()
    with pytest.raises(NotSent, match="Could not connect"):
        await upstream.request(call())
    # It is left alone for a while, so that its callers hear at once.
    with pytest.raises(NotSent, match="tried again"):
        await upstream.request(call())


async def test_unused_streams_are_closed_when_another_opens(
    upstream: SseUpstream, server: SseServer, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answered(upstream, call(ANN))
    clock.advance(sse.IDLE_SECONDS + 1)
    await answered(upstream, call(BOB))
    assert set(upstream._sessions) == {"user:bob {}"}
    monkeypatch.setattr(sse, "MAX_SESSIONS", 1)
    await answered(upstream, call(ANN))
    assert set(upstream._sessions) == {"user:ann {}"}
    assert len(upstream._alive) == 1


async def test_an_upstream_that_was_closed_sends_nothing(upstream: SseUpstream, server: SseServer) -> None:
    server.answer = lambda _: None
    task = asyncio.create_task(upstream.request(call()))
    await server.until("tools/call")
    await upstream.close()
    with pytest.raises(OutcomeUnknown, match="removed or changed"):
        await task
    with pytest.raises(NotSent, match="removed or changed"):
        await upstream.request(call())


async def test_a_modern_clients_call_is_translated(upstream: SseUpstream, server: SseServer) -> None:
    meta = {protocol.META_VERSION: protocol.MODERN, protocol.META_CAPABILITIES: {}}
    answer = await answered(upstream, replace(call(name="t", _meta=meta), modern=True))
    assert answer["result"] == {"resultType": "complete", "echo": {"name": "t"}}
