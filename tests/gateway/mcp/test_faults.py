"""A server may do anything: each call still ends in one typed outcome by its deadline, and nothing is left behind.

The faults are `tests.support.faulty`'s, one a tool. All of them are met at once, by clients of both eras, while a
neighbouring server keeps answering.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tests.gateway.mcp.door import Door
from tests.gateway.mcp.echo import echo
from tests.gateway.mcp.exchange import Exchange, Speaker
from tests.support import faulty as faults
from tests.support.faulty import FAULTS, LIMIT, Faulty, faulty

NOT_SENT = -31003
UNKNOWN = -31004
DEADLINES = {"connect": 1.0, "first_byte": 0.6, "idle": 0.6, "total": 1.5}
PLAIN = (lambda: None).__code__
LATEST = DEADLINES["total"] + 0.25 + 3.0
"""The product's promise, and what a loaded machine may add."""
PAIRS = [(client, server) for client in ("modern", "legacy") for server in ("modern", "legacy")]
GREEDY = {"giant": FAULTS["giant"], "giant_event": FAULTS["giant_event"]}
EXPECTED: dict[str, str | int] = {
    **dict.fromkeys(FAULTS, UNKNOWN),
    **dict.fromkeys(("good", "good_events", "interim", "open_after_answer", "json_500"), "done"),
    "duplicate": "first",
    "late": "first",
    "html_503": NOT_SENT,
    "lost_session": NOT_SENT,
}


@dataclass
class Ended:
    outcome: str | int
    seconds: float


def outcome(exchange: Exchange) -> str | int:
    """How a call ended for its client: the text it was answered, an error's code, or a word for what must not be."""
    if exchange.task.exception() is not None and not exchange.headers:
        return f"raised {exchange.task.exception()!r}"
    if not exchange.ended:
        return "broken off"
    answers = [message for message in exchange.messages() if "method" not in message]
    if len(answers) != 1:
        return f"{len(answers)} answers: {answers}"
    answer = answers[0]
    if answer.get("id") != 1:
        return f"answered {answer}"
    if "error" in answer:
        return int(answer["error"]["code"])
    result = answer["result"]
    if not isinstance(result, dict):
        return f"answered {answer}"
    if result.get("resultType") == "input_required":
        return "input required"
    return str(result["content"][0]["text"])


async def end_of(exchange: Exchange) -> Ended:
    began = time.monotonic()
    await asyncio.wait([exchange.task], timeout=LATEST + 10)
    assert exchange.task.done(), "the call never ended"
    return Ended(outcome(exchange), time.monotonic() - began)


async def reached(speaker: Speaker, name: str) -> None:
    """Call until it succeeds: on a busy machine opening a session may take longer than a call may."""
    async with asyncio.timeout(LIMIT):
        while (await end_of(speaker.call(name))).outcome != "done":
            pass


async def register(door: Door, server: Faulty, slug: str = "faulty") -> None:
    await door.register(slug, server.url, deadlines=DEADLINES)


def tasks() -> Counter[str]:
    """What the data path has running."""
    running: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        if "/gateway/mcp/" in getattr(coroutine, "cr_code", PLAIN).co_filename:
            running[coroutine.__qualname__] += 1
    return running


async def nothing_left(door: Door, server: Faulty) -> None:
    """Wait until the server has no connection but those that wait for a request; no call is under way or parked."""
    upstream: Any = next(
        made.upstream for made in door.app.path.upstreams._made.values() if made.connection.url == server.url
    )
    gc.collect()
    async with asyncio.timeout(LIMIT):
        while len(server.connections) != upstream.pool.idle:
            await asyncio.sleep(0.01)
    assert len(door.app.path.flights) == 0
    assert len(getattr(upstream, "_parking", ())) == 0
    while waiting := getattr(upstream, "_background", ()):
        await asyncio.wait(set(waiting))


@pytest.mark.requirement("transport.timeouts")
@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_every_fault_is_a_typed_outcome_by_its_deadline(door: Door, client: str, server: str) -> None:
    chosen = {name: fault for name, fault in FAULTS.items() if name not in GREEDY}
    async with faulty(chosen, modern=server == "modern") as bad, echo() as neighbour:
        await register(door, bad)
        await door.register("neighbour", neighbour.url)
        speaker = await Speaker.of(door, client, "/mcp")
        await reached(speaker, "faulty__good")
        calls = {name: end_of(speaker.call(f"faulty__{name}")) for name in chosen}
        waiting = asyncio.gather(*calls.values())
        beside = [await end_of(speaker.call("neighbour__say")) for _ in range(10)]
        ended = dict(zip(calls, await waiting, strict=True))
    expected: dict[str, str | int] = {name: EXPECTED[name] for name in chosen}
    if server == "legacy" and client == "modern":
        expected["asks"] = "input required"
    assert {name: end.outcome for name, end in ended.items()} == expected
    assert {name: end.seconds for name, end in ended.items() if end.seconds > LATEST} == {}
    assert all("say" in str(end.outcome) for end in beside), beside


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_a_body_without_end_neither_holds_up_others_nor_outlives_its_deadline(
    door: Door, client: str, server: str
) -> None:
    async with faulty(GREEDY, modern=server == "modern") as bad, echo() as neighbour:
        await register(door, bad)
        await door.register("neighbour", neighbour.url)
        speaker = await Speaker.of(door, client, "/mcp")
        waiting = asyncio.gather(*(end_of(speaker.call(f"faulty__{name}")) for name in GREEDY))
        beside = [await end_of(speaker.call("neighbour__say")) for _ in range(10)]
        ended = dict(zip(GREEDY, await waiting, strict=True))
        await nothing_left(door, bad)
    assert {name: end.seconds for name, end in ended.items() if end.seconds > LATEST} == {}
    outcomes = {name: end.outcome for name, end in ended.items()}
    assert outcomes["giant_event"] == UNKNOWN
    if client == server:
        # Its size is told beforehand: it is cut, unread.
        assert "was cut by the gateway" in str(outcomes["giant"])
    else:
        assert outcomes["giant"] == UNKNOWN
    assert all("say" in str(end.outcome) for end in beside), beside


@pytest.mark.parametrize(("client", "server"), PAIRS)
async def test_two_hundred_faulty_calls_leave_nothing_behind(door: Door, client: str, server: str) -> None:
    """Neither tasks nor connections nor parked calls: what is there after them was there before."""
    names = ["hang", "hang_after_head", "hang_as_events", "reset_amid_events", "late", "invalid_json", "duplicate"]
    names += ["zipped_large", "no_answer", "close_amid"]
    async with faulty({name: FAULTS[name] for name in names} | {"good": faults.good}, modern=server == "modern") as bad:
        await register(door, bad)
        speaker = await Speaker.of(door, client, "/mcp")
        await speaker.call("faulty__good").done()
        before = tasks()
        ended = await asyncio.gather(
            *(end_of(speaker.call(f"faulty__{names[turn % len(names)]}", identifier=1)) for turn in range(200))
        )
        assert {end.outcome for end in ended} <= {UNKNOWN, "first"}
        await nothing_left(door, bad)
        assert tasks() <= before
        # After so many failures it may be left alone for a moment, but not for longer.
        async with asyncio.timeout(60):
            while outcome(await speaker.call("faulty__good").done()) != "done":
                await asyncio.sleep(0.1)
