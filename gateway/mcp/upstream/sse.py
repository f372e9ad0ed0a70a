"""HTTP+SSE upstreams, the transport of revision 2024-11-05: one event stream per principal, and POSTs beside it.

The stream first names the address for POSTs, then carries every answer. It opens with the first request, and again
after it has ended, after a pause that grows while the server keeps failing. Whose answer is whose is `multiplex`'s
affair. Source: specification 2024-11-05, basic/transports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from gateway.mcp import protocol, sse, translate
from gateway.mcp.upstream.backoff import Backoff
from gateway.mcp.upstream.exchange import discard, header_lines, is_events
from gateway.mcp.upstream.multiplex import Multiplex
from gateway.mcp.upstream.opening import opened
from gateway.mcp.upstream.pool import ConnectionFailed, Pool, Response
from gateway.mcp.upstream.port import Answer, CredentialsRefused, NotSent, OutcomeUnknown, Outgoing, UpstreamFailure
from registry.core.egress import EgressRefused, EgressTimeout, EgressUnreachable, UrlInvalid, vet_url
from registry.core.version import VERSION
from registry.identity.principal import Principal

if TYPE_CHECKING:
    from gateway.mcp.envelope import Message
    from registry.core.clock import Clock
    from registry.core.egress import Egress, Target
    from registry.servers.connection import Connection

HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 300.0
"""A stream that nobody has used for this long is closed when another one opens."""
MAX_SESSIONS = 256
"""Streams to one server; beyond it the one longest unused goes."""
_GONE = frozenset({400, 404, 410})
"""How servers answer a POST to a session that they no longer know."""


class SessionGone(NotSent):
    """The server no longer knows the session: nothing was carried out."""


class SseUpstream:
    """One server reached over HTTP+SSE.

    Args:
        connection: its URL is that of the event stream.
    """

    def __init__(self, connection: Connection, egress: Egress, clock: Clock) -> None:
        assert connection.url is not None
        self._connection = connection
        self._slug = connection.slug
        self._target = vet_url(connection.url)
        self.pool = Pool(egress, self._target, connection.deadlines.connect)
        self._common = _common(self._target, connection.headers)
        self._clock = clock
        self._backoff = Backoff(clock)
        self._sessions: dict[str, _Session] = {}
        self._opening: dict[str, asyncio.Task[_Session]] = {}
        self._alive: set[_Session] = set()
        """The sessions in use, and those that only have answers to wait for."""
        self._closed = False

    async def request(self, outgoing: Outgoing) -> Answer:
        capabilities = translate.legacy_capabilities(outgoing.capabilities)
        session = await self._session_for(outgoing, capabilities)
        try:
            return await session.multiplex.request(outgoing)
        except SessionGone:
            await self._retire(session)
            session = await self._session_for(outgoing, capabilities)
            return await session.multiplex.request(outgoing)

    async def _session_for(self, outgoing: Outgoing, capabilities: bytes) -> _Session:
        outgoing.sent = False
        session = await self._session(outgoing.principal, capabilities)
        outgoing.sent = True
        return session

    async def notify(self, outgoing: Outgoing) -> None:
        session = self._sessions.get(_key(outgoing.principal, translate.legacy_capabilities(outgoing.capabilities)))
        if session is not None:
            await session.multiplex.notify(outgoing)

    async def introduce(self, principal: Principal, capabilities: bytes) -> Message:
        """Open this principal's session; gives the server's `initialize` answer."""
        return (await self._session(principal, capabilities)).introduction

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message] | None:
        return None if tasks else self._announcements(resources)

    async def _announcements(self, resources: frozenset[str]) -> AsyncGenerator[Message]:
        gateway = Principal(org_id=self._connection.org_id, user_id=None, role="system", permissions=frozenset())
        session = await self._session(gateway, b"{}")
        async for message in session.multiplex.announced(resources):
            yield message

    async def close(self) -> None:
        self._closed = True
        for task in list(self._opening.values()):
            task.cancel()
        for session in tuple(self._alive):
            await session.close("it has been removed or changed")
        self._alive.clear()
        self._sessions.clear()
        await self.pool.close()

    # -- sessions

    async def _session(self, principal: Principal, capabilities: bytes) -> _Session:
        key = _key(principal, capabilities)
        session = self._sessions.get(key)
        if session is not None:
            session.used_at = self._clock.monotonic()
            return session
        if self._closed:
            raise NotSent(self._slug, "it has been removed or changed", blames=False)
        if self._backoff.wait > 0:
            why = f"it keeps failing, it is tried again in {self._backoff.wait:.1f} s"
            raise NotSent(self._slug, why, blames=False)
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.create_task(self._open(key, capabilities))
            task.add_done_callback(lambda done: self._opened(key, done))
        return await opened(task, self._slug)

    def _opened(self, key: str, task: asyncio.Task[_Session]) -> None:
        del self._opening[key]
        if not task.cancelled():
            # Whoever waits for it raises it; when all have gone, nobody has to.
            task.exception()

    async def _open(self, key: str, capabilities: bytes) -> _Session:
        await self._close_unused()
        self._backoff.started()
        session = _Session(self._connection, self.pool, self._target, self._common, self._clock.monotonic())
        self._alive.add(session)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await session.open(capabilities, lambda: self._ended(key, session))
        except BaseException as error:
            self._alive.discard(session)
            await session.close("it was given up")
            if not isinstance(error, asyncio.CancelledError):
                self._backoff.failed()
            if isinstance(error, TimeoutError):
                raise NotSent(self._slug, f"no handshake in {HANDSHAKE_SECONDS:.0f} s") from None
            if isinstance(error, UpstreamFailure):
                raise NotSent(self._slug, error.reason) from None
            raise
        self._sessions[key] = session
        return session

    def _ended(self, key: str, session: _Session) -> None:
        """The server has ended the stream."""
        self._alive.discard(session)
        if self._sessions.get(key) is session:
            del self._sessions[key]
            self._backoff.failed()

    async def _retire(self, session: _Session) -> None:
        """Open no more requests on a session; those under way may still be answered."""
        for key, known in list(self._sessions.items()):
            if known is session:
                del self._sessions[key]
        if not len(session.multiplex):
            self._alive.discard(session)
            await session.close("it was not known any more")

    async def _close_unused(self) -> None:
        now = self._clock.monotonic()
        by_age = sorted(self._sessions.values(), key=lambda session: session.used_at)
        surplus = len(by_age) - MAX_SESSIONS + 1
        for place, session in enumerate(by_age):
            if not len(session.multiplex) and (place < surplus or now - session.used_at > IDLE_SECONDS):
                await self._retire(session)


class _Session:
    """One event stream and the address for POSTs that it named."""

    def __init__(self, connection: Connection, pool: Pool, target: Target, common: bytes, now: float) -> None:
        version = connection.protocol_version
        self._slug = connection.slug
        self._version = version if version in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        self._post_seconds = connection.deadlines.first_byte
        self._pool = pool
        self._target = target
        self._common = common
        self._endpoint = b""
        self._stream: AsyncIterator[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self.multiplex = Multiplex(connection.slug, self)
        self.used_at = now

    async def open(self, capabilities: bytes, ended: Callable[[], None]) -> None:
        """Open the stream and shake hands.

        Args:
            capabilities: what the gateway says that it can do for the server.
            ended: called once when the server has ended the stream.

        Raises:
            NotSent, OutcomeUnknown: there is no session.
        """
        head = f"GET {self._target.request_target} HTTP/1.1\r\naccept: text/event-stream\r\n".encode()
        response = await self._exchange(head + self._common + b"\r\n", b"")
        if response.status != 200 or response.stream is None or not is_events(response):
            await discard(response)
            if response.status in (401, 403):
                raise CredentialsRefused(self._slug, response.status, response.challenge)
            raise NotSent(self._slug, f"it did not open an event stream (HTTP {response.status})")
        self._stream = response.stream
        named: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(response.stream, named, ended))
        self._endpoint = self._post_target((await named).decode("utf-8", "replace"))
        self.introduction = await self.multiplex.initialize(self._version, capabilities)

    async def write(self, message: bytes, identifier: bytes | None) -> None:
        """As `multiplex.Line`. A request's POST goes on by itself: the request's answer may come before the POST's."""
        if identifier is not None:
            task = asyncio.create_task(self._post_request(message, identifier))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)
        elif (failure := await self._post(message)) is not None:
            raise failure

    async def close(self, why: str) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._stream is not None:
            await translate.close(self._stream)
        self.multiplex.lost(why)
        for task in tuple(self._posting):
            task.cancel()

    async def _read(
        self, stream: AsyncIterator[bytes], named: asyncio.Future[bytes], ended: Callable[[], None]
    ) -> None:
        splitter = sse.Splitter()
        why = "its event stream ended"
        try:
            async for chunk in stream:
                for event in splitter.feed(chunk):
                    if sse.field_of(event, b"event") == b"endpoint":
                        if not named.done():
                            named.set_result(sse.data_of(event))
                    elif data := sse.data_of(event):
                        self.multiplex.heard(data)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            why = str(error) or "an event was too large"
        finally:
            await translate.close(stream)
        if not named.done():
            named.set_exception(NotSent(self._slug, f"{why} before it named an address for messages"))
        ended()
        self.multiplex.lost(why)

    def _post_target(self, endpoint: str) -> bytes:
        """The request target of the address that the stream named: it must be the server's own."""
        try:
            target = vet_url(urljoin(self._target.url, endpoint))
        except (UrlInvalid, ValueError):
            raise NotSent(self._slug, "the address that it named for messages is no URL") from None
        if target.origin != self._target.origin:
            raise NotSent(self._slug, "the address that it named for messages is at another origin")
        return target.request_target.encode()

    async def _post_request(self, message: bytes, identifier: bytes) -> None:
        failure = await self._post(message)
        if failure is not None:
            self.multiplex.fail(identifier, failure)

    async def _post(self, message: bytes) -> UpstreamFailure | None:
        """Send a message; gives what was wrong with that."""
        head = b"POST %b HTTP/1.1\r\ncontent-type: application/json\r\naccept: application/json\r\n" % self._endpoint
        head += self._common + b"content-length: %d\r\n\r\n" % len(message)
        try:
            async with asyncio.timeout(self._post_seconds):
                response = await self._exchange(head, message)
                await discard(response)
            return self._refusal(response)
        except UpstreamFailure as error:
            return error
        except TimeoutError:
            return OutcomeUnknown(self._slug, "it did not take the message within its deadline")

    async def _exchange(self, head: bytes, body: bytes) -> Response:
        try:
            return await self._pool.send(head, body)
        except ConnectionFailed as error:
            raise (OutcomeUnknown if error.sent else NotSent)(self._slug, str(error)) from None
        except (EgressRefused, EgressUnreachable, EgressTimeout) as error:
            raise NotSent(self._slug, error.message) from None

    def _refusal(self, response: Response) -> UpstreamFailure | None:
        status = response.status
        if 200 <= status < 300:
            return None
        if status in _GONE:
            return SessionGone(self._slug, f"it did not take the message (HTTP {status})")
        if status in (401, 403):
            return CredentialsRefused(self._slug, status, response.challenge)
        if status < 500:
            return NotSent(self._slug, f"it did not take the message (HTTP {status})", blames=False)
        return OutcomeUnknown(self._slug, f"it answered HTTP {status}")


def _key(principal: Principal, capabilities: bytes) -> str:
    """A server that asks for something does not say whom: clients that can be asked the same share a stream."""
    return f"{principal.subject} {capabilities.decode()}"


def _common(target: Target, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"host: {target.authority}", "accept-encoding: identity", f"user-agent: gatehouse/{VERSION}"]
    return ("\r\n".join([*lines, *header_lines(headers)]) + "\r\n").encode()
