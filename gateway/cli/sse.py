"""Reading a stream of server-sent events as a client: its messages, and what is needed to take it up again.

The splitting is `gateway.mcp.sse`'s. Data comes out as the bytes that came in; nothing here connects or knows JSON.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.cli.errors import ConnectionLost
from gateway.mcp.sse import EventTooLarge, Splitter, data_of, field_of


class EventReader:
    """Turns chunks of a `text/event-stream` body into the data of its messages.

    Attributes:
        last_id: the id to resume from, where the stream gives ids.
        retry_seconds: how long the server wants a client to wait before it connects again.
    """

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry_seconds: float | None = None
        self._splitter = Splitter()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every message that `chunk` completes.

        Raises:
            ConnectionLost: an event is too large to be one.
        """
        try:
            events = self._splitter.feed(chunk)
        except EventTooLarge as error:
            raise ConnectionLost("The gateway sent an event that does not end.") from error
        for event in events:
            self._note(event)
            data = data_of(event)
            if data and field_of(event, b"event") in (None, b"message"):
                yield data

    def restart(self) -> None:
        """Forget a half event, for a new connection that takes the stream up again."""
        self._splitter = Splitter()

    def _note(self, event: bytes) -> None:
        given, pause = field_of(event, b"id"), field_of(event, b"retry")
        if given is not None and b"\0" not in given:
            self.last_id = given.decode("utf-8", "replace") or None
        if pause is not None and pause.isdigit():
            self.retry_seconds = int(pause) / 1000
