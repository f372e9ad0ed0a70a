"""The edge: uvicorn's HTTP/1.1 connection with the limits that it lacks, and with our own `gateway.cycle`.

Heads have a size and a time, bodies and readers may not stall, and what two parsers could read in two ways is refused
(RFC 9112 §3.2, §6.3, §11). What a request means is not looked at here; hosts are `gateway.api.shared.hosts`.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.cycle import SHORT, Cycle
from gateway.fields import Fields
from gateway.known_head import KnownHead

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from gateway.busy_polling import BusyPolling

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 100
MAX_TARGET_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
BODY_IDLE_SECONDS = 30.0
WRITE_STALL_SECONDS = 30.0
CHECK_SECONDS = 2.0
"""How often a connection is looked at; its limits are kept to about so much."""

_PLAIN_TARGET = re.compile(rb"/[\w/.~-]*")
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization"})


_NO_PIPELINE: Any = ()


class HeadRefused(ValueError):
    """Raised into the parser, which ends the connection with a 400."""


class _Known:
    """The request whose head is known.

    Args:
        told: its scope, without what is of that request alone.
    """

    __slots__ = ("_fields", "_made", "_place", "head", "told")

    def __init__(self, head: KnownHead, told: dict[str, Any]) -> None:
        self.head = head
        self.told = told
        # Copied: the request may still be at work with its own.
        self._fields = tuple(told["headers"])
        self._place = next(place for place, (name, _) in enumerate(self._fields) if name == b"content-length")
        self._made: dict[Any, Any] | None = None

    def fields(self, length: int) -> Fields:
        """The header fields of another request with this head."""
        if self._made is None:
            self._made = {}
        fields = Fields(self._fields)
        fields.made = self._made
        fields[self._place] = (b"content-length", b"%d" % length)
        return fields


class GuardedHttp(HttpToolsProtocol):
    """One connection.

    Args:
        polling: told when a request has begun, and when it was answered.
    """

    def __init__(
        self,
        polling: BusyPolling,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # What uvicorn would answer in turn is in `_waiting` here; a deque of its own costs an idle connection much.
        self.pipeline = _NO_PIPELINE
        self._polling = polling
        self._head_bytes = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._seen: set[bytes] = set()
        self._cycle: Cycle | None = None
        self._waiting: list[Cycle] = []
        self._upgrading = False
        self._known: _Known | None = None
        self._idle_since: float | None = None
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
        for cycle in (self._cycle, *self._waiting):
            if cycle is not None:
                cycle.lost()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        # From here on the connection is another protocol's.
        self._stop_looking()
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Close once there is nothing to answer."""
        if self._answering():
            assert self._cycle is not None
            self._cycle.keep_alive = False
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what was sent; in the midst of another response, only closing is possible."""
        cycle = self._cycle
        if cycle is not None and not cycle.response_complete:
            # Whoever is still working on an answer finds its client gone: there is only one response.
            cycle.lost()
            if cycle.response_started or self._waiting:
                self.transport.abort()
                return
        super().send_400_response(msg)

    # -- the parser

    def data_received(self, data: bytes) -> None:
        # All that came before was read and answered: what comes now begins a request.
        idle_since, self._idle_since = self._idle_since, None
        between = idle_since is not None and not self._in_head and not self._in_body
        known, self._known = self._known, None
        if known is not None and between and (body := known.head.body(data)) is not None:
            self._known = known
            self._take(known, body)
            return
        before = self._cycle
        super().data_received(data)
        if between and self._cycle is not before:
            self._remember(data)
        elif between and not self._in_head:
            # A blank line begins nothing.
            self._idle_since = idle_since

    def _take(self, known: _Known, body: bytes) -> None:
        """A whole request with the last one's head."""
        self._heard_at = self.loop.time()
        fields = known.fields(len(body))
        cycle = self._made({**known.told, "headers": fields, "state": self.app_state.copy()}, keep_alive=True)
        cycle.feed(body)
        cycle.more_body = False
        cycle.wake()
        self._begin(cycle)

    def _remember(self, data: bytes) -> None:
        """Know the head of what was just parsed, if that was one plain request, and all of it."""
        cycle = self._cycle
        if cycle is None or cycle.more_body or not cycle.keep_alive or self._upgrading:
            return
        head = KnownHead.of(data)
        if head is not None:
            self._known = _Known(head, {name: value for name, value in cycle.scope.items() if name != SHORT})

    def on_message_begin(self) -> None:
        self.url = b""
        # A new list each time: the request before may still be at work with its own.
        self._fields = []
        self._head_bytes = 0
        self._seen.clear()
        self.expect_100_continue = False
        self._in_head = True
        self._heard_at = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            raise HeadRefused("the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if len(self._fields) >= MAX_FIELDS or self._head_bytes > MAX_HEAD_BYTES:
            raise HeadRefused("the head is too large")
        if not self._in_head:
            # A trailer is no header: nothing that was decided by the headers may change after them.
            return
        name = name.lower()
        if name in _ONCE:
            if name in self._seen:
                raise HeadRefused(f"{name!r} is there twice")
            self._seen.add(name)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        assert parser is not None
        version = parser.get_http_version()
        if b"content-length" in self._seen and b"transfer-encoding" in self._seen:
            raise HeadRefused("both a length and a transfer encoding")
        if b"host" not in self._seen and version != "1.0":
            raise HeadRefused("no host")
        self._in_head = False
        self._in_body = True
        self.headers = self._fields
        scope = self._scope(parser.get_method().decode("ascii"), version)
        self.scope = scope  # type: ignore[assignment]
        if parser.should_upgrade():
            if self._announces_body():
                # The parser takes a request that would change the protocol to end with its head.
                raise HeadRefused("a body behind a change of protocol")
            self._upgrading = self._should_upgrade()
            if self._upgrading:
                return
        before = self._cycle
        cycle = self._made(scope, keep_alive=version != "1.0" and parser.should_keep_alive())
        if before is None or before.response_complete:
            self._begin(cycle)
        else:
            # Sent before it was answered: its turn comes.
            self.flow.pause_reading()
            self._waiting.append(cycle)

    def _announces_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self._fields
        )

    def _scope(self, method: str, version: str) -> dict[str, Any]:
        path, query = self.url, b""
        if not _PLAIN_TARGET.fullmatch(path):
            parsed = httptools.parse_url(path)
            path, query = parsed.path, parsed.query or b""
        text = path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(text) if "%" in text else text),
            "raw_path": self.root_path.encode("ascii") + path,
            "query_string": query,
            "headers": self._fields,
            "state": self.app_state.copy(),
        }

    def _made(self, scope: dict[str, Any], *, keep_alive: bool) -> Cycle:
        """A new exchange, the connection's last one."""
        cycle = self._cycle = scope[SHORT] = Cycle(
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            self.on_response_complete,
            expects=self.expect_100_continue,
            keep_alive=keep_alive,
        )
        return cycle

    def _begin(self, cycle: Cycle) -> None:
        # uvicorn waits for these when it stops. The exchange leaves by itself: a callback would cost more.
        cycle.task = self.loop.create_task(cycle.run(self.app, self.tasks))  # type: ignore[arg-type]
        self.tasks.add(cycle.task)
        self._polling.stir(self, self.loop)

    def on_body(self, body: bytes) -> None:
        self._heard_at = self.loop.time()
        cycle = self._cycle
        if self._upgrading or cycle is None or cycle.response_complete:
            return
        cycle.feed(body)
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.wake()

    def on_message_complete(self) -> None:
        self._in_body = False
        cycle = self._cycle
        if self._upgrading or cycle is None or cycle.response_complete:
            return
        cycle.more_body = False
        cycle.wake()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._polling.stir(self, self.loop)
        if self._waiting:
            self._begin(self._waiting.pop(0))
        else:
            self._idle_since = self.loop.time()

    # -- the clock

    def _answering(self) -> bool:
        return self._cycle is not None and not self._cycle.response_complete

    def _look(self) -> None:
        self._check = None
        if self.transport.is_closing():
            # What is left to write may never be read.
            self._stalled_at = self._stalled_at or self.loop.time()
        elif self._idle_since is not None:
            if self.loop.time() - self._idle_since > self.timeout_keep_alive:
                self.transport.close()
                return
        elif self._in_head and not self._answering():
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
