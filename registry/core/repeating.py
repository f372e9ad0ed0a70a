"""Work that a process does again and again beside everything else, with a pause before each time.

What fails is told once, and tried again until it succeeds; none of it ends the work. Whether another process does it
instead is the lease's to say (`registry.core.leases`), which the work itself asks for and this lets go at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from registry.core.clock import Clock

log = structlog.get_logger(__name__)


class Claim(Protocol):
    """What says which process does the work: `registry.core.leases.Lease`."""

    @property
    def name(self) -> str: ...

    async def release(self) -> None: ...


class Repeating:
    """One kind of work.

    Args:
        seconds: the pause before each time.
        complaint: logged when it fails, the first time in a row.
        lease: which the work holds as long as it goes on.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        work: Callable[[], Awaitable[object]],
        complaint: str,
        lease: Claim | None = None,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._work = work
        self._complaint = complaint
        self._lease = lease
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self, begun: Callable[[], Sequence[asyncio.Task[Any]]] = tuple) -> None:
        """End it, then what it has begun and not ended, and let another process take over at once.

        It may be called for what was never started.
        """
        if self._task is None:
            return
        await _end([self._task])
        await _end(begun())
        if self._lease is None:
            return
        try:
            await self._lease.release()
        except Exception:
            # A process that ends because its database has gone still ends everything else.
            log.warning("this work pauses until its lease has run out", lease=self._lease.name, exc_info=True)

    async def _run(self) -> None:
        failing = False
        while True:
            await self._clock.sleep(self._seconds)
            try:
                await self._work()
                failing = False
            except Exception:
                # Whatever it is: the work is what keeps this process up to date, and must outlive every fault.
                if not failing:
                    log.warning(self._complaint, exc_info=True)
                failing = True


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
