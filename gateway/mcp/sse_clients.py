"""HTTP+SSE for clients of revision 2024-11-05: one event stream per client, and POSTs beside it.

The stream names the address for the client's messages, then carries all answers; what the messages mean is
`gateway.mcp.handler`, for which such a client is a legacy session like any other. A stream lives in one process: with
several, a client's messages must reach the one that has its stream. Source: specification 2024-11-05, basic/transports.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog

from gateway.mcp import batch, envelope, protocol, sse
from gateway.mcp.envelope import Message, ProtocolError
from gateway.mcp.flights import ClientGone
from gateway.mcp.handler import Address, Handler, address_of, too_many
from gateway.mcp.streams import Streams, TooManyStreams
from gateway.mcp.upstream.port import Answer
from gateway.mcp.visits import TooManyVisits
from registry.core.errors import GatehouseError

if TYPE_CHECKING:
    from gateway.mcp.flights import Receive
    from gateway.mcp.headers import RawHeaders
    from registry.identity.principal import Principal

log = structlog.get_logger(__name__)

MESSAGES = "/messages/"
MAX_STREAMS = 2000
"""Open at a time in this process."""
MAX_CALLS = 64
"""Requests of one client under way at a time."""
MAX_WAITING = 256
"""Events that wait for a client to read; its calls wait beyond that."""

_ALLOW_GET = ((b"allow", b"GET"),)
_ALLOW_POST = ((b"allow", b"POST"),)


@dataclass(frozen=True, slots=True)
class SseAddress:
    """What was addressed: the stream of an endpoint, or the messages of the stream `session_id`."""

    endpoint: Address | None
    session_id: str = ""


def sse_address_of(path: str, query: bytes) -> SseAddress | None:
    """The address at a path, `None` if the path is none of this transport's."""
    if path in (MESSAGES, MESSAGES[:-1]):
        given = parse_qs(query.decode("latin-1")).get("session_id", [])
        return SseAddress(None, given[0] if len(given) == 1 else "")
    if not path.endswith("/sse"):
        return None
    endpoint = address_of(path.removesuffix("sse") + "mcp")
    return None if endpoint is None else SseAddress(endpoint)


class _Stream:
    """One client's stream while it is open.

    Attributes:
        legacy_id: of its session, once it has sent `initialize`.
        events: `None` ends the stream.
    """

    def __init__(self, principal: Principal, endpoint: Address) -> None:
        self.principal = principal
        self.endpoint = endpoint
        self.legacy_id: bytes | None = None
        self.events: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)
        self.calls: set[asyncio.Task[None]] = set()
        self.notices: asyncio.Task[None] | None = None

    def headers(self, given: RawHeaders) -> RawHeaders:
        """What the handler is to read: the session, and nothing that a client of this transport has no word for."""
        kept = [(name, value) for name, value in given if name == b"x-request-id"]
        return kept if self.legacy_id is None else [*kept, (b"mcp-session-id", self.legacy_id)]

    def end(self) -> None:
        while self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(None)


class SseClients:
    """Answers exchanges of this transport."""

    def __init__(self, handler: Handler, open_streams: Streams) -> None:
        self._handler = handler
        self._open_streams = open_streams
        self._streams: dict[str, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def end_all(self) -> None:
        for stream in tuple(self._streams.values()):
            stream.end()

    async def handle(
        self,
        method: str,
        address: SseAddress,
        raw_headers: RawHeaders,
        body: bytes,
        receive: Receive | None,
        client: Callable[[], str],
    ) -> Answer:
        """As `Handler.handle`."""
        wanted, endpoint = ("POST", None) if address.endpoint is None else ("GET", address.endpoint)
        if method != wanted:
            return Answer(status=405, headers=_ALLOW_POST if endpoint is None else _ALLOW_GET)
        stream = self._streams.get(address.session_id) if endpoint is None else None
        if endpoint is None and stream is None:
            return _not_found()
        place = endpoint if stream is None else stream.endpoint
        assert place is not None
        try:
            principal = await self._handler.identify(place, raw_headers, client)
        except TooManyVisits as error:
            return too_many(body, error)
        if stream is None:
            return self._open(principal, place, receive)
        if stream.principal.subject != principal.subject:
            # Somebody else's stream is no different from none.
            return _not_found()
        return await self._take(stream, principal, raw_headers, body)

    def _open(self, principal: Principal, endpoint: Address, receive: Receive | None) -> Answer:
        if not self._handler.serves(principal, endpoint):
            return _refused(404, "There is no such server or set here.")
        if len(self._streams) >= MAX_STREAMS:
            return _refused(503, "Too many event streams are open: use the streamable HTTP address, /mcp.")
        identifier = secrets.token_urlsafe(32)
        stream = _Stream(principal, endpoint)
        try:
            events = self._open_streams.open(principal, receive, self._events(identifier, stream))
        except TooManyStreams as error:
            return Answer(status=429, body=envelope.error(b"", error))
        self._streams[identifier] = stream
        return Answer(stream=events)

    async def _events(self, identifier: str, stream: _Stream) -> AsyncIterator[bytes]:
        try:
            yield f"event: endpoint\ndata: {MESSAGES}?session_id={identifier}\n\n".encode()
            while (event := await sse.next_event(stream.events)) is not None:
                yield event
        finally:
            del self._streams[identifier]
            for task in (*stream.calls, *([stream.notices] if stream.notices is not None else [])):
                task.cancel()
            if stream.legacy_id is not None:
                await self._handler.answer(
                    stream.principal, "DELETE", stream.endpoint, stream.headers([]), b"", receive=None
                )

    # -- messages

    async def _take(self, stream: _Stream, principal: Principal, raw_headers: RawHeaders, body: bytes) -> Answer:
        try:
            message = envelope.parse(body)
        except ProtocolError as error:
            if not batch.is_batch(body):
                return Answer(status=400, body=envelope.error(b"", error))
            message = Message()
        if len(stream.calls) >= MAX_CALLS:
            return _refused(429, f"More than {MAX_CALLS} requests are under way on this stream: wait for answers.")
        work = self._answer(stream, principal, stream.headers(raw_headers), body, bytes(message.id))
        if message.is_request or not message.jsonrpc:
            _keep(stream.calls, work)
        else:
            await work
        return Answer(status=202)

    async def _answer(
        self, stream: _Stream, principal: Principal, headers: RawHeaders, body: bytes, identifier: bytes
    ) -> None:
        """Have a message answered on the stream."""
        try:
            answer = await self._handler.answer(principal, "POST", stream.endpoint, headers, body, receive=None)
            opened = next((value for name, value in answer.headers if name == b"mcp-session-id"), None)
            if opened is not None:
                stream.legacy_id = opened
            await batch.pass_on(answer, stream.events)
            if opened is not None and stream.notices is None:
                stream.notices = asyncio.create_task(self._notices(stream))
        except ClientGone:
            # The client has cancelled this call and waits for no answer.
            return
        except (ProtocolError, GatehouseError) as error:
            failure = error if isinstance(error, ProtocolError) else batch.as_protocol(error)
            await stream.events.put(sse.frame(envelope.error(identifier, failure)))
        except Exception:
            log.exception("an MCP message failed")
            failure = ProtocolError(protocol.INTERNAL_ERROR, "The gateway failed to answer; the failure was logged.")
            await stream.events.put(sse.frame(envelope.error(identifier, failure)))

    async def _notices(self, stream: _Stream) -> None:
        """What a session of streamable HTTP would hear on its GET stream."""
        answer = await self._handler.answer(
            stream.principal, "GET", stream.endpoint, stream.headers([]), b"", receive=None
        )
        # It ends with its session, which ends with this stream.
        with suppress(ClientGone):
            await batch.pass_on(answer, stream.events)


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _not_found() -> Answer:
    return _refused(404, "There is no such event stream of yours: open one with GET /sse.")


def _refused(status: int, why: str) -> Answer:
    return Answer(status=status, body=envelope.error(b"", ProtocolError(protocol.INVALID_REQUEST, why)))
