"""Stdio upstreams: one supervised child per server, shared by all its callers.

Request ids and progress tokens are replaced by ones of our own, because many clients share one pipe. The child starts
with the first request, and again after a death, after a pause that grows while it keeps dying.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.mcp import envelope, protocol, sse, translate
from gateway.mcp.envelope import Message, Params, decode_message, decode_params, encode
from gateway.mcp.upstream.child import Child, ChildFailed
from gateway.mcp.upstream.port import Answer, NotSent, OutcomeUnknown, Outgoing

if TYPE_CHECKING:
    from registry.core.clock import Clock
    from registry.servers.connection import Connection

HANDSHAKE_SECONDS = 30.0
DETECT_SECONDS = 3.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
"""A child that has lived this long is not held to have been dying."""


class _Pending:
    """A request whose answer is awaited; notifications that belong to it arrive in the same queue."""

    __slots__ = ("messages", "progress_token")

    def __init__(self, progress_token: bytes | None) -> None:
        self.messages: asyncio.Queue[Message | str] = asyncio.Queue()
        self.progress_token = progress_token


class StdioUpstream:
    """One server reached over the pipes of a child process.

    Args:
        user: who the child runs as where the gateway is root.
    """

    def __init__(self, connection: Connection, user: str, clock: Clock) -> None:
        assert connection.command is not None
        self._connection = connection
        self._command = connection.command
        self._slug = connection.slug
        self._era = connection.era
        self._introduction: Message | None = None
        version = connection.protocol_version
        self._version = version if version in protocol.LEGACY_VERSIONS else protocol.LATEST_LEGACY
        self._user = user
        self._clock = clock
        self._child: Child | None = None
        self._starting: asyncio.Task[Child] | None = None
        self._pending: dict[bytes, _Pending] = {}
        self._ids = itertools.count(1)
        self._started_at = 0.0
        self._pause = 0.0
        self._not_before = 0.0
        self._closed = False

    @property
    def _modern(self) -> bool:
        return self._era == "modern"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def request(self, outgoing: Outgoing) -> Answer:
        child = await self._running()
        identifier = b"%d" % next(self._ids)
        pending = _Pending(_token(outgoing.params))
        params = self._params(outgoing, identifier, pending)
        rewrite = self._rewrite(outgoing)
        self._pending[identifier] = pending
        try:
            await child.write(envelope.request(identifier, outgoing.method, params))
            first = await self._next(pending)
        except ChildFailed as error:
            self._pending.pop(identifier, None)
            raise NotSent(self._slug, str(error)) from None
        except BaseException:
            self._give_up(identifier)
            raise
        if not first.method:
            del self._pending[identifier]
            answer = Answer(body=rewrite(first))
            answer.judge(first)
            return answer
        answer = Answer()
        answer.stream = self._stream(first, pending, identifier, answer, rewrite)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        if self._child is not None and not self._modern:
            with suppress(ChildFailed):
                await self._child.write(envelope.notification(outgoing.method, outgoing.params))

    async def introduce(self) -> Message:
        """What the server said of itself when it was started: its `server/discover` or `initialize` answer."""
        await self._running()
        assert self._introduction is not None
        return self._introduction

    async def close(self) -> None:
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    # -- the child's life

    async def _running(self) -> Child:
        if self._child is not None:
            return self._child
        if self._closed:
            raise NotSent(self._slug, "it has been removed or changed")
        wait = self._not_before - self._clock.monotonic()
        if wait > 0:
            raise NotSent(self._slug, f"its program keeps ending, the next start is in {wait:.1f} s")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._start_done)
        try:
            return await asyncio.shield(self._starting)
        except ChildFailed as error:
            raise NotSent(self._slug, str(error)) from None

    def _start_done(self, task: asyncio.Task[Child]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()

    async def _start(self) -> Child:
        self._started_at = self._clock.monotonic()
        connection = self._connection
        try:
            child = await Child.start(
                self._slug, self._command, connection.args, dict(connection.env), self._user, self._line, self._gone
            )
        except ChildFailed:
            self._back_off()
            raise
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                self._introduction = await self._open(child)
        except (TimeoutError, ChildFailed, NotSent, OutcomeUnknown) as error:
            await child.stop()
            self._back_off()
            raise ChildFailed(str(error) or f"no handshake within {HANDSHAKE_SECONDS:.0f} s") from None
        self._child = child
        return child

    async def _open(self, child: Child) -> Message:
        """Find the era, where it is not known, by asking as a modern client first; open a session with a legacy one."""
        if self._era != "legacy":
            try:
                async with asyncio.timeout(None if self._era else DETECT_SECONDS):
                    answer = await self._ask(child, "server/discover", translate.stamp({}, b"{}"))
                if bytes(answer.result):
                    self._era = "modern"
                    return answer
            except TimeoutError:
                # A legacy server may ignore what it does not know.
                pass
            self._era = "legacy"
        params = {"protocolVersion": self._version, "capabilities": {}, "clientInfo": translate.CLIENT}
        answer = await self._ask(
            child, "initialize", {name: msgspec.Raw(encode(value)) for name, value in params.items()}
        )
        if bytes(answer.error):
            raise ChildFailed("it refused the handshake")
        await child.write(envelope.notification("notifications/initialized"))
        return answer

    async def _ask(self, child: Child, method: str, params: Params) -> Message:
        identifier = b"%d" % next(self._ids)
        pending = self._pending[identifier] = _Pending(None)
        try:
            await child.write(envelope.request(identifier, method, params))
            while (message := await self._next(pending)).method:
                pass
            return message
        finally:
            self._pending.pop(identifier, None)

    def _gone(self, why: str) -> None:
        self._child = None
        self._back_off()
        for pending in self._pending.values():
            pending.messages.put_nowait(why)
        self._pending.clear()

    def _back_off(self) -> None:
        now = self._clock.monotonic()
        steady = now - self._started_at > STEADY_SECONDS
        self._pause = 0.0 if steady else min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._not_before = now + self._pause

    # -- messages

    def _line(self, line: bytes) -> None:
        try:
            message = decode_message(line)
        except (msgspec.DecodeError, RecursionError):
            return
        if message.method:
            self._notice(message)
        elif (pending := self._pending.get(bytes(message.id))) is not None:
            pending.messages.put_nowait(message)

    def _notice(self, message: Message) -> None:
        if bytes(message.id):
            # The gateway declares no client features to a child, so this is only ever `ping`.
            self._reply(message)
            return
        if message.method != "notifications/progress":
            return
        params = decode_params(message.params)
        pending = self._pending.get(bytes(params.get("progressToken", msgspec.Raw())).strip(b'"'))
        if pending is not None and pending.progress_token is not None:
            params["progressToken"] = msgspec.Raw(pending.progress_token)
            pending.messages.put_nowait(Message("2.0", message.method, params=msgspec.Raw(encode(params))))

    def _reply(self, message: Message) -> None:
        if self._child is None:
            return
        identifier = bytes(message.id)
        if message.method == "ping":
            body = envelope.result(identifier, b"{}")
        else:
            refusal = envelope.ProtocolError(protocol.METHOD_NOT_FOUND, f"{message.method} is not offered to servers.")
            body = envelope.error(identifier, refusal)
        task = asyncio.ensure_future(self._child.write(body))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _next(self, pending: _Pending) -> Message:
        message = await pending.messages.get()
        if isinstance(message, str):
            raise OutcomeUnknown(self._slug, message)
        return message

    def _params(self, outgoing: Outgoing, identifier: bytes, pending: _Pending) -> Params:
        params = outgoing.params
        if pending.progress_token is not None:
            meta = decode_params(params["_meta"])
            meta["progressToken"] = msgspec.Raw(b'"' + identifier + b'"')
            params = {**params, "_meta": msgspec.Raw(encode(meta))}
        if self._modern:
            return params if outgoing.modern else translate.stamp(params, outgoing.capabilities)
        return translate.unstamp(params) if outgoing.modern else params

    def _rewrite(self, outgoing: Outgoing) -> translate.Rewrite:
        if outgoing.modern == self._modern:
            return translate.with_id(outgoing.id)
        return (
            translate.to_modern(outgoing.method, outgoing.id) if outgoing.modern else translate.to_legacy(outgoing.id)
        )

    async def _stream(
        self, first: Message, pending: _Pending, identifier: bytes, answer: Answer, rewrite: translate.Rewrite
    ) -> AsyncIterator[bytes]:
        message = first
        try:
            while message.method:
                yield sse.frame(envelope.notification(message.method, decode_params(message.params)))
                message = await self._next(pending)
            answer.judge(message)
            self._pending.pop(identifier, None)
            yield sse.frame(rewrite(message))
        finally:
            self._give_up(identifier)

    def _give_up(self, identifier: bytes) -> None:
        """Forget a request that nobody waits for any more, and tell the server so."""
        if self._pending.pop(identifier, None) is None or self._child is None:
            return
        params = {"requestId": msgspec.Raw(identifier), "reason": "the client gave up"}
        task = asyncio.ensure_future(self._child.write(envelope.notification("notifications/cancelled", params)))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _token(params: Params) -> bytes | None:
    if "_meta" not in params:
        return None
    token = decode_params(params["_meta"]).get("progressToken")
    return None if token is None else bytes(token)
