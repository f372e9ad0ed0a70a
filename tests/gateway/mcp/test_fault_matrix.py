"""The fault matrix: whatever a server does, its calls end in a typed error, it is left alone after five of them, and
its neighbour feels nothing. What comes back is used again.

The data path's breakers stand on a clock that the test moves; deadlines are real and short.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from tests.gateway.mcp.door import Door
from tests.gateway.mcp.echo import Echo, echo
from tests.gateway.mcp.exchange import Speaker
from tests.gateway.mcp.test_faults import NOT_SENT, UNKNOWN, end_of, reached
from tests.support import faulty as faults
from tests.support.clock import SettableClock
from tests.support.faulty import Call, Fault, faulty

DEADLINES = {"connect": 5.0, "first_byte": 1.0, "idle": 1.0, "total": 1.5}
FAILING: dict[str, tuple[Fault, int]] = {
    "hang": (faults.hang, UNKNOWN),
    "hang_after_head": (faults.hang_after_head, UNKNOWN),
    "drip": (faults.drip, UNKNOWN),
    "drip_comments": (faults.drip_comments, UNKNOWN),
    "reset_before": (faults.reset_before, UNKNOWN),
    "reset_amid": (faults.reset_amid, UNKNOWN),
    "reset_amid_events": (faults.reset_amid_events, UNKNOWN),
    "invalid_json": (faults.invalid_json, UNKNOWN),
    "wrong_id": (faults.wrong_id, UNKNOWN),
    "wrong_id_in_events": (faults.wrong_id_in_events, UNKNOWN),
    "endless_event": (faults.giant_event, UNKNOWN),
    "bomb": (faults.bomb, UNKNOWN),
    "burst_of_500": (faults.html_500, UNKNOWN),
    "burst_of_503": (faults.html_503, NOT_SENT),
}
ANSWERED: dict[str, tuple[Fault, str]] = {
    "duplicate": (faults.duplicate, "first"),
    "late": (faults.late, "first"),
    "body_without_end": (faults.giant, "was cut by the gateway"),
}
PAIRS = [(name, "modern") for name in FAILING]
PAIRS += [(name, "legacy") for name in ("hang", "reset_before", "reset_amid_events", "wrong_id_in_events", "bomb")]
PATIENCE = 60.0


class Switch:
    """A tool that does what it is told to at the moment."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    async def __call__(self, call: Call) -> None:
        await self.fault(call)


@pytest.fixture
def clock(door: Door) -> SettableClock:
    """The clock of the breakers that are made from now on."""
    made = SettableClock()
    door.app.path.upstreams._clock = made
    return made


async def ends(speaker: Speaker, name: str, times: int) -> list[str | int]:
    """How so many calls at once end, within any reason."""
    async with asyncio.timeout(PATIENCE):
        return [end.outcome for end in await asyncio.gather(*(end_of(speaker.call(name)) for _ in range(times)))]


async def error_of(speaker: Speaker, name: str) -> dict[str, Any]:
    error: dict[str, Any] = (await speaker.call(name).done()).messages()[-1]["error"]
    return error


@asynccontextmanager
async def beside(door: Door, speaker: Speaker, neighbour: Echo) -> AsyncIterator[None]:
    """A neighbour that is called all the while: no call of it fails, and none is made twice."""
    going, outcomes = True, []

    async def keep_calling() -> None:
        while going:
            outcomes.append((await end_of(speaker.call("neighbour__say"))).outcome)

    await door.register("neighbour", neighbour.url)
    calling = asyncio.create_task(keep_calling())
    try:
        yield
    finally:
        going = False
        await calling
    assert outcomes
    assert [outcome for outcome in outcomes if '"method": "tools/call"' not in str(outcome)] == []
    assert len(neighbour.received) == len(outcomes)


@pytest.mark.parametrize(("name", "era"), PAIRS)
async def test_a_failing_server_is_left_alone_until_it_is_back(
    door: Door, clock: SettableClock, name: str, era: str
) -> None:
    fault, code = FAILING[name]
    tool = Switch(faults.good)
    async with faulty({"tool": tool}, modern=era == "modern") as bad, echo() as neighbour:
        await door.register("bad", bad.url, deadlines=DEADLINES)
        speaker = await Speaker.of(door, "modern", "/mcp")
        await reached(speaker, "bad__tool")
        tool.fault = fault
        async with beside(door, speaker, neighbour):
            assert await ends(speaker, "bad__tool", 5) == [code] * 5
            seen = bad.calls
            refused = await error_of(speaker, "bad__tool")
            assert refused["code"] == NOT_SENT
            assert "times in a row" in refused["message"]
            assert refused["data"]["retry_after"] in (1, 2)
            assert await ends(speaker, "bad__tool", 20) == [NOT_SENT] * 20
            assert bad.calls == seen, "nothing is sent while the breaker is open"
            clock.advance(1.2)
            assert await ends(speaker, "bad__tool", 1) == [code]
            assert (await error_of(speaker, "bad__tool"))["data"]["retry_after"] in (2, 3)
            tool.fault = faults.good
            clock.advance(2.3)
            assert await ends(speaker, "bad__tool", 1) == ["done"]
            assert await ends(speaker, "bad__tool", 5) == ["done"] * 5


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("name", ANSWERED)
async def test_what_comes_twice_late_or_without_end_is_answered_once(door: Door, name: str, era: str) -> None:
    fault, text = ANSWERED[name]
    async with faulty({"tool": fault}, modern=era == "modern") as bad, echo() as neighbour:
        await door.register("bad", bad.url, deadlines=DEADLINES)
        speaker = await Speaker.of(door, era, "/mcp")
        async with beside(door, speaker, neighbour):
            outcomes = await ends(speaker, "bad__tool", 6)
    assert all(text in str(outcome) for outcome in outcomes), outcomes


async def test_bad_tls_is_not_sent_and_opens_the_breaker(door: Door, clock: SettableClock) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting, strict = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    door.app.ground.egress._tls = lambda: trusting
    async with faulty({"tool": faults.good}, modern=True, tls=context) as bad, echo() as neighbour:
        await door.register("bad", bad.url, deadlines=DEADLINES | {"first_byte": 5.0})
        door.app.ground.egress._tls = lambda: strict
        speaker = await Speaker.of(door, "modern", "/mcp")
        async with beside(door, speaker, neighbour):
            assert await ends(speaker, "bad__tool", 5) == [NOT_SENT] * 5
            refused = await error_of(speaker, "bad__tool")
            assert "certificate was not accepted" in refused["message"]
            assert "times in a row" in refused["message"]
            door.app.ground.egress._tls = lambda: trusting
            clock.advance(1.2)
            assert await ends(speaker, "bad__tool", 1) == ["done"]


async def test_a_server_that_flaps_fails_its_own_calls_only(door: Door, clock: SettableClock) -> None:
    async with faulty({"tool": (tool := Switch(faults.good))}, modern=True) as bad, echo() as neighbour:
        await door.register("bad", bad.url, deadlines=DEADLINES)
        speaker = await Speaker.of(door, "modern", "/mcp")
        async with beside(door, speaker, neighbour):
            for turn in range(12):
                tool.fault = faults.reset_before if turn % 2 else faults.good
                assert await ends(speaker, "bad__tool", 1) == [UNKNOWN if turn % 2 else "done"]
            # Down long enough to be left alone, and up again: three times over.
            for _ in range(3):
                tool.fault = faults.reset_before
                assert await ends(speaker, "bad__tool", 5) == [UNKNOWN] * 5
                assert await ends(speaker, "bad__tool", 1) == [NOT_SENT]
                tool.fault = faults.good
                clock.advance(1.2)
                assert await ends(speaker, "bad__tool", 1) == ["done"]


async def test_what_is_not_the_servers_fault_never_opens_the_breaker(door: Door, clock: SettableClock) -> None:
    async def refuse(call: Call) -> None:
        await call.whole(b"no", "text/plain", 401)

    async with faulty({"tool": (tool := Switch(refuse))}, modern=True) as bad:
        await door.register("bad", bad.url, deadlines=DEADLINES)
        speaker = await Speaker.of(door, "modern", "/mcp")
        assert await ends(speaker, "bad__tool", 10) == [NOT_SENT] * 10
        tool.fault = faults.hang
        for _ in range(6):
            call = speaker.call("bad__tool")
            await bad.until(lambda: bool(bad.requests) and b"tools/call" in bad.requests[-1])
            call.go()
            await call.done()
            bad.requests.clear()
        tool.fault = faults.good
        assert await ends(speaker, "bad__tool", 1) == ["done"]


@pytest.mark.parametrize("hint", ["readOnlyHint", "idempotentHint", "destructiveHint"])
async def test_only_what_is_safe_is_repeated_and_within_the_budget(door: Door, clock: SettableClock, hint: str) -> None:
    async with faulty({"tool": (tool := Switch(faults.reset_before))}, modern=True) as bad:
        introduction = bad._introduction

        def hinting(method: str) -> dict[str, Any] | None:
            result = introduction(method)
            for one in (result or {}).get("tools", ()):
                one["annotations"] = {hint: True}
            return result

        bad._introduction = hinting  # type: ignore[method-assign]
        await door.register("bad", bad.url, deadlines=DEADLINES)
        speaker = await Speaker.of(door, "modern", "/mcp")
        repeats = hint != "destructiveHint"
        assert await ends(speaker, "bad__tool", 1) == [UNKNOWN]
        assert bad.calls == 1 + repeats
        tool.fault = faults.html_503
        bad.calls = 0
        assert await ends(speaker, "bad__tool", 1) == [NOT_SENT]
        assert bad.calls == 2, "what was not sent is repeated, whatever it does"
        for _ in range(20):
            clock.advance(10)
            await ends(speaker, "bad__tool", 1)
        assert bad.calls <= 22 * 1.1 + 3 + 2


async def test_calls_beyond_the_places_wait_and_are_refused_in_time(door: Door) -> None:
    async with faulty({"hang": faults.hang, "good": faults.good}, modern=True) as bad, echo() as neighbour:
        await door.register("bad", bad.url, deadlines={**DEADLINES, "connect": 0.3, "first_byte": 30.0})
        await door.register("neighbour", neighbour.url)
        speaker = await Speaker.of(door, "modern", "/mcp")
        assert await ends(speaker, "bad__good", 1) == ["done"]
        (guard,) = door.app.path.upstreams.guards()
        guard.places.most = 2
        under_way = [speaker.call("bad__hang") for _ in range(2)]
        await bad.until(lambda: bad.calls == 3)
        refused = await error_of(speaker, "bad__good")
        assert refused["code"] == NOT_SENT
        assert "2 calls are under way there, which is the most" in refused["message"]
        waiting = speaker.call("bad__good")
        assert "say" in str((await ends(speaker, "neighbour__say", 1))[0])
        under_way[0].go()
        assert (await end_of(waiting)).outcome == "done"
        under_way[1].go()
        await asyncio.gather(*(call.done() for call in under_way))
        assert (guard.places.busy, guard.places.waiting) == (0, 0)


async def test_the_state_of_the_breaker_is_told(door: Door, clock: SettableClock) -> None:
    async with faulty({"tool": faults.reset_before}, modern=True) as bad:
        server = await door.register("bad", bad.url, deadlines=DEADLINES)
        place = f"/v1/mcp/servers/{server['id']}"
        speaker = await Speaker.of(door, "modern", "/mcp")
        assert (await door.rest("GET", place)).json()["circuit"] is None
        await ends(speaker, "bad__tool", 5)
        told = (await door.rest("GET", place)).json()["circuit"]
        assert (told["state"], told["failures"]) == ("open", 5)
        assert told["reason"]
        assert (await door.rest("GET", f"{place}/health")).json()["circuit"] == told
        for tool in ("servers_get", "health_server"):
            answer = await speaker.call(f"gatehouse__{tool}", {"server": "bad"}).done()
            assert answer.messages()[-1]["result"]["structuredContent"]["circuit"]["state"] == "open"


def test_the_matrix_is_whole() -> None:
    wanted = {"hang", "drip", "reset_before", "reset_amid", "invalid_json", "wrong_id", "bomb", "burst_of_500"}
    assert wanted <= FAILING.keys()
    assert {"duplicate", "late", "body_without_end"} <= ANSWERED.keys()
