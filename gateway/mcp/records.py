"""Records of calls: collected in memory, written in batches by whatever `sink` they are given to.

A batch is at most `FLUSH_SECONDS` behind; where records must be durable before the answer, `written` waits for the
batch. The queue is bounded: when the sink cannot keep up, calls wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from registry.usage.calls import Call

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 0.1
FULL = 20_000
"""Records in memory at which calls begin to wait."""
RETRY_SECONDS = 0.5

Sink = Callable[[Sequence[Call]], Awaitable[None]]


class Recorder:
    """Collects records and writes them behind the calls.

    Args:
        sink: stores a batch durably, or raises.
        durable: calls are answered only after their record has been stored.
    """

    def __init__(self, sink: Sink, *, durable: bool = False) -> None:
        self._sink = sink
        self.durable = durable
        self._waiting: list[Call] = []
        self._written: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left, then end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def add(self, call: Call) -> None:
        self._waiting.append(call)
        if len(self._waiting) == 1:
            self._wake.set()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= FULL

    async def written(self) -> None:
        """Return when everything added so far has been stored."""
        if self._waiting or self._written is not None:
            if self._written is None:
                self._written = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._written)

    async def _run(self) -> None:
        while not (self._stopping and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            if not self.durable and not self._stopping:
                await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            told, self._written = self._written, None
            try:
                await self._sink(batch)
            except Exception:
                # The records stay in memory, in order; when memory is full, calls wait.
                log.exception("records could not be written, trying again", count=len(batch))
                self._waiting = batch + self._waiting
                self._written = told if self._written is None else self._written
                if self._stopping:
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if told is not None and not told.done():
                told.set_result(None)
