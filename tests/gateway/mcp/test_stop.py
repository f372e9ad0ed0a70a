"""What the emergency stop refuses, what it never holds, and how calls under way end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.mcp.flights import Flight, Flights
from gateway.mcp.policies.policy import Attempt
from gateway.mcp.policies.stop import EmergencyStopInForce, StopPolicy
from registry.emergency.errors import StopStateUnknown
from registry.emergency.stop import Stop
from registry.identity.principal import Principal
from tests.support.clock import SettableClock

SINCE = SettableClock().now()
OURS = Stop("1", "organization", "ours", "Too hot.", "user:1", SINCE)
ALL = Stop("2", "system", None, "All of it.", "user:2", SINCE)


class Table:
    """The port, with what a test puts into it."""

    def __init__(self, *stops: Stop) -> None:
        self.stops = list(stops)
        self.readable = True
        self.back = False
        """Whether it can be read when it is read anew."""

    def standing(self, org_id: str) -> Stop | None:
        if not self.readable:
            raise StopStateUnknown("It could not be read.")
        return next((stop for stop in self.stops if stop.covers(org_id)), None)

    async def look(self, org_id: str) -> Stop | None:
        self.readable = self.readable or self.back
        return self.standing(org_id)


async def admit(policy: StopPolicy, call: Attempt) -> None:
    waiting = policy.admit(call)
    if waiting is not None:
        await waiting


def attempt(tool: str = "files__write", *, org: str = "ours", read_only: bool = False) -> Attempt:
    slug, _, name = tool.partition("__")
    entry: Any = SimpleNamespace(name=name, definition=SimpleNamespace(hints=SimpleNamespace(readOnlyHint=read_only)))
    server: Any = SimpleNamespace(slug=slug, id=slug)
    return Attempt(Principal(org, "u", "user", frozenset()), "tools/call", tool, server, entry, {})


def test_a_stop_is_of_its_scope() -> None:
    policy = StopPolicy(Table(OURS), Flights())
    with pytest.raises(EmergencyStopInForce) as refused:
        policy.admit(attempt())
    assert refused.value.code == -31000
    assert refused.value.data == {
        "code": "EMERGENCY_STOP",
        "scope": "organization",
        "reason": "Too hot.",
        "since": SINCE.isoformat(),
    }
    policy.admit(attempt(org="theirs"))
    with pytest.raises(EmergencyStopInForce, match="the whole gateway"):
        StopPolicy(Table(ALL), Flights()).admit(attempt(org="theirs"))


@pytest.mark.parametrize(
    ("tool", "read_only", "held"),
    [
        ("gatehouse__emergency_pause", False, False),
        ("gatehouse__emergency_resume", False, False),
        ("gatehouse__servers_list", True, False),
        ("gatehouse__servers_register", False, True),
        # What another server says of its own tools counts for nothing.
        ("files__emergency_resume", True, True),
        ("files__read", True, True),
    ],
)
async def test_what_is_never_held(tool: str, read_only: bool, held: bool) -> None:
    table = Table(ALL)
    policy = StopPolicy(table, Flights())
    for readable in (True, False):
        table.readable = readable
        if held:
            with pytest.raises(EmergencyStopInForce):
                await admit(policy, attempt(tool, read_only=read_only))
        else:
            await admit(policy, attempt(tool, read_only=read_only))


async def test_what_nobody_knows_is_refused_but_goes_on_where_it_was_admitted() -> None:
    table = Table()
    policy = StopPolicy(table, Flights())
    policy.recheck(attempt())
    table.readable = False
    with pytest.raises(EmergencyStopInForce, match="could not be read"):
        await admit(policy, attempt())
    policy.recheck(attempt())
    table.readable, table.stops = True, [ALL]
    with pytest.raises(EmergencyStopInForce):
        policy.recheck(attempt())


async def test_a_process_that_stood_still_looks_again_before_it_refuses() -> None:
    table = Table()
    policy = StopPolicy(table, Flights())
    table.readable, table.back = False, True
    await admit(policy, attempt())
    table.readable, table.stops = False, [ALL]
    with pytest.raises(EmergencyStopInForce, match="All of it"):
        await admit(policy, attempt())


async def test_calls_under_way_end_with_the_reason_and_streams_of_notices_go_on() -> None:
    flights = Flights()
    policy = StopPolicy(Table(), flights)
    outcomes: dict[str, str] = {}

    async def fly(name: str, org: str, *, stoppable: bool) -> None:
        flight = Flight(None, org, float("inf"), RuntimeError, stoppable=stoppable)
        flights.take_off(flight)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reason = flight.reason()
            outcomes[name] = str(reason)
            if reason is None:
                raise
        finally:
            flights.land(flight)

    tasks = [
        asyncio.create_task(fly(name, org, stoppable=stoppable))
        for name, org, stoppable in (("call", "ours", True), ("notices", "ours", False), ("their call", "theirs", True))
    ]
    while len(flights) < 3:
        await asyncio.sleep(0)
    assert policy.end_calls(OURS) == 1
    await tasks[0]
    assert "Too hot." in outcomes["call"]
    assert policy.end_calls(ALL) == 1
    await tasks[2]
    assert not tasks[1].done()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
