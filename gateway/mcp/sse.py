"""Server-sent events: splitting a stream into events, and framing messages. It knows nothing of MCP."""

from __future__ import annotations

KEEP_ALIVE = b": keep-alive\n\n"
_MAX_EVENT = 64 * 1024 * 1024


class EventTooLarge(Exception):
    """One event is larger than anything a server may send."""


class Splitter:
    """Cuts a byte stream into whole events, whatever the chunk borders and line ends."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes, each with its blank line.

        Raises:
            EventTooLarge: an event does not end.
        """
        data = self._rest + chunk if self._rest else chunk
        if b"\r" in data:
            # A chunk may end between the two halves of a CRLF: keep that one for later.
            held = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *events, rest = data.split(b"\n\n")
        self._rest = rest + held
        if len(self._rest) > _MAX_EVENT:
            raise EventTooLarge
        return [event + b"\n\n" for event in events if event]


def data_of(event: bytes) -> bytes:
    """The event's data: its `data:` lines joined, empty for comments and bare ids."""
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
    if b"\n" in message:
        message = message.replace(b"\r", b"").replace(b"\n", b"\ndata: ")
    return b"event: message\ndata: " + message + b"\n\n"
