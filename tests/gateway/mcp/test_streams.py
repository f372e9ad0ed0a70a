"""Streams without an end of their own: they end with their session, and one caller has so many at most."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.gateway.mcp.door import Door, opened
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.gateway.mcp.test_faults import tasks

RATE_LIMITED = -31002
LISTEN = {"notifications": {"toolsListChanged": True}}


async def begun(stream: Exchange) -> Exchange:
    await stream.until(b"\n\n")
    assert stream.status == 200
    return stream


async def ended(exchange: Exchange) -> Exchange:
    return await asyncio.wait_for(exchange.done(), 30)


@pytest.mark.requirement("legacy-http.delete-ends-streams")
async def test_a_session_that_is_deleted_takes_its_streams_with_it(door: Door) -> None:
    deleted, other = [await Speaker.of(door, "legacy", "/mcp") for _ in range(2)]
    before = tasks()
    streams = [await begun(deleted.send("GET")) for _ in range(3)]
    stays = await begun(other.send("GET"))
    assert (await ended(deleted.send("DELETE"))).status == 204
    for stream in streams:
        assert (await ended(stream)).ended
        assert b"error" not in stream.body
    assert not stays.task.done()
    stays.go()
    await ended(stays)
    assert tasks() <= before
    assert len(door.app.path.notices) == 0


async def test_a_session_that_another_process_ends_takes_its_streams_with_it(door: Door) -> None:
    speaker = await Speaker.of(door, "legacy", "/mcp")
    stream = await begun(speaker.send("GET"))
    (session,) = door.app.path.sessions.in_use()
    door.app.path.sessions._forget(session, ended=True)
    assert (await ended(stream)).ended


async def test_a_session_with_an_open_stream_is_not_idle(door: Door) -> None:
    speaker = await Speaker.of(door, "legacy", "/mcp")
    stream = await begun(speaker.send("GET"))
    sessions = door.app.path.sessions
    (session,) = sessions.in_use()
    for _ in range(2):
        session.expires = 0.0
        await sessions.sweep()
    assert sessions.in_use() == [session]
    stream.go()
    await ended(stream)
    session.expires = 0.0
    session.used = False
    await sessions.sweep()
    assert sessions.in_use() == []


@pytest.fixture
async def narrow(tmp_path: Path):
    async with opened(tmp_path / "data", max_streams_per_caller=2) as made:
        yield made


@pytest.mark.requirement("subscriptions.bounded")
async def test_a_caller_has_so_many_streams_and_no_more(narrow: Door) -> None:
    legacy, modern = [await Speaker.of(narrow, era, "/mcp") for era in ("legacy", "modern")]
    first, second = await begun(legacy.send("GET")), await begun(modern.request("subscriptions/listen", LISTEN))
    refused = await ended(legacy.send("GET"))
    assert refused.status == 429
    (said,) = refused.messages()
    assert said["error"]["code"] == RATE_LIMITED
    assert said["error"]["data"] == {"code": "TOO_MANY_STREAMS", "limit": 2}
    assert "GATEHOUSE_MAX_STREAMS_PER_CALLER" in said["error"]["message"]
    (said,) = (await ended(modern.request("subscriptions/listen", LISTEN, identifier="l"))).messages()
    assert (said["id"], said["error"]["code"]) == ("l", RATE_LIMITED)
    over_sse = Exchange(narrow, "GET", "/sse", {"Authorization": f"Bearer {narrow.admin}"}, b"")
    assert (await ended(over_sse)).status == 429

    other = await Speaker.of(narrow, "modern", "/mcp", narrow.agent)
    others = await begun(other.request("subscriptions/listen", LISTEN))
    first.go()
    await ended(first)
    again = await begun(legacy.send("GET"))
    for stream in (second, others, again):
        stream.go()
        await ended(stream)


async def test_calls_and_lists_are_no_streams(narrow: Door) -> None:
    modern = await Speaker.of(narrow, "modern", "/mcp")
    open_ones = [await begun(modern.request("subscriptions/listen", LISTEN)) for _ in range(2)]
    (listed,) = (await ended(modern.request("tools/list"))).messages()
    assert listed["result"]["tools"]
    for stream in open_ones:
        stream.go()
        await ended(stream)


async def test_an_sse_client_counts_once(narrow: Door) -> None:
    """Its session's notices come over the one stream that it has."""
    headers = {"Authorization": f"Bearer {narrow.admin}", "Content-Type": "application/json"}
    opening = (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05",'
        b'"capabilities":{},"clientInfo":{"name":"s","version":"1"}}}'
    )
    streams = [await begun(Exchange(narrow, "GET", "/sse", headers, b"")) for _ in range(2)]
    doors = list(narrow.app.path.sse_clients._streams)
    for number, identifier in enumerate(doors):
        address = f"/messages/?session_id={identifier}"
        answer = await narrow.send("POST", address, headers, opening)
        assert answer.status == 202
        await streams[number].until(b"protocolVersion")
    async with asyncio.timeout(30):
        while len(narrow.app.path.notices) < 2:
            await asyncio.sleep(0.01)
    for stream in streams:
        stream.go()
        await ended(stream)
