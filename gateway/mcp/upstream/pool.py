"""HTTP/1.1 connections to one origin, kept alive and parsed by httptools: the data path's own client.

It knows HTTP and nothing of MCP. Small bodies arrive whole; event streams and large bodies are handed on piece by
piece, with back-pressure. Connections are opened by the egress, which vets every address. Deadlines are the caller's:
cancelling a request closes its connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import httptools

from gateway.known_head import KnownHead

if TYPE_CHECKING:
    from registry.core.egress import Target

P = TypeVar("P", bound=asyncio.Protocol)

BUFFER_UP_TO = 128 * 1024
"""Bodies up to this many bytes are handed over whole."""
HIGH_WATER = 256 * 1024
"""Unread bytes of a stream at which the upstream is told to wait."""
IDLE_SECONDS = 4.0
"""Connections idle for longer are not used again: common servers close them after 5 seconds."""
MAX_IDLE = 512
MAX_HEADER_BYTES = 64 * 1024
LEAVE_SECONDS = 1.0
"""How long a body that nobody reads any more may take to end, before its connection is given up instead of kept."""


class ConnectionFailed(Exception):
    """The exchange ended without a whole response.

    Args:
        sent: some of the request may have reached the server.
    """

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Response:
    """What came back: the status, the headers that matter, and either `body` or `stream`."""

    __slots__ = ("body", "challenge", "content_type", "encoding", "length", "session_id", "status", "stream")

    def __init__(self) -> None:
        self.status = 0
        self.content_type = b""
        self.encoding = b""
        self.length: int | None = None
        self.session_id: bytes | None = None
        self.challenge = b""
        self.body = b""
        self.stream: BodyStream | None = None

    def like(self) -> Response:
        """Another one whose head says the same, but for its length."""
        other = Response()
        other.status = self.status
        other.content_type = self.content_type
        other.encoding = self.encoding
        other.session_id = self.session_id
        other.challenge = self.challenge
        return other


class BodyStream:
    """The body of a response that is read while it arrives. Closing it early closes the connection."""

    __slots__ = ("_chunks", "_connection", "_done", "_failure", "_left", "_size", "_waiter")

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._done = False
        self._failure: Exception | None = None
        self._left: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, chunk: bytes) -> None:
        if self._left is not None:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER and self._connection is not None:
            self._connection.pause()
        if self._waiter is not None:
            self._wake()

    def end(self, failure: Exception | None = None) -> None:
        self._done = True
        self._failure = failure
        self._connection = None
        if self._left is not None:
            self._left.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._done:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        # What has gathered is handed over at once: fewer trips through the loop for many small pieces.
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._connection is not None:
            self._connection.resume()
        return data

    def whole(self) -> bytes | None:
        """All of it, where that has come before anybody has read; it can be read still."""
        if not self._done or self._failure is not None:
            return None
        if len(self._chunks) > 1:
            joined = b"".join(self._chunks)
            self._chunks.clear()
            self._chunks.append(joined)
        return self._chunks[0] if self._chunks else b""

    async def aclose(self) -> None:
        self.close()

    def leave(self) -> None:
        """Read no more. What mattered has come: the connection is kept if the body ends soon, and closed if not."""
        if self._connection is not None and self._left is None:
            self._chunks.clear()
            self._connection.resume()
            self._left = asyncio.get_running_loop().call_later(LEAVE_SECONDS, self.close)

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._done = True
            connection.abort()
            self._wake()


class _Connection(asyncio.Protocol):
    __slots__ = (
        "_begun",
        "_body",
        "_buffered",
        "_chunked",
        "_exchanges",
        "_header_bytes",
        "_keep",
        "_known",
        "_length",
        "_loop",
        "_parser",
        "_paused",
        "_pool",
        "_response",
        "_stream",
        "_transport",
        "_waiter",
        "idle_since",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchanges = 0
        self._waiter: asyncio.Future[Response] | None = None
        self._stream: BodyStream | None = None
        self._response = Response()
        self._begun = False
        """The parser has seen some of a response."""
        self._body: list[bytes] = []
        self._buffered = 0
        self._chunked = False
        self._length: int | None = None
        self._header_bytes = 0
        self._keep = False
        self._known: tuple[KnownHead, Response] | None = None
        self._paused = False
        self.idle_since = 0.0

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._pool.open += 1

    def data_received(self, data: bytes) -> None:
        if self._waiter is None and self._stream is None:
            # Nobody asked: an unsolicited byte means the connection can no longer be trusted.
            self._close()
            return
        response, between = self._response, not self._begun
        known, self._known = self._known, None
        body = known[0].body(data) if known is not None and between else None
        if known is not None and body is not None and len(body) <= BUFFER_UP_TO:
            self._known = known
            self._keep = True
            response = known[1].like()
            response.length = len(body)
            self._answer(response, body)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the server switched protocols")
        except httptools.HttpParserError as error:
            self._fail(f"the response is not valid HTTP ({error})")
        else:
            whole = self._response is not response and response.status == 200
            if between and whole and self._keep and (head := KnownHead.of(data)) is not None:
                self._known = head, response.like()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.open -= 1
        self._pool.discard(self)
        if exc is None and self._response.status and self._length is None and not self._chunked:
            # A body with neither length nor chunks ends where the connection does.
            self.on_message_complete()
        elif self._waiter is not None or self._stream is not None:
            self._fail("the server closed the connection" if exc is None else f"the connection was lost ({exc})")

    # -- httptools

    def on_message_begin(self) -> None:
        if self._waiter is None and self._stream is None:
            # A second response right behind the one that was asked for; it would end up in another caller's hands.
            raise ValueError("unasked response")
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers too large")
        size = len(name)
        if size == 12 and name.lower() == b"content-type":
            self._response.content_type = value.lower()
        elif size == 14 and name.lower() == b"mcp-session-id":
            self._response.session_id = value
        elif size == 14 and name.lower() == b"content-length":
            self._length = self._response.length = int(value) if value.isdigit() else None
        elif size == 17 and name.lower() == b"transfer-encoding":
            self._chunked = True
        elif size == 16 and name.lower() == b"content-encoding":
            self._response.encoding = value.lower()
        elif size == 16 and name.lower() == b"www-authenticate":
            self._response.challenge = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            # An interim response says nothing of the final one.
            self._response = Response()
            self._length = None
            self._chunked = False
            return
        self._response.status = status
        self._keep = self._parser.should_keep_alive()
        large = self._length is not None and self._length > BUFFER_UP_TO
        if large or self._response.content_type.startswith(b"text/event-stream"):
            self._start_stream()

    def on_body(self, chunk: bytes) -> None:
        if self._stream is not None:
            self._stream.feed(chunk)
            return
        self._body.append(chunk)
        self._buffered += len(chunk)
        if self._buffered > BUFFER_UP_TO:
            stream = self._start_stream()
            for piece in self._body:
                stream.feed(piece)
            self._body = []

    def on_message_complete(self) -> None:
        if self._response.status < 200:
            return
        if self._stream is not None:
            self._finish_stream(None)
            return
        response, body = self._response, self._body
        self._response, self._body = Response(), []
        self._answer(response, body[0] if len(body) == 1 else b"".join(body))

    def _answer(self, response: Response, body: bytes) -> None:
        """The whole response has come."""
        response.body = body
        waiter, self._waiter = self._waiter, None
        self._release()
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    # -- one exchange

    async def send(self, head: bytes, body: bytes) -> Response:
        waiter = self._write(head, body)
        exchange = self._exchanges
        try:
            return await waiter
        except asyncio.CancelledError:
            # When the response has come whole just now, the connection may be another caller's already.
            if self._exchanges == exchange and (self._waiter is not None or self._stream is not None):
                self.abort()
            raise

    def _write(self, head: bytes, body: bytes) -> asyncio.Future[Response]:
        transport = self._transport
        if transport is None:
            # It was opened, and lost before it was used.
            raise ConnectionFailed("the server closed the connection", sent=False)
        self._exchanges += 1
        self._response = Response()
        self._body = []
        self._buffered = self._header_bytes = 0
        self._begun = False
        self._length = None
        self._chunked = False
        waiter = self._waiter = self._loop.create_future()
        if len(body) < 65536:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        return waiter

    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._transport.resume_reading()
            self._paused = False

    def abort(self) -> None:
        self._waiter = None
        self._stream = None
        self._close()

    def _start_stream(self) -> BodyStream:
        stream = self._stream = self._response.stream = BodyStream(self)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(self._response)
        return stream

    def _finish_stream(self, failure: Exception | None) -> None:
        stream, self._stream = self._stream, None
        if failure is None:
            self._release()
        if stream is not None:
            stream.end(failure)

    def _release(self) -> None:
        self.resume()
        if self._keep and self._transport is not None:
            self._pool.put(self)
        else:
            self._close()

    def _fail(self, why: str) -> None:
        failure = ConnectionFailed(why, sent=True)
        if self._stream is not None:
            self._finish_stream(failure)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(failure)
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class Dialer(Protocol):
    """Opens connections: the egress, and what reaches a workspace."""

    async def connect(
        self, protocol_factory: Callable[[], P], target: Target, *, timeout: float
    ) -> tuple[asyncio.Transport, P]: ...


class Pool:
    """Connections to one origin.

    Args:
        egress: opens connections.
        target: the origin; its path is not used here.
        connect_seconds: how long opening a connection may take.
    """

    def __init__(self, egress: Dialer, target: Target, connect_seconds: float) -> None:
        self._egress = egress
        self._target = target
        self._connect_seconds = connect_seconds
        self._idle: deque[_Connection] = deque()
        self._closed = False
        self.open = 0
        """Connections, in use or not."""

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    async def send(self, head: bytes, body: bytes) -> Response:
        """One request and its response.

        Args:
            head: request line and headers, with the blank line.

        Raises:
            ConnectionFailed: it broke; `sent` says whether the server may have seen the request.
            EgressRefused, EgressUnreachable, EgressTimeout: there was no connection, nothing was sent.
        """
        connection = self._take()
        if connection is None:
            _, connection = await self._egress.connect(
                lambda: _Connection(self), self._target, timeout=self._connect_seconds
            )
        return await connection.send(head, body)

    def put(self, connection: _Connection) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE:
            connection.abort()
            return
        connection.idle_since = monotonic()
        self._idle.append(connection)

    def discard(self, connection: _Connection) -> None:
        with suppress(ValueError):
            self._idle.remove(connection)

    async def close(self) -> None:
        """Close what is idle; what is in use closes when its response has ended."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    def _take(self) -> _Connection | None:
        """The connection used last, if it is fresh; a stale one would lose the request in a race with its closing."""
        now = monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable() and now - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None
