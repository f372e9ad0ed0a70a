"""Time as a dependency, so that tests move it instead of sleeping. `tests.support.clock` has the one that moves."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall-clock time, always in UTC and timezone-aware."""
        ...

    def timestamp(self) -> float:
        """Wall-clock time in seconds since 1970: `now` for those who ask at every call."""
        ...

    def monotonic(self) -> float:
        """Seconds for measuring durations and deadlines; unaffected by clock changes."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def timestamp(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
