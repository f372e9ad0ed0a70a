"""Cancelling, over the four pairs of eras: the server hears of it in its own way, and nothing is left of the call."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from tests.gateway.mcp.door import Door
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.gateway.mcp.test_faults import PAIRS, nothing_left, outcome, tasks
from tests.support.faulty import FAULTS, LIMIT, Call, Faulty, faulty, good

NAMES = ("hang", "hang_after_head", "progress")
PATIENT = {"connect": 60.0, "first_byte": 120.0, "idle": 120.0, "total": 240.0}


async def progress(call: Call) -> None:
    notice = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
    await call.stream(call.event(json.dumps(notice).encode()), end=False)
    await call.gone()


TOOLS = {"hang": FAULTS["hang"], "hang_after_head": FAULTS["hang_after_head"], "progress": progress, "good": good}


async def under_way(server: Faulty, count: int) -> None:
    await server.until(lambda: server.calls >= count)


def given_up(server: Faulty, count: int) -> bool:
    return server.given_up >= count


async def withdraw(speaker: Speaker, calls: list[Exchange], identifiers: list[int]) -> None:
    """As each era does it: a modern client closes its connection, a legacy one says so."""
    if speaker.modern:
        for call in calls:
            call.go()
    else:
        told = [speaker.notify("notifications/cancelled", {"requestId": number}) for number in identifiers]
        for notice in told:
            assert (await notice.done()).status == 202
    async with asyncio.timeout(LIMIT):
        for call in calls:
            await call.done()


async def cancelled_calls(door: Door, client: str, server: str, turns: int, at_once: int) -> None:
    async with faulty(TOOLS, modern=server == "modern") as slow:
        await door.register("slow", slow.url, deadlines=PATIENT)
        speaker = await Speaker.of(door, client, "/mcp")
        await speaker.call("slow__good").done()
        before = tasks()
        made = 1
        for turn in range(turns):
            numbers = [1000 + turn * at_once + place for place in range(at_once)]
            calls = [speaker.call(f"slow__{NAMES[number % len(NAMES)]}", identifier=number) for number in numbers]
            made += at_once
            await under_way(slow, made)
            await withdraw(speaker, calls, numbers)
            assert not any(call.body.count(b'"error"') or call.body.count(b'"result"') for call in calls)
            # A server of either era sees the connection closed; a legacy one is told as well, because to it that means
            # nothing.
            await slow.until(partial(given_up, slow, made - 1))
        if server == "legacy":
            await slow.until(lambda: len(slow.notifications) >= turns * at_once + 1)
            told = [note for note in slow.notifications if note["method"] == "notifications/cancelled"]
            asked = [
                json.loads(request.partition(b"\r\n\r\n")[2])["id"]
                for request in slow.requests
                if b"tools/call" in request and b"slow__good" not in request and b'"good"' not in request
            ]
            assert sorted(note["params"]["requestId"] for note in told) == sorted(asked)
        await nothing_left(door, slow)
        assert tasks() <= before
        assert outcome(await speaker.call("slow__good").done()) == "done"


@pytest.mark.requirement("cancel.nothing-left")
@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_a_withdrawn_call_is_cancelled_at_its_server(door: Door, client: str, server: str) -> None:
    await cancelled_calls(door, client, server, turns=4, at_once=50)


@pytest.mark.long
@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_ten_thousand_withdrawn_calls_leave_nothing_behind(door: Door, client: str, server: str) -> None:
    await cancelled_calls(door, client, server, turns=100, at_once=100)


@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_a_legacy_client_that_only_loses_its_connection_has_not_cancelled(door: Door, server: str) -> None:
    async with faulty(TOOLS, modern=server == "modern") as slow:
        await door.register("slow", slow.url, deadlines=PATIENT)
        speaker = await Speaker.of(door, "legacy", "/mcp")
        call = speaker.call("slow__hang", identifier=5)
        await under_way(slow, 1)
        (flight,) = door.app.path.flights.under_way()
        call.go()
        modern = await Speaker.of(door, "modern", "/mcp")
        for turn in range(2):
            # A modern client that goes later is missed, one after the other, so that the first would have been as well.
            other = modern.call("slow__hang")
            await under_way(slow, 2 + turn)
            other.go()
            await slow.until(partial(given_up, slow, 1 + turn))
        assert slow.given_up == 2
        assert flight in door.app.path.flights.under_way()
        await speaker.notify("notifications/cancelled", {"requestId": 5}).done()
        await asyncio.wait_for(call.done(), LIMIT)
        await nothing_left(door, slow)


async def test_a_session_that_ends_takes_its_calls_with_it(door: Door) -> None:
    async with faulty(TOOLS) as slow:
        await door.register("slow", slow.url, deadlines=PATIENT)
        speaker = await Speaker.of(door, "legacy", "/mcp")
        call = speaker.call("slow__hang", identifier=5)
        await under_way(slow, 1)
        assert (await speaker.send("DELETE").done()).status == 204
        await asyncio.wait_for(call.done(), LIMIT)
        assert (await speaker.call("slow__good").done()).status == 404
        await nothing_left(door, slow)


@pytest.mark.requirement("cancel.own-requests-only")
async def test_nobody_cancels_the_calls_of_another_session(door: Door) -> None:
    async with faulty(TOOLS) as slow:
        await door.register("slow", slow.url, deadlines=PATIENT)
        victim, other = [await Speaker.of(door, "legacy", "/mcp") for _ in range(2)]
        call = victim.call("slow__hang", identifier=5)
        await under_way(slow, 1)
        assert (await other.notify("notifications/cancelled", {"requestId": 5}).done()).status == 202
        await asyncio.sleep(0)
        assert len(door.app.path.flights) == 1
        await victim.notify("notifications/cancelled", {"requestId": 5}).done()
        await asyncio.wait_for(call.done(), LIMIT)
