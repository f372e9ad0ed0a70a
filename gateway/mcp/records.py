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
LAST_TRIES = 5
"""How often writing is tried when the gateway stops."""

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
        self._observed = 0
        """How many of them `_observers` have been told of."""
        self._observers: list[Callable[[Sequence[Call]], None]] = []
        self._told: list[asyncio.Future[None]] = []
        """Whoever waits until what is in memory, or under way to the sink, has been stored."""
        self._writing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._waiting)

    def on_records(self, observe: Callable[[Sequence[Call]], None]) -> None:
        """Call `observe` with every record once, in batches, whether or not it can be written."""
        self._observers.append(observe)

    def observe(self) -> None:
        """Tell of the records that nobody has been told of yet."""
        fresh = self._waiting[self._observed :] if self._observed else self._waiting
        self._observed = len(self._waiting)
        for observe in self._observers if fresh else ():
            try:
                observe(fresh)
            except Exception:
                log.exception("records could not be told of", count=len(fresh))

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
        if self._waiting or self._writing:
            future = asyncio.get_running_loop().create_future()
            self._told.append(future)
            await future

    async def _run(self) -> None:
        while not (self._stopping and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            if not self.durable and not self._stopping:
                await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        tries = 0
        while self._waiting:
            self.observe()
            batch, self._waiting, self._observed = self._waiting, [], 0
            # Who asks from here on, while the sink works, waits for the next batch as well: that is late, never early.
            told, self._told = self._told, []
            self._writing = True
            try:
                await self._sink(batch)
            except Exception:
                # The records stay in memory, in order; when memory is full, calls wait.
                log.exception("records could not be written", count=len(batch))
                self._waiting = batch + self._waiting
                self._observed += len(batch)
                self._told = told + self._told
                tries += 1
                if self._stopping and tries >= LAST_TRIES:
                    log.critical("records are lost: the gateway stops, and they cannot be written", count=len(batch))
                    for future in self._told:
                        # Nobody may take it for stored.
                        future.cancel()
                    self._waiting, self._told = [], []
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            finally:
                self._writing = False
            _tell(told)
        if not self._waiting:
            told, self._told = self._told, []
            _tell(told)


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
