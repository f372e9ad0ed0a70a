"""Ends commands that use up the container, while those who share the machine are safe behind its limits anyway.

A container without a free process cannot be reached any more, and where the engine has no disk quotas nobody else stops
what fills the volume. So the server looks: at the processes all the time, at the disk as often as that is cheap, and at
once when the disk's free space sinks quickly. What it ends is told why. Whoever ends the server to be rid of it has
ended the container; whoever only stops it is seen from outside, by `workspace_runtime.keeper`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from workspace_runtime.inside import ends, limits
from workspace_runtime.inside.shell import Shell

LOOK_SECONDS = 0.2
FULL = 0.9
"""The part of the process limit at which commands are ended, so that some are left to reach the container by."""
MEASURE_SECONDS = 5.0
SHARE = 20
"""Measuring the disk takes at most one part in so many of the time,"""
AT_LAST_SECONDS = 60.0
"""but it is done after so long, as a machine that was halted meanwhile seems to have taken for ever."""
MARGIN = 16 * 1024 * 1024
"""The disk's free space must have sunk by so much for it to be measured before its time."""


class Guard:
    """Args:
    quota: of the volume in bytes; 0 where the engine enforces it.
    unexpected: is told of exceptions, which do not end the guard: what it reads changes while it reads.
    """

    def __init__(
        self,
        root: str,
        shell: Shell,
        quota: int,
        *,
        pids: Callable[[], tuple[int, int] | None] = limits.pids,
        unexpected: Callable[[BaseException], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._shell = shell
        self._quota = quota
        self._pids = pids
        self._unexpected = unexpected
        self._clock = clock
        self.used = 0
        self._free = 0
        self._measure_at = float("-inf")

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - nobody else would look
                if self._unexpected is not None:
                    self._unexpected(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once, and end what must be ended."""
        found = self._pids()
        if found is not None and found[0] >= FULL * found[1]:
            await self._end(ends.PROCESSES)
        if self._quota and self._is_due():
            await self.measure()

    def _is_due(self) -> bool:
        if self._clock() >= self._measure_at:
            return True
        return self._free - limits.free_bytes(self._root) > max(MARGIN, (self._quota - self.used) // 2)

    async def measure(self) -> None:
        """Measure the volume. Commands may run on while it is too full, as long as they do not add to it."""
        began = self._clock()
        before = self.used
        self._free = limits.free_bytes(self._root)
        self.used = await asyncio.to_thread(limits.used_bytes, self._root)
        took = self._clock() - began
        self._measure_at = began + min(AT_LAST_SECONDS, max(MEASURE_SECONDS, took * SHARE))
        if self.full and (self.used > before or before == 0):
            await self._end(ends.DISK)

    @property
    def full(self) -> bool:
        return bool(self._quota) and self.used > self._quota

    async def _end(self, reason: str) -> None:
        ends.note(reason)
        jobs = (self._shell.end(job, reason) for job in self._shell.running)
        await asyncio.gather(*jobs, self._shell.end_attended())
