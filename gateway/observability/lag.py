"""How long the event loop keeps its work waiting: a task that wants to be woken on time, and notes how late it was."""

from __future__ import annotations

import asyncio
from collections import deque

EVERY_SECONDS = 0.25
KEPT = 60
"""Looks that `longest` is taken from: a quarter of a minute."""


class LoopLag:
    """The lag of the running loop."""

    def __init__(self) -> None:
        self._late: deque[float] = deque([0.0], KEPT)
        self._task: asyncio.Task[None] | None = None

    @property
    def longest(self) -> float:
        """Seconds, of late."""
        return max(self._late)

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_SECONDS
            await asyncio.sleep(EVERY_SECONDS)
            self._late.append(max(0.0, loop.time() - due))
