"""Server-sent events: splitting a stream into events, and framing messages. It knows nothing of MCP."""

from __future__ import annotations

import asyncio

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 15.0
"""After so long without an event a stream has a comment, so that nothing in between takes it for dead."""
_MAX_EVENT = 64 * 1024 * 1024
_FRAMED = b"event: message\ndata: "
"""How most servers begin an event that is one line."""


class EventTooLarge(Exception):
    """One event is larger than anything a server may send."""


class Splitter:
    """Cuts a byte stream into whole events, whatever the chunk borders and line ends."""

    __slots__ = ("_after_cr", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes, each with its blank line.

        Raises:
            EventTooLarge: an event does not end.
        """
        if self._after_cr and chunk.startswith(b"\n"):
            # A chunk may end between the two halves of a CRLF; the first half has ended the line.
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest = self._rest
        # What was looked through before is not looked through again, however small the chunks of a large event.
        looked = max(0, len(rest) - 1)
        rest += chunk
        end = rest.rfind(b"\n\n", looked)
        if end < 0:
            if len(rest) > _MAX_EVENT:
                raise EventTooLarge
            return []
        *events, left = bytes(rest).split(b"\n\n")
        self._rest = bytearray(left)
        return [event + b"\n\n" for event in events if event]


def events_in(whole: bytes) -> list[bytes]:
    """The events of a stream that has ended, each with its blank line."""
    if b"\r" in whole:
        whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [event + b"\n\n" for event in whole.split(b"\n\n")[:-1] if event]


def data_of(event: bytes) -> bytes:
    """The event's data: its `data:` lines joined, empty for comments and bare ids."""
    if _is_framed(event):
        return event[len(_FRAMED) : -2]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)


def field_of(event: bytes, name: bytes) -> bytes | None:
    """The last value of a field such as `event` or `id`."""
    prefix = name + b":"
    found = None
    for line in event.split(b"\n"):
        if line.startswith(prefix):
            found = line[len(prefix) :].removeprefix(b" ")
    return found


def frame(message: bytes) -> bytes:
    """One message as an event. JSON has no raw line breaks once it is minified, so one `data:` line is enough."""
    if b"\n" in message or b"\r" in message:
        message = message.replace(b"\r", b"").replace(b"\n", b"\ndata: ")
    return _FRAMED + message + b"\n\n"


def reframed(event: bytes) -> bytes:
    """The event as `frame` makes it of its data, without whatever else it says; empty if there is no data."""
    if _is_framed(event):
        return event
    data = data_of(event)
    return frame(data) if data else b""


def _is_framed(event: bytes) -> bool:
    return event.startswith(_FRAMED) and event.find(b"\n", len(_FRAMED)) == len(event) - 2


class Mailbox:
    """Events on their way to one reader: many streams are open that carry few, and `asyncio.Queue` is ten times larger.

    Args:
        most: events that may wait in it.
    """

    __slots__ = ("_events", "_most", "_reader")

    def __init__(self, most: int) -> None:
        self._events: list[bytes | None] = []
        self._most = most
        self._reader: asyncio.Future[None] | None = None

    def put(self, event: bytes) -> None:
        """Leave an event; a reader that does not keep up gets the end of the stream instead."""
        if len(self._events) < self._most:
            self._events.append(event)
            _wake(self._reader)
        else:
            self.end()

    def end(self) -> None:
        """Nothing comes any more; what does not fit before the end is lost."""
        if len(self._events) >= self._most:
            del self._events[0]
        self._events.append(None)
        _wake(self._reader)

    async def next_event(self) -> bytes | None:
        """As the function of this name."""
        if not self._events:
            loop = asyncio.get_running_loop()
            reader = self._reader = loop.create_future()
            timer = loop.call_later(KEEP_ALIVE_SECONDS, _wake, reader)
            try:
                await reader
            finally:
                timer.cancel()
                self._reader = None
        return self._events.pop(0) if self._events else KEEP_ALIVE


def _wake(reader: asyncio.Future[None] | None) -> None:
    if reader is not None and not reader.done():
        reader.set_result(None)


async def next_event(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    """What comes next out of a queue, `None` for its end; a comment where nothing has come for a while."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_SECONDS):
            return await queue.get()
    except TimeoutError:
        return KEEP_ALIVE
