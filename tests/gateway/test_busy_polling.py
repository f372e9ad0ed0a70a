"""The loop looks again instead of sleeping, for a moment, and for one busy connection alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import busy_polling
from gateway.busy_polling import BusyPolling
from tests.support.running import running_gateway


class Loop:
    """An event loop of which each round takes a second, and does what the round before has left to do."""

    def __init__(self) -> None:
        self.now = 100.0
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[..., None], *args: Any) -> None:
        self._soon.append(lambda: callback(*args))

    def rounds(self) -> int:
        """How many there are before it sleeps."""
        count = 0
        while self._soon:
            count += 1
            self.now += 1
            ready, self._soon = self._soon, []
            for callback in ready:
                callback()
        return count


def polling(loop: Loop, seconds: float = 3, processors: int = 2) -> Callable[[str], None]:
    made = BusyPolling(seconds, processors=processors, clock=lambda: loop.now)
    return lambda connection: made.stir(connection, loop)  # type: ignore[arg-type]


def test_it_looks_on_for_a_while() -> None:
    loop = Loop()
    stir = polling(loop)
    stir("a")
    assert loop.rounds() == 0, "it may be one of many"
    stir("a")
    assert loop.rounds() == 3
    stir("a")
    stir("a")
    assert loop.rounds() == 3, "once, however often it was heard"


def test_another_busy_connection_ends_it() -> None:
    loop = Loop()
    stir = polling(loop)
    stir("a")
    stir("a")
    stir("b")
    assert loop.rounds() == 1
    stir("a")
    stir("b")
    assert loop.rounds() == 0
    stir("b")
    assert loop.rounds() == 3


@pytest.mark.parametrize(("seconds", "processors"), [(0, 2), (3, 1)])
def test_it_may_be_off_and_leaves_a_single_processor_to_others(seconds: float, processors: int) -> None:
    loop = Loop()
    stir = polling(loop, seconds, processors)
    for _ in range(3):
        stir("a")
    assert loop.rounds() == 0


@pytest.mark.parametrize(("microseconds", "stays_awake"), [(10_000, True), (0, False)])
async def test_a_connection_says_when_it_is_heard_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, microseconds: int, stays_awake: bool
) -> None:
    looked = 0

    def look(self: BusyPolling, loop: object) -> None:
        nonlocal looked
        looked += 1
        self._polling = False

    monkeypatch.setattr(busy_polling.BusyPolling, "_poll", look)
    monkeypatch.setattr(busy_polling.os, "cpu_count", lambda: 2)
    async with running_gateway(tmp_path, busy_poll_microseconds=microseconds) as gateway:
        for _ in range(3):
            assert (await gateway.rest("GET", "/v1/auth/me"))[0] == 200
    # Of six times the first is of a connection that was not known.
    assert looked == (5 if stays_awake else 0)
