"""The event stream of one call to a legacy server, as far as it has been read.

A stream that breaks off is gone on with where the server can (`Last-Event-ID`). What the server sends aside, on the
session's own stream, is read as if it had come here. Source: specification 2025-11-25, basic/transports (resumability).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.mcp import sse
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed

MOST_RETURNS = 16
LONGEST_RETRY_SECONDS = 10.0

Reopen = Callable[[bytes], Awaitable[BodyStream | None]]
"""Goes on with a stream after an event id; `None` where the server cannot."""


class Reading:
    """Events of one call.

    Args:
        identifier: of the request, as the server was given it.
        aside: events may also come by `inject`.
    """

    def __init__(
        self, stream: BodyStream, identifier: bytes, session_id: bytes | None, reopen: Reopen, *, aside: bool
    ) -> None:
        self.identifier = identifier
        self.session_id = session_id
        self.waiting: deque[bytes] = deque()
        self._stream = stream
        self._reopen = reopen
        self._events = self._read()
        self._aside = aside
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._ended = False

    async def more(self) -> bool:
        """Wait for events; false at the end of the stream.

        Raises:
            ConnectionFailed, EventTooLarge: the stream broke, and cannot be gone on with.
        """
        if self.waiting:
            return True
        if not self._aside:
            try:
                self.waiting.extend(await anext(self._events))
            except StopAsyncIteration:
                return False
            return True
        if self._pump is None:
            self._pump = asyncio.create_task(self._pump_events())
        while not self.waiting:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    async def more_soon(self, seconds: float) -> bool:
        """Whether more events come within a moment."""
        try:
            async with asyncio.timeout(seconds):
                return await self.more()
        except (TimeoutError, ConnectionFailed, sse.EventTooLarge):
            return False

    def inject(self, event: bytes) -> None:
        self.waiting.append(event)
        self._news.set()

    async def leave(self) -> None:
        """Read no more after the answer; the connection is kept if the stream ends soon."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._stream.leave()

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._stream.aclose()

    async def _pump_events(self) -> None:
        try:
            async for events in self._events:
                self.waiting.extend(events)
                self._news.set()
        except (ConnectionFailed, sse.EventTooLarge) as error:
            self._failure = error
        self._ended = True
        self._news.set()

    async def _read(self) -> AsyncIterator[list[bytes]]:
        last_id: bytes | None = None
        retry = 0.0
        for _ in range(MOST_RETURNS):
            splitter = sse.Splitter()
            failure: ConnectionFailed | None = None
            try:
                async for chunk in self._stream:
                    events = splitter.feed(chunk)
                    for event in events:
                        if event.startswith(b"id:") or b"\nid:" in event:
                            last_id = sse.field_of(event, b"id")
                        if b"retry:" in event:
                            retry = _seconds(sse.field_of(event, b"retry"))
                    if events:
                        yield events
            except ConnectionFailed as error:
                failure = error
            if not last_id:
                if failure is not None:
                    raise failure
                return
            await asyncio.sleep(min(retry, LONGEST_RETRY_SECONDS))
            again = await self._reopen(last_id)
            if again is None:
                if failure is not None:
                    raise failure
                return
            self._stream = again


def _seconds(milliseconds: bytes | None) -> float:
    return int(milliseconds) / 1000 if milliseconds is not None and milliseconds.isdigit() else 0.0
