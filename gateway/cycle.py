"""One request on a connection and its response: ASGI's `receive` and `send`, and a short way for whole exchanges.

It takes the place of uvicorn's own, which writes each response in two pieces and makes an event for every request.
Whoever wants no more than a whole body and gives no less than a whole answer takes the short way, by `scope[SHORT]`:
`taken` and `respond` neither wait nor make messages. The connection is `gateway.edge`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl

SHORT = "gatehouse.cycle"
"""Where a scope has its `Cycle`."""
JOINED_UP_TO = 64 * 1024
"""Bodies up to this many bytes are joined to their head; larger ones are not copied."""

Headers = Iterable[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]

_NO_NAME = re.compile(rb'[\x00-\x1f\x7f()<>@,;:\[\]={} \t\\"]')
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FAILED = ((b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"))

log = structlog.get_logger(__name__)


class Cycle:
    """One exchange.

    Args:
        defaults: headers of every response.
        expects: the client waits for `100 Continue` before it sends its body.
        done: told when the response is complete.
    """

    __slots__ = (
        "_chunked",
        "_defaults",
        "_done",
        "_expects",
        "_flow",
        "_gathered",
        "_head",
        "_left",
        "_news",
        "_transport",
        "_waiter",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
        "task",
    )

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        transport: asyncio.Transport,
        flow: FlowControl,
        defaults: list[tuple[bytes, bytes]],
        done: Callable[[], None],
        *,
        expects: bool,
        keep_alive: bool,
    ) -> None:
        self.scope = scope
        self._transport = transport
        self._flow = flow
        self._defaults = defaults
        self._done = done
        self._expects = expects
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._news = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._gathered = b""
        self._left = 0
        self.task: asyncio.Task[None] | None = None
        """The exchange at work."""

    # -- what the connection tells

    def feed(self, piece: bytes) -> None:
        """A piece of the body."""
        if not self.body:
            self.body = piece
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += piece

    def wake(self) -> None:
        """Something has happened that `receive` tells."""
        self._news = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def lost(self) -> None:
        """The client has gone."""
        if not self.response_complete:
            self.disconnected = True
        self.wake()

    # -- the short way

    def taken(self) -> bytes | None:
        """The whole body, if it has come and nobody has received any of it."""
        if self.more_body or self.disconnected:
            return None
        body, self.body = self.body, b""
        # As after receiving it: what comes next is that the client goes.
        self._news = False
        return body if isinstance(body, bytes) else bytes(body)

    def respond(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole response at once; false where it has to be sent the long way, because the client reads slowly.

        Args:
            headers: without the length. Their names are lower case and well formed.
        """
        if self.disconnected:
            return True
        if self._flow.write_paused or self.response_started:
            return False
        lines = [STATUS_LINE[status]]
        closing = False
        for name, value in (*self._defaults, *headers):
            lines += (name, b": ", value, b"\r\n")
            if name == b"connection":
                self.keep_alive, closing = False, True
        if not self.keep_alive and not closing:
            lines.append(b"connection: close\r\n")
        lines.append(b"content-length: %d\r\n\r\n" % len(body))
        self.response_started = True
        self._write(b"".join(lines), body)
        self._complete()
        return True

    # -- ASGI

    async def run(self, app: App, under_way: set[asyncio.Task[None]]) -> None:
        """Have the application answer; whatever it does wrong, the client gets an end.

        Args:
            under_way: where `task` is until it has ended.
        """
        try:
            await app(self.scope, self.receive, self.send)
            self._check_whole()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                log.exception("an exchange failed outside of its application's care")
            if self.response_started or self.disconnected:
                self._flush()
                self._transport.close()
            else:
                self.respond(500, _FAILED, b"Internal Server Error")
                self._transport.close()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            # The scope refers to this: nothing is left for the collector of cycles.
            del self.scope[SHORT]
            if self.task is not None:
                under_way.discard(self.task)
                self.task = None

    def _check_whole(self) -> None:
        if not self.response_complete and not self.disconnected:
            log.error("the application returned without a whole response", path=self.scope.get("path"))
            if not self.response_started:
                self.respond(500, _FAILED, b"Internal Server Error")
            self._flush()
            self._transport.close()

    async def receive(self) -> Message:
        if self._expects and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            while not self._news:
                if self._waiter is None:
                    self._waiter = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._waiter)
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"A response begins with http.response.start, not with {kind}.")
            self._start(message["status"], message.get("headers", ()))
        elif self.response_complete or kind != "http.response.body":
            raise RuntimeError(f"{kind} cannot be sent now.")
        else:
            self._continue(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, status: int, headers: Headers) -> None:
        self.response_started = True
        self._expects = False
        lines = [STATUS_LINE[status]]
        length: int | None = None
        closing = False
        for given, value in (*self._defaults, *headers):
            name = given.lower()
            if _NO_NAME.search(name) or _NO_VALUE.search(value):
                raise RuntimeError(f"{name!r} is no header that can be sent.")
            if name == b"transfer-encoding":
                # How a body is framed is decided here.
                continue
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, closing = False, True
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not closing:
            lines.append(b"connection: close\r\n")
        bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        if length is None and not bodiless:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._left = 0 if bodiless else length or 0
        head = b"".join(lines)
        if self._chunked:
            # Of a stream the head is news in itself; else it goes with the body.
            self._gather(head)
        else:
            self._head = head

    def _continue(self, body: bytes, *, more: bool) -> None:
        if self._chunked:
            if body:
                self._gather(b"%x\r\n%b\r\n" % (len(body), body))
            if not more:
                self._gather(b"0\r\n\r\n")
        else:
            if self.scope["method"] == "HEAD":
                body = b""
            if len(body) > self._left:
                raise RuntimeError("The response is longer than its content-length.")
            self._left -= len(body)
            head, self._head = self._head, b""
            self._write(head, body)
        if not more:
            if self._left:
                raise RuntimeError("The response is shorter than its content-length.")
            self._complete()

    # -- the wire

    def _gather(self, piece: bytes) -> None:
        """Write together what is sent without a pause in between: each write is a trip to the kernel."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered += piece
        if len(self._gathered) > JOINED_UP_TO:
            self._flush()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, b""
        if gathered and not self.disconnected:
            self._transport.write(gathered)

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) <= JOINED_UP_TO:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def _complete(self) -> None:
        self._flush()
        self.response_complete = True
        self.wake()
        if not self.keep_alive:
            self._transport.close()
        self._done()
