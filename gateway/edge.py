"""The edge: uvicorn's HTTP/1.1 connection with the limits that it lacks.

Heads have a size and a time, bodies and readers may not stall, and what two parsers could read in two ways is refused
(RFC 9112 §3.2, §6.3, §11). What a request means is not looked at here; hosts are `gateway.api.shared.hosts`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 100
MAX_TARGET_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
BODY_IDLE_SECONDS = 30.0
WRITE_STALL_SECONDS = 30.0
CHECK_SECONDS = 2.0
"""How often a connection is looked at; its limits are kept to about so much."""

_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization"})


class HeadRefused(ValueError):
    """Raised into the parser, which ends the connection with a 400."""


class GuardedHttp(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._fields = 0
        self._seen: set[bytes] = set()
        self._in_head = True
        self._in_body = False
        self._heard_at = 0.0
        self._stalled_at: float | None = None
        self._check: asyncio.TimerHandle | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self._check = self.loop.call_later(CHECK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_looking()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        # From here on the connection is another protocol's.
        self._stop_looking()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what was sent; in the midst of another response, only closing is possible."""
        if self._answering():
            started = self.cycle.response_started
            # Whoever is still working on an answer finds its client gone: there is only one response.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if started or self.pipeline:
                self.transport.abort()
                return
        super().send_400_response(msg)

    # -- the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._fields = 0
        self._seen.clear()
        self._in_head = True
        self._heard_at = self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            raise HeadRefused("the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._fields > MAX_FIELDS or self._head_bytes > MAX_HEAD_BYTES:
            raise HeadRefused("the head is too large")
        if not self._in_head:
            # A trailer is no header: nothing that was decided by the headers may change after them.
            return
        known = name.lower()
        if known in _ONCE:
            if known in self._seen:
                raise HeadRefused(f"{known!r} is there twice")
            self._seen.add(known)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if b"content-length" in self._seen and b"transfer-encoding" in self._seen:
            raise HeadRefused("both a length and a transfer encoding")
        assert self.parser is not None
        if b"host" not in self._seen and self.parser.get_http_version() != "1.0":
            raise HeadRefused("no host")
        self._in_head = False
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._heard_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    # -- the clock

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _look(self) -> None:
        self._check = None
        if self.transport.is_closing():
            # What is left to write may never be read.
            self._stalled_at = self._stalled_at or self.loop.time()
        elif self._in_head and not self._answering() and self.timeout_keep_alive_task is None:
            if self._silent_for(HEAD_SECONDS):
                self.transport.close()
                return
        elif self._in_body and not self.flow.read_paused and self._silent_for(BODY_IDLE_SECONDS):
            self.transport.abort()
            return
        if self._stalled_at is not None and self.loop.time() - self._stalled_at > WRITE_STALL_SECONDS:
            self.transport.abort()
            return
        self._check = self.loop.call_later(CHECK_SECONDS, self._look)

    def _silent_for(self, seconds: float) -> bool:
        return self.loop.time() - self._heard_at > seconds

    def _stop_looking(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None
