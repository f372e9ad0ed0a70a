"""Counting visits: a minute's worth for each address, refilled as time goes on, and so many open streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.mcp.visits import MAX_ADDRESSES, MAX_STREAMS, TooManyVisits, Visits
from tests.support.clock import SettableClock


def test_a_bucket_holds_a_minute_and_is_refilled() -> None:
    clock = SettableClock()
    visits = Visits(4, clock)
    for _ in range(4):
        visits.count("192.0.2.1")
    with pytest.raises(TooManyVisits) as refused:
        visits.count("192.0.2.1")
    assert refused.value.data == {
        "code": "RATE_LIMITED",
        "limit": 4,
        "resets_at": "2026-11-22T12:00:15+00:00",
        "retry_after": 15,
    }
    visits.count("192.0.2.2")
    clock.advance(14)
    with pytest.raises(TooManyVisits):
        visits.count("192.0.2.1")
    clock.advance(1)
    visits.count("192.0.2.1")
    clock.advance(3600)
    for _ in range(4):
        visits.count("192.0.2.1")
    with pytest.raises(TooManyVisits):
        visits.count("192.0.2.1")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("unknown", "unknown", True),
        ("not:an:address", "not:another", False),
    ],
)
def test_which_addresses_are_counted_as_one(first: str, second: str, same: bool) -> None:
    visits = Visits(1, SettableClock())
    visits.count(first)
    if same:
        with pytest.raises(TooManyVisits):
            visits.count(second)
    else:
        visits.count(second)


def test_the_table_is_bounded_and_forgets_who_was_longest_unseen() -> None:
    visits = Visits(2, SettableClock())
    for _ in range(2):
        visits.count("first")
    for number in range(MAX_ADDRESSES - 1):
        visits.count(f"other-{number}")
    with pytest.raises(TooManyVisits):
        visits.count("first")
    visits.count("newest")
    visits.count("other-0")
    with pytest.raises(TooManyVisits):
        visits.count("first")


def test_nothing_is_counted_where_limits_are_off() -> None:
    visits = Visits(None, SettableClock())
    for _ in range(1000):
        visits.count("192.0.2.1")


async def test_streams_that_stay_open_are_bounded() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"event"

    visits = Visits(100_000, SettableClock())
    streams = [visits.staying("192.0.2.1", endless()) for _ in range(MAX_STREAMS)]
    for stream in streams:
        visits.count("192.0.2.1")
        assert await anext(stream) == b"event"
    with pytest.raises(TooManyVisits):
        visits.count("192.0.2.1")
    visits.count("192.0.2.2")
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    visits.count("192.0.2.1")
