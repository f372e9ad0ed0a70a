"""Resumable streams of the legacy era: a client that loses its connection goes on where it was.

Each stream of a session gets numbered events, which are kept for a while. A stream goes on being read when its client
has gone, and a GET with `Last-Event-ID` gets what was missed, and what still comes.
Source: specification 2025-11-25, basic/transports (resumability and redelivery).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence

from gateway.mcp import sse, translate

MOST_STREAMS = 32
"""Streams of one session that are kept; the oldest goes first."""
MOST_BYTES = 1024 * 1024
"""Of one stream; its oldest events go first."""
RETRY_MILLISECONDS = 1000
PRIMED_FROM = "2025-11-25"
"""Clients of older revisions do not expect an event without data."""
_PRIMER = b"id: %d-0\nretry: %d\ndata: \n\n"


class _Kept:
    """One stream's latest events.

    Args:
        events: of one that has ended; it came in a moment, so they are far from `MOST_BYTES`.
    """

    __slots__ = ("ended", "events", "last", "news", "outlived", "size")

    def __init__(self, events: Sequence[bytes] = ()) -> None:
        self.events = deque(enumerate(events, 1))
        self.size = 0
        self.last = len(events)
        self.ended = bool(events)
        self.outlived = False
        """It had ended when it was last looked at."""
        self.news = asyncio.Event()

    def add(self, event: bytes) -> int:
        self.last += 1
        self.events.append((self.last, event))
        self.size += len(event)
        while self.size > MOST_BYTES and len(self.events) > 1:
            self.size -= len(self.events.popleft()[1])
        self.news.set()
        return self.last


class Replay:
    """The streams of one session."""

    def __init__(self, version: str) -> None:
        self._primed = version >= PRIMED_FROM
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._streams = 0

    async def record(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same events with ids, kept as they pass."""
        number = self._begin(kept := _Kept())
        splitter = sse.Splitter()
        try:
            if self._primed:
                yield _PRIMER % (number, RETRY_MILLISECONDS)
            async for chunk in stream:
                out = [_numbered(number, kept, event) for event in splitter.feed(chunk)]
                if out:
                    yield b"".join(out)
        finally:
            kept.ended = True
            kept.news.set()
            await translate.close(stream)

    def keep(self, before: bytes, message: bytes) -> bytes:
        """Keep a stream that has come whole: `before` with ids, and the id of the event of `message` behind it."""
        events = [framed for event in sse.events_in(before) if (framed := sse.reframed(event))]
        number = self._begin(_Kept([*events, sse.frame(message)]))
        numbered = [b"id: %d-%d\n%b" % (number, place, event) for place, event in enumerate(events, 1)]
        primer = _PRIMER % (number, RETRY_MILLISECONDS) if self._primed else b""
        return b"%b%bid: %d-%d\n" % (primer, b"".join(numbered), number, len(events) + 1)

    def _begin(self, kept: _Kept) -> int:
        self._streams += 1
        self._kept[self._streams] = kept
        if len(self._kept) > MOST_STREAMS:
            self._kept.popitem(last=False)
        return self._streams

    def resume(self, last_id: bytes) -> AsyncIterator[bytes] | None:
        """What came after an event, and what still comes; `None` if that stream is not kept."""
        number, _, place = last_id.partition(b"-")
        if not (number.isdigit() and place.isdigit()):
            return None
        kept = self._kept.get(int(number))
        return None if kept is None else self._go_on(int(number), kept, int(place))

    def tidy(self) -> None:
        """Forget the streams that had ended before the last time that this was called."""
        for number, kept in list(self._kept.items()):
            if kept.outlived:
                del self._kept[number]
            kept.outlived = kept.ended

    async def _go_on(self, number: int, kept: _Kept, place: int) -> AsyncIterator[bytes]:
        yield sse.KEEP_ALIVE
        while True:
            kept.news.clear()
            missed = [(count, event) for count, event in kept.events if count > place]
            if missed:
                place = missed[-1][0]
                yield b"".join(b"id: %d-%d\n%b" % (number, count, event) for count, event in missed)
            elif kept.ended:
                return
            else:
                await kept.news.wait()


def _numbered(number: int, kept: _Kept, event: bytes) -> bytes:
    framed = sse.reframed(event)
    if not framed:
        # Comments, and priming events of a server's own, have nothing to replay.
        return event if event.startswith(b":") else b""
    return b"id: %d-%d\n%b" % (number, kept.add(framed), framed)
