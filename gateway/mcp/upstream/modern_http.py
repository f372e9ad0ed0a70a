"""Streamable HTTP servers of the modern era: each request stands alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from gateway.mcp import envelope, sse, translate
from gateway.mcp.envelope import Message, decode_message
from gateway.mcp.headers import encode_value
from gateway.mcp.subscription import LISTEN, subscribing
from gateway.mcp.upstream.exchange import HttpExchange, announced, answer_in, discard, is_events, notice_in
from gateway.mcp.upstream.pool import BodyStream, ConnectionFailed
from gateway.mcp.upstream.port import Answer, OutcomeUnknown, Outgoing

if TYPE_CHECKING:
    from gateway.mcp.upstream.pool import Dialer
    from registry.servers.connection import Connection

_VERSION = b"mcp-protocol-version: 2026-07-28\r\nmcp-method: "


class ModernHttpUpstream:
    """One modern server reached over streamable HTTP. Closing an answer's stream is how a call is cancelled."""

    def __init__(self, connection: Connection, egress: Dialer) -> None:
        self._exchange = HttpExchange(connection, egress)
        self.pool = self._exchange.pool

    async def request(self, outgoing: Outgoing) -> Answer:
        params = outgoing.params
        if not outgoing.modern:
            params = translate.stamp(params, outgoing.capabilities, outgoing.log_level)
        head = _VERSION + outgoing.method.encode() + b"\r\n"
        if outgoing.name is not None:
            head += b"mcp-name: " + encode_value(outgoing.name).encode() + b"\r\n"
        body = envelope.request(outgoing.id, outgoing.method, params)
        response = await self._exchange.send("POST", head + outgoing.param_headers, body)
        rewrite = None if outgoing.modern else translate.to_legacy(outgoing.id)
        answer = await self._exchange.answer(response, outgoing.id, rewrite, modern=outgoing.modern)
        if answer is None:
            assert response.stream is not None
            answer = Answer()
            answer.stream = self._events(response.stream, answer, outgoing, rewrite)
        elif rewrite is None and answer.body and b'"resultType"' not in answer.body:
            message = decode_message(answer.body)
            complete = translate.completed(outgoing.method, message)
            answer.body = answer.body if complete is None else complete(message)
        return answer

    async def notify(self, outgoing: Outgoing) -> None:
        """This era has no notifications from clients."""

    def listen(self, resources: frozenset[str], tasks: frozenset[str] = frozenset()) -> AsyncGenerator[Message]:
        return self._announcements(resources, tasks)

    async def close(self) -> None:
        await self._exchange.close()

    async def _announcements(self, resources: frozenset[str], tasks: frozenset[str]) -> AsyncGenerator[Message]:
        body = envelope.request(b'"watch"', LISTEN, subscribing(resources, tasks))
        response = await self._exchange.send("POST", _VERSION + b"subscriptions/listen\r\n", body)
        if not is_events(response):
            await discard(response)
            raise self._exchange.refusal(response)
        assert response.stream is not None
        try:
            yield Message()
            async for message in announced(response.stream):
                yield message
        finally:
            # `announced` closes what it has begun to read only.
            await response.stream.aclose()

    async def _events(
        self, stream: BodyStream, answer: Answer, outgoing: Outgoing, rewrite: translate.Rewrite | None
    ) -> AsyncIterator[bytes]:
        """The events as they come, up to the answer; what a server sends after it is dropped."""
        splitter = sse.Splitter()
        answered = False
        try:
            while not answered:
                out: list[bytes] = []
                for event in splitter.feed(await anext(stream)):
                    message = answer_in(event, outgoing.id)
                    if message is not None:
                        answer.judge(message)
                        answered = True
                        change = rewrite or translate.completed(outgoing.method, message)
                        out.append(event if change is None else sse.frame(change(message)))
                        break
                    if notice_in(event):
                        out.append(event)
                if answered:
                    stream.leave()
                if out:
                    yield b"".join(out)
        except StopAsyncIteration:
            raise OutcomeUnknown(self._exchange.slug, "the stream ended without an answer") from None
        except (ConnectionFailed, sse.EventTooLarge) as error:
            raise OutcomeUnknown(self._exchange.slug, str(error) or "an event was too large") from None
        finally:
            if not answered:
                await stream.aclose()
