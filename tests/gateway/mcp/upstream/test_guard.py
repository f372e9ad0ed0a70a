"""The breaker, the places and the repetitions of one server, with a clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from gateway.mcp.upstream.breaker import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD, Breaker, CircuitOpen
from gateway.mcp.upstream.concurrency import (
    LEAST_WAITING,
    Concurrency,
    ConcurrencyInvalid,
    Crowded,
    Places,
    parse_concurrency,
)
from gateway.mcp.upstream.guard import Guard
from gateway.mcp.upstream.retries import MOST, RetryBudget
from tests.support.clock import SettableClock


def steady(clock: SettableClock) -> Breaker:
    """A breaker whose pauses are exact."""
    return Breaker("s", clock, spread=lambda: 0.0)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(), "it hung")


# -- the breaker


def test_it_opens_after_five_failures_in_a_row_and_says_what_to_do() -> None:
    breaker = steady(SettableClock())
    fail(breaker, THRESHOLD - 1)
    assert breaker.state == "closed"
    fail(breaker)
    assert (breaker.state, breaker.opened) == ("open", 1)
    with pytest.raises(
        CircuitOpen, match="failed 5 times in a row \\(it hung\\), and is tried again in 1 s"
    ) as refused:
        breaker.admit()
    assert refused.value.code == -31003
    assert refused.value.data == {
        "code": "NOT_SENT",
        "server": "s",
        "reason": refused.value.reason,
        "retry_after": 1,
    }
    assert not refused.value.blames


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = steady(SettableClock())
    for _ in range(10):
        fail(breaker, THRESHOLD - 1)
        breaker.admit()
        breaker.succeeded()
    assert (breaker.state, breaker.failures, breaker.reason) == ("closed", 0, None)


def test_after_a_pause_one_call_tries_and_its_success_closes() -> None:
    clock = SettableClock()
    breaker = steady(clock)
    fail(breaker, THRESHOLD)
    clock.advance(FIRST_PAUSE)
    assert breaker.state == "half_open"
    breaker.admit()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            breaker.admit()
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.admit()
    breaker.admit()


def test_pauses_grow_to_less_than_ten_seconds() -> None:
    clock = SettableClock()
    for spread in (0.0, 0.5, 1.0):
        breaker = Breaker("s", clock, spread=lambda spread=spread: spread)  # type: ignore[misc]
        fail(breaker, THRESHOLD)
        waits = []
        for _ in range(8):
            waits.append(breaker.wait)
            clock.advance(breaker.wait)
            fail(breaker)
        assert waits == sorted(waits)
        assert waits[0] == pytest.approx(FIRST_PAUSE * (1 + 0.1 * spread))
        assert waits[-1] == pytest.approx(LONGEST_PAUSE * (1 + 0.1 * spread))
        assert waits[-1] < 10


def test_a_trying_call_that_hangs_holds_its_place_for_one_pause_only() -> None:
    clock = SettableClock()
    breaker = steady(clock)
    fail(breaker, THRESHOLD)
    clock.advance(FIRST_PAUSE)
    hanging = breaker.admit()
    clock.advance(FIRST_PAUSE)
    breaker.admit()
    wait = breaker.wait
    breaker.failed(hanging, "late")
    assert breaker.wait == wait, "what an earlier try found is no news"


def test_calls_that_set_out_before_it_closed_do_not_open_it_again() -> None:
    clock = SettableClock()
    breaker = steady(clock)
    hanging = [breaker.admit() for _ in range(20)]
    fail(breaker, THRESHOLD)
    clock.advance(FIRST_PAUSE)
    breaker.admit()
    breaker.succeeded()
    for of_round in hanging:
        breaker.failed(of_round, "at their deadline")
    assert breaker.state == "closed"


def test_a_trying_call_that_says_nothing_leaves_its_place_soon() -> None:
    clock = SettableClock()
    breaker = steady(clock)
    fail(breaker, THRESHOLD)
    for _ in range(5):
        clock.advance(breaker.wait)
        fail(breaker)
    clock.advance(breaker.wait)
    trying = breaker.admit()
    assert breaker.wait == LONGEST_PAUSE
    breaker.undecided(trying)
    assert breaker.wait == FIRST_PAUSE


# -- the places


async def test_beyond_the_places_calls_wait_in_order() -> None:
    places = Places("s", 2)
    assert places.take() is None
    assert places.take() is None
    first, second = places.take(), places.take()
    assert first is not None
    assert second is not None
    assert (places.busy, places.waiting) == (2, 2)
    places.give()
    assert first.done()
    assert not second.done()
    places.give()
    assert second.done()
    places.give()
    places.give()
    assert (places.busy, places.waiting) == (0, 0)


async def test_who_leaves_the_line_leaves_no_gap() -> None:
    places = Places("s", 1)
    places.take()
    first, second, third = places.take(), places.take(), places.take()
    assert first is not None
    assert second is not None
    assert third is not None
    places.leave_line(second)
    places.give()
    assert first.done()
    # Its turn came just as it went: it is the next one's.
    places.leave_line(first)
    assert third.done()
    places.give()
    assert (places.busy, places.waiting) == (0, 0)


async def test_a_cancelled_turn_is_passed_over() -> None:
    places = Places("s", 1)
    places.take()
    first, second = places.take(), places.take()
    assert first is not None
    assert second is not None
    first.cancel()
    places.give()
    assert second.done()


async def test_the_line_has_an_end() -> None:
    places = Places("s", 1)
    places.take()
    line = [places.take() for _ in range(LEAST_WAITING)]
    with pytest.raises(
        Crowded, match="1 calls are under way there, which is the most, and 100 wait already"
    ) as refused:
        places.take()
    assert refused.value.code == -31003
    for turn in line:
        assert isinstance(turn, asyncio.Future)
        turn.cancel()


def test_without_a_limit_nobody_waits() -> None:
    places = Places("s", 0)
    assert {places.take() for _ in range(5000)} == {None}
    assert places.busy == 5000


def test_concurrency_is_read_from_settings() -> None:
    assert parse_concurrency(7, ["files=4", " slow = 0"]) == Concurrency(7, {"files": 4, "slow": 0})
    assert [parse_concurrency(7, ["files=4"]).of(slug) for slug in ("files", "other")] == [4, 7]
    for wrong in ("files", "=4", "files=many", "files=-1"):
        with pytest.raises(ConcurrencyInvalid, match="write SLUG=CALLS"):
            parse_concurrency(7, [wrong])


# -- the repetitions


def test_repetitions_are_a_tenth_of_the_calls_and_three() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    budget.earn()
    assert budget.spend()
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) <= MOST + 1


def test_a_thousand_failing_calls_are_not_multiplied() -> None:
    budget = RetryBudget()
    sent = 0
    for _ in range(1000):
        budget.earn()
        sent += 1 + budget.spend()
    assert sent <= 1000 * 1.1 + 3


def test_what_fails_and_is_not_repeated_still_counts() -> None:
    guard = Guard("s", SettableClock())
    of_round = guard.enter()
    repeated = 0
    while (again := guard.again(of_round, "reset")) is not None:
        of_round, repeated = again, repeated + 1
    assert repeated == 3
    assert guard.breaker.failures == 4
    guard.places.busy = 1
    guard.leave(of_round, "reset", healthy=False)
    assert guard.circuit.state == "open"
    assert guard.circuit.reason == "reset"
    assert guard.circuit.in_flight == 0
