"""Streamable HTTP servers of the legacy era: sessions, and servers that ask their client for something.

A legacy client has a session of its own here; modern clients of one principal with the same capabilities share one,
so their request ids are replaced. What the server asks during a call reaches a legacy client as a request on its
stream. A modern client cannot be asked: its call is answered `input_required`, the stream is parked, and the retry
that brings the answers goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import UNREADABLE, Message, Params, ProtocolError, decode_message, decode_params, encode
from gateway.mcp.log_levels import passes
from gateway.mcp.parking import ASKED, GATHER_SECONDS, PARKED, Parking
from gateway.mcp.upstream.exchange import (
    LIST_CHANGED,
    HttpExchange,
    announced,
    answer_in,
    discard,
    is_events,
    notice_in,
)
from gateway.mcp.upstream.opening import opened
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed, Response
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing
from gateway.mcp.upstream.reading import Reading

if TYPE_CHECKING:
    from registry.core.egress import Egress
    from registry.identity.principal import Principal
    from registry.servers.connection import Connection

HANDSHAKE_SECONDS = 30.0
NOTICE_SECONDS = 5.0
"""How long a server may take to accept a message that nobody waits for."""
CLOSE_SECONDS = 1.0
"""How long closing waits for the last messages to servers."""
MOST_SHARED = 1000
"""Sessions with one server that modern clients share, by principal and capabilities."""
ASIDE_SECONDS = 1.0
MOST_ANNOUNCED = 256


class SessionGone(Exception):
    """The server no longer knows the session: nothing was carried out."""

    def __init__(self, session_id: bytes) -> None:
        super().__init__("session gone")
        self.session_id = session_id


class _Negotiated(msgspec.Struct):
    protocolVersion: str


@dataclass(frozen=True, slots=True)
class _Parked:
    """A call whose server waits for answers: its own request ids, by the keys that the client was given."""

    reading: Reading
    asked: dict[str, bytes]


class _Aside:
    """The stream of a session that belongs to no call: what comes there is for the call that began last."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.readings: list[Reading] = []


class LegacyHttpUpstream:
    """One legacy server reached over streamable HTTP."""

    def __init__(self, connection: Connection, egress: Egress) -> None:
        self._exchange = HttpExchange(connection, egress)
        self.pool = self._exchange.pool
        self._slug = connection.slug
        self._server_id = connection.server_id
        known = connection.protocol_version
        self._version = known if known in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        self._parking: Parking[_Parked] = Parking()
        self._shared: dict[tuple[str, bytes], bytes | None] = {}
        self._levels: dict[tuple[str, bytes], str] = {}
        self._opening: dict[object, asyncio.Task[bytes | None]] = {}
        self._asides: dict[bytes, _Aside] = {}
        self._listeners: set[asyncio.Queue[Message | None]] = set()
        self._ids = itertools.count(1)
        self._background: set[asyncio.Task[None]] = set()

    async def request(self, outgoing: Outgoing) -> Answer:
        state = outgoing.params.get("requestState")
        if outgoing.modern and state is not None:
            return await self._resume(outgoing)
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
        self._later(self._post(session.upstream_ids[self._server_id], body))

    async def introduce(self, principal: Principal, capabilities: bytes) -> Message:
        """Open the session for this principal's modern requests; gives the server's `initialize` answer."""
        session_id, message = await self._initialize(capabilities)
        self._shared[principal.subject, capabilities] = session_id
        return message

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message] | None:
        return None if tasks else self._announcements(resources)

    async def _announcements(self, resources: frozenset[str]) -> AsyncGenerator[Message]:
        """A session of the gateway's own, with its GET stream; what is watched is subscribed to in it.

        Some servers announce a change to the session that caused it only: that is heard as well.
        """
        session_id = await self._open_session(b"{}")
        heard: asyncio.Queue[Message | None] = asyncio.Queue(MOST_ANNOUNCED)
        response: Response | None = None
        listening: asyncio.Task[None] | None = None
        self._listeners.add(heard)
        try:
            response = await self._exchange.send("GET", self._head(session_id), b"")
            if not is_events(response) or response.stream is None:
                await discard(response)
                raise self._exchange.refusal(response)
            listening = asyncio.create_task(_put_all(announced(response.stream), heard))
            for uri in sorted(resources):
                params: Params = {"uri": msgspec.Raw(encode(uri))}
                await self._post(session_id, envelope.request(b"%d" % next(self._ids), "resources/subscribe", params))
            yield Message()
            while (message := await heard.get()) is not None:
                yield message
        finally:
            self._listeners.discard(heard)
            if listening is not None:
                listening.cancel()
            if response is not None:
                await discard(response)
            if session_id is not None:
                self._later(self.end_session(session_id))

    def _announce(self, event: bytes) -> None:
        """Take a change that was announced in somebody's session; clients hear of it when the catalog has it."""
        with suppress(msgspec.DecodeError, RecursionError):
            message = decode_message(sse.data_of(event))
            for heard in self._listeners:
                with suppress(asyncio.QueueFull):
                    heard.put_nowait(message)

    async def end_session(self, session_id: bytes) -> None:
        """Tell the server that a session is over."""
        aside = self._asides.pop(session_id, None)
        if aside is not None:
            aside.task.cancel()
        with suppress(NotSent, OutcomeUnknown):
            await discard(await self._exchange.send("DELETE", self._head(session_id), b""))

    async def close(self) -> None:
        for task in (*self._opening.values(), *(aside.task for aside in self._asides.values())):
            task.cancel()
        self._parking.clear()
        if self._background:
            _, slow = await asyncio.wait(self._background, timeout=CLOSE_SECONDS)
            for late in slow:
                late.cancel()
        await self._exchange.close()

    # -- requests

    async def _request(self, outgoing: Outgoing) -> Answer:
        outgoing.sent = False
        session_id = await self._session(outgoing)
        outgoing.sent = True
        identifier, params, rewrite = outgoing.id, outgoing.params, None
        if outgoing.modern:
            # Clients that share a session may use the same id at the same time.
            identifier = b"%d" % next(self._ids)
            params = translate.unstamp(params)
            rewrite = _for_modern(outgoing)
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
        answer = await self._whole_answer(response, session_id, identifier, outgoing, rewrite)
        if answer is not None:
            return answer
        assert response.stream is not None

        async def reopen(last_id: bytes) -> BodyStream | None:
            return await self._reopen(session_id, last_id)

        aside = self._asides.get(session_id or b"")
        reading = Reading(response.stream, identifier, session_id, reopen, aside=aside is not None)
        if aside is not None:
            aside.readings.append(reading)
        return self._reading_answer(reading, outgoing, rewrite)

    async def _whole_answer(
        self,
        response: Response,
        session_id: bytes | None,
        identifier: bytes,
        outgoing: Outgoing,
        rewrite: translate.Rewrite | None,
    ) -> Answer | None:
        try:
            return await self._exchange.answer(response, identifier, rewrite, modern=outgoing.modern)
        except asyncio.CancelledError:
            self._later(self._cancel(session_id, identifier))
            raise

    async def _reopen(self, session_id: bytes | None, last_id: bytes) -> BodyStream | None:
        """Go on with a stream that broke off."""
        try:
            response = await self._exchange.send("GET", self._head(session_id) + _after(last_id), b"")
        except (NotSent, OutcomeUnknown):
            return None
        if is_events(response):
            return response.stream
        await discard(response)
        return None

    async def _resume(self, outgoing: Outgoing) -> Answer:
        """Bring a parked server what it asked for, and read on."""
        parked, answers = self._parking.take(outgoing.params)
        try:
            for message in answers:
                await self._post(parked.reading.session_id, message)
        except BaseException:
            # Nobody else knows of the stream any more.
            await self._leave(parked.reading, answered=False)
            raise
        return self._reading_answer(parked.reading, outgoing, _for_modern(outgoing))

    def _reading_answer(self, reading: Reading, outgoing: Outgoing, rewrite: translate.Rewrite | None) -> Answer:
        answer = Answer()
        answer.stream = self._events(reading, outgoing, rewrite, answer)
        return answer

    async def _events(
        self, reading: Reading, outgoing: Outgoing, rewrite: translate.Rewrite | None, answer: Answer
    ) -> AsyncIterator[bytes]:
        """The events up to the answer, or up to what a modern client has to be asked for."""
        ended = None
        try:
            while ended is None and await reading.more():
                out: list[bytes] = []
                asked: list[Message] = []
                ended = self._deal_with(reading, outgoing, rewrite, answer, out, asked)
                if ended is None and asked:
                    # Servers may ask for several things at once: what follows in a moment goes with it.
                    while ended is None and await reading.more_soon(GATHER_SECONDS):
                        ended = self._deal_with(reading, outgoing, rewrite, answer, out, asked)
                    if ended is None:
                        out.append(self._park(reading, outgoing, asked))
                        ended = "parked"
                if out:
                    yield b"".join(out)
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self._slug, str(error) or "an event was too large") from None
        finally:
            if ended != "parked":
                await self._leave(reading, answered=ended == "answered")
        if ended is None:
            raise OutcomeUnknown(self._slug, "the stream ended without an answer")

    def _deal_with(
        self,
        reading: Reading,
        outgoing: Outgoing,
        rewrite: translate.Rewrite | None,
        answer: Answer,
        out: list[bytes],
        asked: list[Message],
    ) -> Literal["answered", "parked"] | None:
        """Sort the waiting events: what the client is to get, and what a modern client has to be asked for."""
        while reading.waiting:
            event = reading.waiting.popleft()
            message = answer_in(event, reading.identifier)
            if message is not None:
                answer.judge(message)
                out.append(event if rewrite is None else sse.frame(rewrite(message)))
                return "answered"
            if LIST_CHANGED in event and _is_notice(event):
                self._announce(event)
            elif b'"method"' in event and (request := _asked_in(event)) is not None:
                self._ask(request, reading, outgoing, out, asked)
            elif notice_in(event) and (
                not outgoing.modern or (sse.data_of(event) and passes(event, outgoing.log_level))
            ):
                out.append(event)
        return None

    def _ask(
        self, request: Message, reading: Reading, outgoing: Outgoing, out: list[bytes], asked: list[Message]
    ) -> None:
        """Deal with a request of the server's: a legacy client is asked at once, a modern one by its answer."""
        identifier = bytes(request.id)
        session_id = reading.session_id
        if request.method == "ping":
            self._later(self._post(session_id, envelope.result(identifier, b"{}")))
            return
        if outgoing.session is None:
            asked.append(request)
            return

        def reply(answer: Message) -> None:
            self._later(self._post(session_id, translate.with_id(identifier)(answer)))

        params = _asked_params(request, outgoing.origin)
        out.append(sse.frame(envelope.request(outgoing.session.expect(reply), request.method, params)))

    def _park(self, reading: Reading, outgoing: Outgoing, asked: list[Message]) -> bytes:
        """Keep the call until its client comes back; gives the event that asks it."""
        keys = [ASKED if number == 0 else f"{ASKED}-{number + 1}" for number in range(len(asked))]
        wanted = {
            key: {"method": request.method, "params": _asked_params(request, outgoing.origin)}
            for key, request in zip(keys, asked, strict=True)
        }
        parked = _Parked(reading, {key: bytes(request.id) for key, request in zip(keys, asked, strict=True)})
        handle = self._parking.put(parked, lambda: self._later(self._leave(reading, answered=False)))
        return sse.frame(envelope.result(outgoing.id, translate.input_required(wanted, PARKED + handle)))

    async def _leave(self, reading: Reading, *, answered: bool) -> None:
        """Be done with a call's stream; a server that has not answered is told that nobody waits any more."""
        aside = self._asides.get(reading.session_id or b"")
        if aside is not None and reading in aside.readings:
            aside.readings.remove(reading)
        if answered:
            await reading.leave()
            return
        await reading.close()
        self._later(self._cancel(reading.session_id, reading.identifier))

    # -- sessions

    async def _session(self, outgoing: Outgoing) -> bytes | None:
        session = outgoing.session
        if session is not None:
            if self._server_id in session.upstream_ids or await session.knows(self._server_id):
                session_id = session.upstream_ids[self._server_id]
                if session_id is not None and self._server_id in session.restored:
                    session.restored.discard(self._server_id)
                    await self._open_aside(session_id, session.capabilities)
            else:
                session_id = await self._open_once((session.id, self._server_id), session.capabilities)
                session.bind(self._server_id, session_id)
            level = session.log_level
            if level is not None and session.levels_sent.get(self._server_id) != level:
                session.levels_sent[self._server_id] = level
                await self._send_level(session_id, level)
            return session_id
        key = (outgoing.principal.subject, outgoing.capabilities)
        if key not in self._shared:
            session_id = await self._open_once(key, outgoing.capabilities)
            self._shared[key] = session_id
            self._close_surplus()
            return session_id
        return self._shared[key]

    def _close_surplus(self) -> None:
        """Clients choose what they declare, so the number of sessions has a bound: the oldest is closed first."""
        while len(self._shared) > MOST_SHARED:
            key = next(iter(self._shared))
            session_id = self._shared.pop(key)
            self._levels.pop(key, None)
            if session_id is not None:
                self._later(self.end_session(session_id))

    async def _open_once(self, place: object, capabilities: bytes) -> bytes | None:
        """Open a session; those who want the same one at the same time get the same."""
        task = self._opening.get(place)
        if task is None:
            task = self._opening[place] = asyncio.create_task(self._open_session(capabilities))

            task.add_done_callback(lambda _: self._opening.pop(place, None))
        return await opened(task, self._exchange.slug)

    def _forget_session(self, outgoing: Outgoing, session_id: bytes) -> None:
        """Forget a session that is gone, unless another request has replaced it by now."""
        if outgoing.session is not None:
            outgoing.session.unbind(self._server_id, session_id)
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
            "capabilities": msgspec.Raw(translate.legacy_capabilities(capabilities)),
            "clientInfo": msgspec.Raw(encode(translate.CLIENT)),
        }
        response = await self._exchange.send("POST", b"", envelope.request(b"0", "initialize", params))
        message = await self._exchange.whole(response, b"0")
        if bytes(message.error) or not bytes(message.result):
            raise NotSent(self._slug, "it refused to open a session")
        session_id = response.session_id
        self._version = _negotiated(message) or self._version
        await self._post(session_id, envelope.notification("notifications/initialized"))
        if session_id is not None:
            await self._open_aside(session_id, capabilities)
        return session_id, message

    async def _open_aside(self, session_id: bytes, capabilities: bytes) -> None:
        """Open the session's own stream: a server may ask its client for something there. Many offer none."""
        if session_id in self._asides or capabilities in (b"{}", b""):
            return
        try:
            async with asyncio.timeout(ASIDE_SECONDS):
                response = await self._exchange.send("GET", self._head(session_id), b"")
        except (NotSent, OutcomeUnknown, TimeoutError):
            return
        if not is_events(response) or response.stream is None:
            await discard(response)
            return
        self._asides[session_id] = _Aside(asyncio.create_task(self._hear_aside(session_id, response.stream)))

    async def _hear_aside(self, session_id: bytes, stream: AsyncIterator[bytes]) -> None:
        splitter = sse.Splitter()
        try:
            async for chunk in stream:
                for event in splitter.feed(chunk):
                    readings = self._asides[session_id].readings
                    request = _asked_in(event)
                    if LIST_CHANGED in event and _is_notice(event):
                        self._announce(event)
                    elif readings:
                        readings[-1].inject(event)
                    elif request is not None:
                        refusal = ProtocolError(protocol.METHOD_NOT_FOUND, "No call is under way.")
                        self._later(self._post(session_id, envelope.error(bytes(request.id), refusal)))
        except (ConnectionFailed, sse.EventTooLarge, KeyError):
            pass
        finally:
            self._asides.pop(session_id, None)
            await translate.close(stream)

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


def _is_notice(event: bytes) -> bool:
    """Whether an event is a notification, rather than an answer that mentions one."""
    return b'"result"' not in event and b'"error"' not in event


async def _put_all(messages: AsyncIterator[Message], heard: asyncio.Queue[Message | None]) -> None:
    async for message in messages:
        await heard.put(message)
    await heard.put(None)


def _asked_in(event: bytes) -> Message | None:
    """The message in an event, if it is a request."""
    if b'"id"' not in event:
        return None
    with suppress(*UNREADABLE, RecursionError):
        message = decode_message(sse.data_of(event))
        if message.is_request:
            return message
    return None


def _asked_params(request: Message, origin: str | None) -> Params:
    params = decode_params(request.params) if bytes(request.params) else {}
    return translate.with_origin(request.method, params, origin)


def _after(last_id: bytes) -> bytes:
    return b"last-event-id: " + last_id.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"


def _negotiated(message: Message) -> str | None:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(message.result, type=_Negotiated).protocolVersion
    return None


def _for_modern(outgoing: Outgoing) -> translate.Rewrite:
    return translate.to_modern(outgoing.method, outgoing.id, outgoing.capabilities)
