"""Many clients' requests over one line to a server: who gets which answer.

Request ids and progress tokens are replaced by ones of our own, because clients that know nothing of each other use the
same. It knows messages and eras; the line itself (`stdio`: a pipe, `sse`: an event stream and its POSTs), its life and
its death are its owner's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import UNREADABLE, Message, Params, ProtocolError, decode_message, decode_params, encode
from gateway.mcp.log_levels import passes
from gateway.mcp.parking import ASKED, GATHER_SECONDS, PARKED, Parking
from gateway.mcp.subscription import LISTEN, subscribing
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing, UpstreamFailure

if TYPE_CHECKING:
    from asyncio import Task

    from gateway.mcp.session import LegacySession

MAX_NOTICES = 256
"""Notices of one request that wait for its client; more are dropped, the answer never is."""


class Line(Protocol):
    async def write(self, message: bytes, identifier: bytes | None) -> None:
        """Send a message; `identifier` is a request's, whose failure may also be told later by `Multiplex.fail`.

        Raises:
            NotSent, OutcomeUnknown: it did not get through.
        """
        ...


class _Pending:
    """A request whose answer is awaited; what the server says and asks on its account arrives in the same queue.

    Args:
        call: it is a client's, who can be asked.
    """

    __slots__ = ("call", "messages", "progress_token")

    def __init__(self, progress_token: bytes | None, *, call: bool = False) -> None:
        self.messages: asyncio.Queue[Message | UpstreamFailure] = asyncio.Queue()
        self.progress_token = progress_token
        self.call = call


@dataclass(frozen=True, slots=True)
class _Parked:
    """A call whose server waits for answers: its own request ids, by the keys that the client was given."""

    pending: _Pending
    identifier: bytes
    asked: dict[str, bytes]


class Multiplex:
    """The requests under way on one line.

    Args:
        slug: names the server in failures.
        modern: the era that the server speaks; set once it is known.
    """

    def __init__(self, slug: str, line: Line, *, modern: bool = False) -> None:
        self._slug = slug
        self._line = line
        self.modern = modern
        self._pending: dict[bytes, _Pending] = {}
        self._listeners: set[asyncio.Queue[Message | None]] = set()
        self._ids = itertools.count(1)
        self._parking: Parking[_Parked] = Parking()
        self._background: set[Task[None]] = set()
        self.asks = False
        """The server was told what its client can be asked for. Only then one client's calls are all that is here."""

    def __len__(self) -> int:
        return len(self._pending) + len(self._listeners)

    async def request(self, outgoing: Outgoing) -> Answer:
        """As `Upstream.request`, on a line that is open."""
        if outgoing.modern and not self.modern and "requestState" in outgoing.params:
            return await self._resume(outgoing)
        identifier = b"%d" % next(self._ids)
        pending = self._pending[identifier] = _Pending(_token(outgoing.params), call=True)
        rewrite = self._rewrite(outgoing)
        try:
            params = self._params(outgoing, identifier, pending)
            await self._line.write(envelope.request(identifier, outgoing.method, params), identifier)
            first = await _next(pending)
        except UpstreamFailure:
            self._pending.pop(identifier, None)
            raise
        except BaseException:
            self._give_up(identifier)
            raise
        if not first.method:
            self._pending.pop(identifier, None)
            answer = Answer(body=rewrite(first))
            answer.judge(first)
            return answer
        answer = Answer()
        answer.stream = self._stream(first, pending, identifier, answer, outgoing)
        return answer

    async def _resume(self, outgoing: Outgoing) -> Answer:
        """Bring a parked server what it asked for, and go on."""
        parked, answers = self._parking.take(outgoing.params)
        answer = Answer()
        try:
            for message in answers:
                await self._line.write(message, None)
            first = await _next(parked.pending)
        except BaseException:
            self._give_up(parked.identifier)
            raise
        answer.stream = self._stream(first, parked.pending, parked.identifier, answer, outgoing)
        return answer

    async def ask(self, method: str, params: Params) -> Message:
        """A request of the gateway's own. Raises as `Line.write`."""
        identifier = b"%d" % next(self._ids)
        pending = self._pending[identifier] = _Pending(None)
        try:
            await self._line.write(envelope.request(identifier, method, params), identifier)
            while (message := await _next(pending)).method:
                pass
            return message
        finally:
            self._pending.pop(identifier, None)

    async def initialize(self, version: str, capabilities: bytes = b"{}") -> Message:
        """Open a session with a legacy server; gives its answer.

        Raises:
            NotSent, OutcomeUnknown: there is no session.
        """
        params: Params = {
            "protocolVersion": msgspec.Raw(encode(version)),
            "capabilities": msgspec.Raw(capabilities),
            "clientInfo": msgspec.Raw(encode(translate.CLIENT)),
        }
        answer = await self.ask("initialize", params)
        if bytes(answer.error):
            raise NotSent(self._slug, "it refused the handshake")
        self.asks = capabilities not in (b"", b"{}")
        await self._line.write(envelope.notification("notifications/initialized"), None)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        self._later(self._line.write(envelope.notification(outgoing.method, outgoing.params), None))

    def heard(self, text: bytes) -> None:
        """Take a message from the server. What is no message, or nobody's answer, is dropped."""
        try:
            message = decode_message(text)
        except (*UNREADABLE, RecursionError):
            return
        if message.method:
            self._notice(message)
        elif message.is_answer and (pending := self._pending.pop(bytes(message.id), None)) is not None:
            pending.messages.put_nowait(message)

    async def announced(
        self, resources: frozenset[str], tasks: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Message]:
        """What the server announces on the open line; ends when the line is lost."""
        listener: asyncio.Queue[Message | None] = asyncio.Queue(MAX_NOTICES)
        self._listeners.add(listener)
        subscription: bytes | None = None
        try:
            subscription = await self._subscribe(resources, tasks)
            yield Message()
            while (message := await listener.get()) is not None:
                yield message
        finally:
            self._listeners.discard(listener)
            if subscription is not None:
                self._give_up(subscription)

    async def _subscribe(self, resources: frozenset[str], tasks: frozenset[str]) -> bytes | None:
        """Ask to be told; gives the id of a modern server's subscription, which lasts as long as nobody ends it."""
        if not self.modern:
            for uri in sorted(resources):
                await self.ask("resources/subscribe", {"uri": msgspec.Raw(encode(uri))})
            return None
        identifier = b"%d" % next(self._ids)
        params = subscribing(resources, tasks)
        self._pending[identifier] = _Pending(None)
        await self._line.write(envelope.request(identifier, LISTEN, params), identifier)
        return identifier

    def fail(self, identifier: bytes, failure: UpstreamFailure) -> None:
        """Tell whoever waits for a request that no answer will come."""
        pending = self._pending.pop(identifier, None)
        if pending is not None:
            pending.messages.put_nowait(failure)

    def lost(self, why: str) -> None:
        """The line is gone, and with it every answer."""
        for identifier in list(self._pending):
            self.fail(identifier, OutcomeUnknown(self._slug, why))
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(None)

    # -- messages

    def _notice(self, message: Message) -> None:
        if bytes(message.id):
            call = self._latest_call() if self.asks and message.method != "ping" else None
            if call is None:
                self._reply(message)
            elif call.messages.qsize() < MAX_NOTICES:
                call.messages.put_nowait(message)
            return
        if message.method == "notifications/message" and self.asks and (call := self._latest_call()) is not None:
            if call.messages.qsize() < MAX_NOTICES:
                call.messages.put_nowait(message)
            return
        if message.method != "notifications/progress":
            for listener in self._listeners:
                with suppress(asyncio.QueueFull):
                    listener.put_nowait(message)
            return
        with suppress(*UNREADABLE):
            params = decode_params(message.params)
            pending = self._pending.get(bytes(params.get("progressToken", envelope.ABSENT)).strip(b'"'))
            if pending is None or pending.progress_token is None or pending.messages.qsize() >= MAX_NOTICES:
                return
            params["progressToken"] = msgspec.Raw(pending.progress_token)
            pending.messages.put_nowait(Message("2.0", message.method, params=msgspec.Raw(encode(params))))

    def _latest_call(self) -> _Pending | None:
        """Whose call a server means when it asks for something: nothing on this kind of line says it better."""
        return next((pending for pending in reversed(self._pending.values()) if pending.call), None)

    def _reply(self, message: Message) -> None:
        identifier = bytes(message.id)
        if message.method == "ping":
            body = envelope.result(identifier, b"{}")
        else:
            refusal = ProtocolError(protocol.METHOD_NOT_FOUND, f"{message.method} is not offered to servers.")
            body = envelope.error(identifier, refusal)
        self._later(self._line.write(body, None))

    def _params(self, outgoing: Outgoing, identifier: bytes, pending: _Pending) -> Params:
        params = outgoing.params
        if pending.progress_token is not None:
            meta = decode_params(params["_meta"])
            meta["progressToken"] = msgspec.Raw(b'"' + identifier + b'"')
            params = {**params, "_meta": msgspec.Raw(encode(meta))}
        if self.modern:
            return params if outgoing.modern else translate.stamp(params, outgoing.capabilities, outgoing.log_level)
        return translate.unstamp(params) if outgoing.modern else params

    def _rewrite(self, outgoing: Outgoing) -> translate.Rewrite:
        if outgoing.modern == self.modern:
            return translate.with_id(outgoing.id)
        return _for_modern(outgoing) if outgoing.modern else translate.to_legacy(outgoing.id)

    async def _stream(
        self, first: Message, pending: _Pending, identifier: bytes, answer: Answer, outgoing: Outgoing
    ) -> AsyncIterator[bytes]:
        message = first
        parked = False
        try:
            while message.method:
                if not bytes(message.id):
                    event = sse.frame(envelope.notification(message.method, _params_of(message)))
                    if not outgoing.modern or passes(event, outgoing.log_level):
                        yield event
                elif outgoing.session is not None:
                    yield self._asked(message, outgoing, outgoing.session)
                else:
                    yield await self._park(message, pending, identifier, outgoing)
                    parked = True
                    return
                message = await _next(pending)
            answer.judge(message)
            self._pending.pop(identifier, None)
            yield sse.frame(self._rewrite(outgoing)(message))
        finally:
            if not parked:
                self._give_up(identifier)

    def _asked(self, message: Message, outgoing: Outgoing, session: LegacySession) -> bytes:
        """The event that asks a legacy client."""
        identifier = bytes(message.id)

        def reply(given: Message) -> None:
            self._later(self._line.write(translate.with_id(identifier)(given), None))

        params = translate.with_origin(message.method, _params_of(message), outgoing.origin)
        return sse.frame(envelope.request(session.expect(reply), message.method, params))

    async def _park(self, first: Message, pending: _Pending, identifier: bytes, outgoing: Outgoing) -> bytes:
        """Keep the call until its modern client comes back; gives the event that asks it."""
        asked = [first]
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                while bytes((message := await _next(pending)).id) and message.method:
                    asked.append(message)
                pending.messages.put_nowait(message)
        keys = [ASKED if number == 0 else f"{ASKED}-{number + 1}" for number in range(len(asked))]
        wanted = {
            key: {
                "method": message.method,
                "params": translate.with_origin(message.method, _params_of(message), outgoing.origin),
            }
            for key, message in zip(keys, asked, strict=True)
        }
        parked = _Parked(pending, identifier, {key: bytes(one.id) for key, one in zip(keys, asked, strict=True)})
        handle = self._parking.put(parked, lambda: self._give_up(identifier))
        return sse.frame(envelope.result(outgoing.id, translate.input_required(wanted, PARKED + handle)))

    def _give_up(self, identifier: bytes) -> None:
        """Forget a request that nobody waits for any more, and tell the server so."""
        if self._pending.pop(identifier, None) is None:
            return
        params = {"requestId": msgspec.Raw(identifier), "reason": "the client gave up"}
        self._later(self._line.write(envelope.notification("notifications/cancelled", params), None))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        async def attempt() -> None:
            with suppress(UpstreamFailure):
                await work

        task = asyncio.ensure_future(attempt())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _next(pending: _Pending) -> Message:
    message = await pending.messages.get()
    if isinstance(message, UpstreamFailure):
        raise message
    return message


def _params_of(message: Message) -> Params:
    return decode_params(message.params) if bytes(message.params) else {}


def _token(params: Params) -> bytes | None:
    if "_meta" not in params:
        return None
    token = decode_params(params["_meta"]).get("progressToken")
    return None if token is None else bytes(token)


def _for_modern(outgoing: Outgoing) -> translate.Rewrite:
    return translate.to_modern(outgoing.method, outgoing.id, outgoing.capabilities)
