"""Reading server-sent events, chunk by chunk, as far as MCP uses them.

Data comes out as the bytes that came in. Nothing here connects or knows JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Turns chunks of a `text/event-stream` body into the data of its messages.

    Attributes:
        last_id: the id to resume from, where the stream gives ids.
        retry_seconds: how long the server wants a client to wait before it connects again.
    """

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry_seconds: float | None = None
        self._pending: list[bytes] = []
        self._data: list[bytes] = []
        self._kind = b""
        self._started = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every message that `chunk` completes."""
        # A line that arrives in many chunks is joined once, at its end.
        if not _LINE_END.search(chunk) and not (self._pending and self._pending[-1].endswith(b"\r")):
            self._pending.append(chunk)
            return
        *lines, rest = _split(b"".join((*self._pending, chunk)))
        self._pending = [rest]
        for line in lines:
            yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[bytes]:
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if any(self._data) and self._kind in (b"", b"message"):
                yield b"\n".join(self._data)
            self._data, self._kind = [], b""
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._kind = value
            case b"id" if b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace") or None
            case b"retry" if value.isdigit():
                self.retry_seconds = int(value) / 1000
            case _:  # comments keep the connection alive, unknown fields are for others
                pass


def _split(text: bytes) -> list[bytes]:
    # A carriage return at the very end may be half of a line end; it waits for what follows.
    held = text.endswith(b"\r")
    lines = _LINE_END.split(text[:-1] if held else text)
    if held:
        lines[-1] += b"\r"
    return lines
