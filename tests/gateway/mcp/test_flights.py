"""Calls under way leave nothing behind when they have landed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.mcp.flights import Flight, Flights


class Watched(Flight):
    """One that can be referred to weakly."""

    __slots__ = ("__weakref__",)


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_off")
async def test_a_flight_whose_client_was_watched_is_no_cycle() -> None:
    listening = asyncio.Event()

    async def receive() -> dict[str, str]:
        listening.set()
        await asyncio.Event().wait()
        return {}

    flights, flight = Flights(), Watched(receive, "org", float("inf"), TimeoutError)
    flights.take_off(flight)
    watcher = flight.watcher = asyncio.create_task(flight.watch(receive))
    await asyncio.wait_for(listening.wait(), 10)
    flights.land(flight)
    await asyncio.wait([watcher])
    gone = weakref.ref(flight)
    del flight, watcher
    assert gone() is None
