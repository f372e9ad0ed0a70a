"""Streamable HTTP servers of the legacy era: sessions, and servers that ask their client for something.

A legacy client has a session of its own here; modern clients of one principal with the same capabilities share one,
so their request ids are replaced. What the server asks during a call reaches a legacy client as a request on its
stream. A modern client cannot be asked: its call is answered `input_required`, the stream is parked, and the retry
that brings the answers goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import UNREADABLE, Message, Params, ProtocolError, decode_message, decode_params, encode
from gateway.mcp.log_levels import passes
from gateway.mcp.parking import PARKED, Parking
from gateway.mcp.upstream.exchange import HttpExchange, answer_in, discard, is_events, notice_in
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed, Response
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing

if TYPE_CHECKING:
    from registry.core.egress import Egress
    from registry.identity.principal import Principal
    from registry.servers.connection import Connection

HANDSHAKE_SECONDS = 30.0
NOTICE_SECONDS = 5.0
"""How long a server may take to accept a message that nobody waits for."""
CLOSE_SECONDS = 1.0
"""How long closing waits for the last messages to servers."""
ASKED = "request"
"""Key of what a parked server asked, in `inputRequests` and `inputResponses`."""


class SessionGone(Exception):
    """The server no longer knows the session: nothing was carried out."""

    def __init__(self, session_id: bytes) -> None:
        super().__init__("session gone")
        self.session_id = session_id


class _Negotiated(msgspec.Struct):
    protocolVersion: str


@dataclass(slots=True)
class _Reading:
    """The stream of one call, as far as it has been read.

    Args:
        identifier: of the request, as the server was given it.
        waiting: events that were read but not dealt with yet.
    """

    stream: BodyStream
    identifier: bytes
    session_id: bytes | None
    splitter: sse.Splitter = field(default_factory=sse.Splitter)
    waiting: deque[bytes] = field(default_factory=deque[bytes])

    async def more(self) -> bool:
        """Read on; false at the end of the stream."""
        while not self.waiting:
            try:
                chunk = await anext(self.stream)
            except StopAsyncIteration:
                return False
            self.waiting.extend(self.splitter.feed(chunk))
        return True


@dataclass(frozen=True, slots=True)
class _Parked:
    """A call whose server waits for an answer to its request `asked`."""

    reading: _Reading
    asked: bytes


class LegacyHttpUpstream:
    """One legacy server reached over streamable HTTP."""

    def __init__(self, connection: Connection, egress: Egress) -> None:
        self._exchange = HttpExchange(connection, egress)
        self._slug = connection.slug
        self._server_id = connection.server_id
        known = connection.protocol_version
        self._version = known if known in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        self._parking: Parking[_Parked] = Parking()
        self._shared: dict[tuple[str, bytes], bytes | None] = {}
        self._levels: dict[tuple[str, bytes], str] = {}
        self._opening: dict[object, asyncio.Task[bytes | None]] = {}
        self._ids = itertools.count(1)
        self._background: set[asyncio.Task[None]] = set()

    async def request(self, outgoing: Outgoing) -> Answer:
        state = outgoing.params.get("requestState")
        if outgoing.modern and state is not None:
            return await self._resume(outgoing, envelope.text_param(outgoing.params, "requestState"))
        try:
            return await self._request(outgoing)
        except SessionGone as error:
            self._forget_session(outgoing, error.session_id)
        try:
            return await self._request(outgoing)
        except SessionGone:
            raise NotSent(self._slug, "it does not know the session that it has just opened (HTTP 404)") from None

    async def notify(self, outgoing: Outgoing) -> None:
        session = outgoing.session
        if session is None or self._server_id not in session.upstream_ids:
            return
        body = envelope.notification(outgoing.method, outgoing.params)
        await self._post(session.upstream_ids[self._server_id], body)

    async def introduce(self, principal: Principal, capabilities: bytes) -> Message:
        """Open the session for this principal's modern requests; gives the server's `initialize` answer."""
        session_id, message = await self._initialize(capabilities)
        self._shared[principal.subject, capabilities] = session_id
        return message

    async def end_session(self, session_id: bytes) -> None:
        """Tell the server that a session is over."""
        with suppress(NotSent, OutcomeUnknown):
            await discard(await self._exchange.send("DELETE", self._head(session_id), b""))

    async def close(self) -> None:
        for opening in self._opening.values():
            opening.cancel()
        self._parking.clear()
        if self._background:
            _, slow = await asyncio.wait(self._background, timeout=CLOSE_SECONDS)
            for task in slow:
                task.cancel()
        await self._exchange.close()

    # -- requests

    async def _request(self, outgoing: Outgoing) -> Answer:
        session_id = await self._session(outgoing)
        identifier, params, rewrite = outgoing.id, outgoing.params, None
        if outgoing.modern:
            # Clients that share a session may use the same id at the same time.
            identifier = b"%d" % next(self._ids)
            params = translate.unstamp(params)
            rewrite = translate.to_modern(outgoing.method, outgoing.id)
            if outgoing.log_level is not None:
                await self._set_level(outgoing, session_id)
        body = envelope.request(identifier, outgoing.method, params)
        try:
            response = await self._exchange.send("POST", self._head(session_id), body)
        except asyncio.CancelledError:
            self._later(self._cancel(session_id, identifier))
            raise
        if response.status == 404 and session_id is not None:
            await discard(response)
            raise SessionGone(session_id)
        if not is_events(response):
            return await self._whole_answer(response, session_id, identifier, outgoing, rewrite)
        assert response.stream is not None
        return self._reading_answer(_Reading(response.stream, identifier, session_id), outgoing, rewrite)

    async def _whole_answer(
        self,
        response: Response,
        session_id: bytes | None,
        identifier: bytes,
        outgoing: Outgoing,
        rewrite: translate.Rewrite | None,
    ) -> Answer:
        try:
            return await self._exchange.answer(response, identifier, rewrite, modern=outgoing.modern)
        except asyncio.CancelledError:
            self._later(self._cancel(session_id, identifier))
            raise

    async def _resume(self, outgoing: Outgoing, state: str) -> Answer:
        """Bring a parked server what it asked for, and read on."""
        given = envelope.object_param(outgoing.params, "inputResponses").get(ASKED)
        if given is None:
            raise ProtocolError(protocol.INVALID_PARAMS, f"params.inputResponses.{ASKED} must be given.")
        parked = self._parking.take(state.removeprefix(PARKED)) if state.startswith(PARKED) else None
        if parked is None:
            raise ProtocolError(protocol.INVALID_PARAMS, "requestState has expired or was used: call again without it.")
        try:
            await self._post(parked.reading.session_id, envelope.result(parked.asked, bytes(given)))
        except BaseException:
            self._abandon(parked.reading)
            raise
        return self._reading_answer(parked.reading, outgoing, translate.to_modern(outgoing.method, outgoing.id))

    def _reading_answer(self, reading: _Reading, outgoing: Outgoing, rewrite: translate.Rewrite | None) -> Answer:
        answer = Answer()
        answer.stream = self._events(reading, outgoing, rewrite, answer)
        return answer

    async def _events(
        self, reading: _Reading, outgoing: Outgoing, rewrite: translate.Rewrite | None, answer: Answer
    ) -> AsyncIterator[bytes]:
        """The events up to the answer, or up to what a modern client has to be asked for."""
        ended = None
        try:
            while ended is None and await reading.more():
                out: list[bytes] = []
                ended = self._deal_with(reading, outgoing, rewrite, answer, out)
                if out:
                    yield b"".join(out)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self._slug, str(error) or "an event was too large") from None
        finally:
            if ended == "answered":
                reading.stream.leave()
            elif ended is None:
                self._abandon(reading)
        if ended is None:
            raise OutcomeUnknown(self._slug, "the stream ended without an answer")

    def _deal_with(
        self,
        reading: _Reading,
        outgoing: Outgoing,
        rewrite: translate.Rewrite | None,
        answer: Answer,
        out: list[bytes],
    ) -> Literal["answered", "parked"] | None:
        """Put what the client is to get of the waiting events into `out`; tells whether that ends its request."""
        while reading.waiting:
            event = reading.waiting.popleft()
            message = answer_in(event, reading.identifier)
            if message is not None:
                answer.judge(message)
                out.append(event if rewrite is None else sse.frame(rewrite(message)))
                return "answered"
            if b'"method"' in event and (asked := _asked_in(event)) is not None:
                if self._ask(asked, reading, outgoing, out):
                    return "parked"
            elif notice_in(event) and (not outgoing.modern or passes(event, outgoing.log_level)):
                out.append(event)
        return None

    def _ask(self, asked: Message, reading: _Reading, outgoing: Outgoing, out: list[bytes]) -> bool:
        """Deal with a request of the server's; true if the call is parked until its client comes back."""
        identifier = bytes(asked.id)
        if asked.method == "ping":
            self._later(self._post(reading.session_id, envelope.result(identifier, b"{}")))
            return False
        params = decode_params(asked.params) if bytes(asked.params) else {}
        params = translate.with_origin(asked.method, params, outgoing.origin)
        if outgoing.session is not None:
            session_id = reading.session_id

            def reply(answer: Message) -> None:
                self._later(self._post(session_id, translate.with_id(identifier)(answer)))

            out.append(sse.frame(envelope.request(outgoing.session.expect(reply), asked.method, params)))
            return False
        handle = self._parking.put(_Parked(reading, identifier), lambda: self._abandon(reading))
        wanted = {ASKED: {"method": asked.method, "params": params}}
        out.append(sse.frame(envelope.result(outgoing.id, translate.input_required(wanted, PARKED + handle))))
        return True

    # -- sessions

    async def _session(self, outgoing: Outgoing) -> bytes | None:
        session = outgoing.session
        if session is not None:
            if self._server_id in session.upstream_ids:
                session_id = session.upstream_ids[self._server_id]
            else:
                session_id = await self._open_once((session.id, self._server_id), session.capabilities)
                session.upstream_ids[self._server_id] = session_id
            level = session.log_level
            if level is not None and session.levels_sent.get(self._server_id) != level:
                session.levels_sent[self._server_id] = level
                await self._send_level(session_id, level)
            return session_id
        key = (outgoing.principal.subject, outgoing.capabilities)
        if key not in self._shared:
            self._shared[key] = await self._open_once(key, outgoing.capabilities)
        return self._shared[key]

    async def _open_once(self, place: object, capabilities: bytes) -> bytes | None:
        """Open a session; those who want the same one at the same time get the same."""
        task = self._opening.get(place)
        if task is None:
            task = self._opening[place] = asyncio.create_task(self._open_session(capabilities))

            def opened(_: object) -> None:
                self._opening.pop(place, None)

            task.add_done_callback(opened)
        return await asyncio.shield(task)

    def _forget_session(self, outgoing: Outgoing, session_id: bytes) -> None:
        """Forget a session that is gone, unless another request has replaced it by now."""
        if outgoing.session is not None:
            if outgoing.session.upstream_ids.get(self._server_id) == session_id:
                outgoing.session.upstream_ids.pop(self._server_id)
                outgoing.session.levels_sent.pop(self._server_id, None)
            return
        key = (outgoing.principal.subject, outgoing.capabilities)
        if self._shared.get(key) == session_id:
            self._shared.pop(key)
            self._levels.pop(key, None)

    async def _open_session(self, capabilities: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                session_id, _ = await self._initialize(capabilities)
        except TimeoutError:
            raise NotSent(self._slug, f"no handshake in {HANDSHAKE_SECONDS:.0f} s") from None
        return session_id

    async def _initialize(self, capabilities: bytes) -> tuple[bytes | None, Message]:
        params: Params = {
            "protocolVersion": msgspec.Raw(encode(self._version)),
            "capabilities": msgspec.Raw(capabilities),
            "clientInfo": msgspec.Raw(encode(translate.CLIENT)),
        }
        response = await self._exchange.send("POST", b"", envelope.request(b"0", "initialize", params))
        message = await self._exchange.whole(response, b"0")
        if bytes(message.error) or not bytes(message.result):
            raise NotSent(self._slug, "it refused to open a session")
        session_id = response.session_id
        self._version = _negotiated(message) or self._version
        await self._post(session_id, envelope.notification("notifications/initialized"))
        return session_id, message

    def _head(self, session_id: bytes | None) -> bytes:
        head = b"mcp-protocol-version: " + self._version.encode() + b"\r\n"
        return head if session_id is None else head + b"mcp-session-id: " + session_id + b"\r\n"

    # -- messages beside the calls

    async def _set_level(self, outgoing: Outgoing, session_id: bytes | None) -> None:
        """Have the shared session log at least what this request wants; each request hears only its own level."""
        key = (outgoing.principal.subject, outgoing.capabilities)
        wanted = outgoing.log_level
        if wanted is not None and self._levels.get(key) != wanted:
            self._levels[key] = wanted
            await self._send_level(session_id, wanted)

    async def _send_level(self, session_id: bytes | None, level: str) -> None:
        params: Params = {"level": msgspec.Raw(encode(level))}
        await self._post(session_id, envelope.request(b"%d" % next(self._ids), "logging/setLevel", params))

    async def _cancel(self, session_id: bytes | None, identifier: bytes) -> None:
        params = {"requestId": msgspec.Raw(identifier), "reason": "the client gave up"}
        await self._post(session_id, envelope.notification("notifications/cancelled", params))

    def _abandon(self, reading: _Reading) -> None:
        """Be done with a call that has no answer, and tell the server so, which nobody waits for."""
        reading.stream.close()
        self._later(self._cancel(reading.session_id, reading.identifier))

    async def _post(self, session_id: bytes | None, body: bytes) -> None:
        """Send a message whose answer nobody waits for."""
        with suppress(NotSent, OutcomeUnknown):
            response = await self._exchange.send("POST", self._head(session_id), body)
            if response.stream is not None:
                response.stream.leave()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        async def attempt() -> None:
            # A server that does not take it holds a connection, and must not do so for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTICE_SECONDS):
                    await work

        task = asyncio.ensure_future(attempt())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _asked_in(event: bytes) -> Message | None:
    """The message in an event, if it is a request."""
    if b'"id"' not in event:
        return None
    with suppress(*UNREADABLE, RecursionError):
        message = decode_message(sse.data_of(event))
        if message.is_request:
            return message
    return None


def _negotiated(message: Message) -> str | None:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(message.result, type=_Negotiated).protocolVersion
    return None
